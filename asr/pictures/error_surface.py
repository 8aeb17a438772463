"""An error rate over settings: the surface over two of them, and the rate along each other one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure, SubFigure
from matplotlib.patheffects import withStroke

from asr.pictures.figure import colour_map, new_figure, styled
from asr.pictures.style import BLUE, GROUND, INK, ORANGE, SEQUENTIAL, SMALL_FONT_SIZE, SOFT

_PLANE_IN, _LINES_IN, _TITLE_IN = 4.4, 2.3, 0.4
_IN_A_ROW = 3
# Percentage points above the best at which there are contours; beyond the last one all has one colour.
_CONTOURS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
_LEAST_LABELLED = 2.0
# An axis of error rates shows at least as many percentage points, lest it make much of little.
_LEAST_SPAN = 2.0
_POINT: dict[str, Any] = {"marker": "o", "color": GROUND, "linestyle": "none", "clip_on": False}
_BEST: dict[str, Any] = {"marker": "*", "color": ORANGE, "linestyle": "none", "markeredgecolor": GROUND, "zorder": 5}


@dataclass(frozen=True)
class Axis:
    """A setting.

    Attributes
    ----------
    label
        Its name and unit.
    low, high
        The bounds of what is shown.
    """

    label: str
    low: float
    high: float

    def steps(self, number: int) -> np.ndarray:
        """Return ``(number,)`` values at even steps from bound to bound."""
        return np.linspace(self.low, self.high, number)


@dataclass(frozen=True, eq=False)
class Plane:
    """The surface over two settings.

    Attributes
    ----------
    x, y
        The settings.
    wer
        ``(y, x)`` expected error rates (%) at even steps from bound to bound.
    part, whole
        ``(trial, 2)`` where trials on some of the utterances lie, and those on all.
    part_label, whole_label
        What they are called.
    best
        Where the best one lies.
    """

    x: Axis
    y: Axis
    wer: np.ndarray
    part: np.ndarray
    whole: np.ndarray
    part_label: str
    whole_label: str
    best: tuple[float, float]


@dataclass(frozen=True, eq=False)
class Curve:
    """The error rate along one setting, the others as in the best trial.

    Attributes
    ----------
    x
        The setting.
    low, expected, high
        ``(x,)`` error rates (%) at even steps from bound to bound: the expected one, and a standard deviation on each side.
    trials
        ``(trial, 2)`` values and error rates (%) of trials whose other settings are near the best ones.
    best
        Value and error rate (%) of the best trial.
    """

    x: Axis
    low: np.ndarray
    expected: np.ndarray
    high: np.ndarray
    trials: np.ndarray
    best: tuple[float, float]


@dataclass(frozen=True, eq=False)
class Doublings:
    """The error rate over a setting that was doubled again and again.

    Attributes
    ----------
    label
        Name and unit of the setting.
    trials
        ``(trial, 2)`` values and error rates (%) of trials that differ in nothing else.
    best
        Value and error rate (%) of the best trial.
    """

    label: str
    trials: np.ndarray
    best: tuple[float, float]


@styled()
def draw_error_surface(plane: Plane | None, lines: Sequence[Curve | Doublings], title: str) -> Figure:
    """Draw a surface, where there is one, and below it the lines, three in a row at most."""
    n_rows = math.ceil(len(lines) / _IN_A_ROW)
    heights = [_PLANE_IN] * (plane is not None) + [_LINES_IN] * n_rows
    figure = new_figure(sum(heights) + _TITLE_IN)
    figure.suptitle(title)
    parts = list(figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0])
    if plane is not None:
        _draw_plane(parts.pop(0), plane)
    n_columns = math.ceil(len(lines) / max(1, n_rows))
    for row, part in enumerate(parts):
        _draw_row(part, lines[row * n_columns : (row + 1) * n_columns], n_columns)
    return figure


def _draw_plane(part: SubFigure, plane: Plane) -> None:
    axes = part.subplots()
    xs, ys = (axis.steps(size) for axis, size in ((plane.x, plane.wer.shape[1]), (plane.y, plane.wer.shape[0])))
    lowest = float(plane.wer.min())
    levels = [lowest, *(lowest + step for step in _CONTOURS)]
    bands = BoundaryNorm(levels, 256, extend="max")
    filled = axes.contourf(xs, ys, plane.wer, levels=levels, cmap=colour_map(SEQUENTIAL), norm=bands, extend="max")
    crossed = [level for level in levels[1:] if level < plane.wer.max()]
    if crossed:
        contours = axes.contour(xs, ys, plane.wer, levels=crossed, colors=GROUND, linewidths=0.6)
        labelled = [level for level in crossed if level >= lowest + _LEAST_LABELLED]
        for label in axes.clabel(contours, labelled, fmt="%.1f", fontsize=SMALL_FONT_SIZE):
            label.set_path_effects([withStroke(linewidth=1.5, foreground=INK)])  # legible on light bands as well
    if len(plane.part):
        axes.plot(*plane.part.T, **_POINT, markersize=3.5, markeredgecolor=SOFT, label=plane.part_label)
    if len(plane.whole):
        axes.plot(*plane.whole.T, **_POINT, markersize=5, markeredgecolor=INK, label=plane.whole_label)
    axes.plot(*plane.best, **_BEST, markersize=15, clip_on=False, label="best")
    axes.set(xlabel=plane.x.label, ylabel=plane.y.label, xlim=(plane.x.low, plane.x.high), ylim=(plane.y.low, plane.y.high))
    axes.grid(False)
    part.legend(loc="outside upper center", ncols=3)
    part.colorbar(filled, ax=axes, ticks=levels, format="%.1f", label="expected WER (%)")


def _draw_row(part: SubFigure, lines: Sequence[Curve | Doublings], n_columns: int) -> None:
    all_axes = part.subplots(1, n_columns, squeeze=False)[0]
    for axes, line in zip(all_axes, lines, strict=False):
        if isinstance(line, Curve):
            _draw_curve(axes, line)
        else:
            _draw_doublings(axes, line)
        axes.plot(*line.best, **_BEST, markersize=12, label="best")
    all_axes[0].set_ylabel("WER (%)")
    for axes in all_axes[len(lines) :]:
        axes.remove()
    looks = {label: look for axes in part.axes for look, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    part.legend(looks.values(), looks.keys(), loc="outside upper center", ncols=len(looks))


def _draw_curve(axes: Axes, curve: Curve) -> None:
    xs = curve.x.steps(len(curve.expected))
    axes.fill_between(xs, curve.low, curve.high, color=SOFT, alpha=0.25, linewidth=0)
    axes.plot(xs, curve.expected, color=SOFT, linewidth=1, label="expected, ± 1 SD")
    axes.plot(*curve.trials.T, "o", color=BLUE, label="trials near the best")
    _, best = curve.best
    bottom = min(float(curve.low.min()), best)
    top = max(min(float(curve.high.max()), best + _CONTOURS[-2]), bottom + _LEAST_SPAN)
    axes.set(xlabel=curve.x.label, xlim=(curve.x.low, curve.x.high), ylim=(bottom - 0.5, top + 0.5))


def _draw_doublings(axes: Axes, line: Doublings) -> None:
    values, rates = line.trials.T
    axes.plot(values, rates, "o-", color=BLUE, label="all else equal")
    axes.set_xscale("log", base=2)
    axes.set_xticks(values, [f"{value:g}" for value in values])
    axes.minorticks_off()
    spare = max(0.0, _LEAST_SPAN - (rates.max() - rates.min())) / 2
    axes.set(xlabel=line.label, ylim=(rates.min() - spare - 0.1, rates.max() + spare + 0.1))
