"""How gradients fare on their way back, through time and through the layers, over the epochs of a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from asr.pictures.figure import new_figure, series, styled

_PART_IN = 3.2
_LEAST = 1e-12  # what is smaller is not drawn
_MARKS = 12  # on a line


@styled()
def draw_gradients(
    epochs: Sequence[int],
    norms: Mapping[str, np.ndarray],
    first: Mapping[str, np.ndarray],
    last: Mapping[str, np.ndarray],
) -> Figure:
    """Draw them on logarithmic axes.

    Parameters
    ----------
    epochs
        Their numbers.
    norms
        For each layer, ``(epoch,)`` mean norms of its gradient, NaN where there is none.
    first, last
        For each recurrent layer, in the first epoch and in the last: ``(frame,)`` norms of the gradient with respect to the
        input so many frames back, as multiples of that at the last frame. These layers are among those of ``norms``.
    """
    figure = new_figure(_PART_IN * (1 + bool(last)))
    parts = list(figure.subplots(1 + bool(last), 1, squeeze=False)[:, 0])
    numbers = {name: number for number, name in enumerate(norms)}
    if last:
        axes = parts.pop(0)
        for name, shares in last.items():
            if len(epochs) > 1 and name in first:
                _draw_distances(axes, first[name], numbers[name], linestyle="--", alpha=0.6)
            _draw_distances(axes, shares, numbers[name], label=name)
        dashed = f" (dashed: epoch {epochs[0]})" if len(epochs) > 1 else ""
        axes.set(
            title=f"gradient of the last output through time, epoch {epochs[-1]}{dashed}",
            xlabel="distance back (frames)",
            ylabel="norm / norm at the last frame",
            yscale="log",
        )
        axes.set_ylim(bottom=max(_LEAST, axes.get_ylim()[0]))
        _add_legend(axes)
    (axes,) = parts
    for name, values in norms.items():
        axes.plot(epochs, np.where(values > 0, values, np.nan), **series(numbers[name]), label=name)
    axes.set(title="gradient of each layer", xlabel="epoch", ylabel="mean norm before clipping", yscale="log")
    axes.set_xlim(epochs[0] - 0.5, epochs[-1] + 0.5)
    axes.xaxis.get_major_locator().set_params(integer=True)
    _add_legend(axes)
    return figure


def _add_legend(axes: Axes) -> None:
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _draw_distances(axes: Axes, shares: np.ndarray, number: int, **look: object) -> None:
    marks = max(1, len(shares) // _MARKS)
    seen = np.where(shares > _LEAST, shares, np.nan)
    axes.plot(seen, markevery=(number * marks // 4 % marks, marks), **{**series(number), **look})
