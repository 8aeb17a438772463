"""The moving average of a network's weights over the newest steps of its training."""

from __future__ import annotations

import torch
from torch import nn


def average_decay(step: int, horizon: float) -> float:
    """Return what is kept of the average at a step.

    It is ``1 - 1 / horizon``, but less at first, so that the average never reaches back over more than about a ninth of the
    steps that were made; at step 0 it is 0.

    Parameters
    ----------
    step
        Steps averaged before.
    horizon
        Steps over which to average in the end.

    Examples
    --------
    >>> [round(average_decay(step, 100.0), 3) for step in (0, 9, 91, 10000)]
    [0.0, 0.5, 0.91, 0.99]
    """
    return min(step / (step + 9), max(0.0, 1 - 1 / horizon))


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move an average towards the newest weights (Polyak and Juditsky 1992, with exponential weights).

    Batch normalisation's statistics are averaged as well, so they fit the weights, and counts are copied.

    Parameters
    ----------
    average
        The average so far, of the same structure as ``model``; changed in place.
    model
        The newest weights.
    decay
        What is kept of the average, 0 to 1.
    """
    newest = model.state_dict()
    for name, tensor in average.state_dict().items():
        if tensor.is_floating_point():
            tensor.lerp_(newest[name], 1 - decay)
        else:
            tensor.copy_(newest[name])
