"""The training loss of a large vocabulary: cross-entropy over a sample of the units.

A softmax over 60,000 words costs many times what the LSTM below it does. Sampled softmax (Bengio and Senecal 2003; Jean et al.
2015) estimates its denominator from some thousand units and keeps tied embeddings and the full softmax for use; adaptive
softmax (Grave et al. 2017) would need smaller output embeddings for rarer words, which cannot be tied to the input's.
"""

from __future__ import annotations

import torch
from torch.nn import functional

_POWER = 0.75  # of the units' frequencies (Mikolov et al. 2013)


def inclusion_probabilities(counts: torch.Tensor, n: int) -> torch.Tensor:
    """Return with what probability each unit is drawn, so that ``n`` are on average.

    Parameters
    ----------
    counts
        ``(unit,)`` occurrences in the training text; a unit without any counts as one.
    n
        Less than the number of units.

    Returns
    -------
    torch.Tensor
        ``(unit,)`` float64, ``min(1, c * counts ** 0.75)``: frequent units are always drawn.
    """
    weights = counts.double().clamp(min=1) ** _POWER
    low, high = 0.0, float(len(weights) / weights.min())
    for _ in range(100):
        middle = (low + high) / 2
        if float((weights * middle).clamp(max=1).sum()) < n:
            low = middle
        else:
            high = middle
    return (weights * high).clamp(max=1)


class Sampler:
    """Draws the units of each step.

    Parameters
    ----------
    counts
        ``(unit,)`` occurrences in the training text.
    n
        Units drawn for each step, on average; less than there are.
    """

    def __init__(self, counts: torch.Tensor, n: int) -> None:
        self.inclusion = inclusion_probabilities(counts, n)

    def draw(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Return indices of units and the logarithms of the probabilities with which they are drawn, ``(drawn,)`` each."""
        self.inclusion = self.inclusion.to(device)
        drawn = (torch.rand(len(self.inclusion), device=device, dtype=torch.float64) < self.inclusion).nonzero()[:, 0]
        return drawn, self.inclusion[drawn].log().float()


def sampled_cross_entropy(
    hidden: torch.Tensor,
    targets: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    drawn: torch.Tensor,
    log_inclusion: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mean cross-entropy, its denominator estimated, and the logarithm of that denominator at each position.

    A drawn unit counts with the reciprocal of its probability of being drawn, so the estimate is unbiased (Horvitz and Thompson
    1952). The target itself is always in it.

    Parameters
    ----------
    hidden
        ``(position, value)``.
    targets
        ``(position,)`` indices of rows of ``weight``.
    weight, bias
        ``(row, value)`` and ``(row,)``: the output weights of some units.
    drawn, log_inclusion
        ``(drawn,)`` indices of rows of ``weight``, each once, and the logarithms of their probabilities.
    """
    logits = functional.linear(hidden, weight[drawn], bias[drawn]).float() - log_inclusion
    of_target = (hidden.float() * weight[targets].float()).sum(1) + bias[targets]
    # A target that was drawn as well counts once.
    column = torch.full((len(weight),), -1, device=drawn.device)
    column[drawn] = torch.arange(len(drawn), device=drawn.device)
    position = (column[targets] >= 0).nonzero()[:, 0]
    logits = logits.index_put((position, column[targets[position]]), logits.new_tensor(-torch.inf))
    log_sums = torch.logaddexp(of_target, logits.logsumexp(1))
    return (log_sums - of_target).mean(), log_sums
