"""The picture of a search: the surface over the two keys that matter most, and the error rate along each other one."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from asr.tuning.keys import BEAM, Key
from asr.tuning.surface import Surface
from asr.tuning.trial import Trial
from asr.tuning.tuner import Tuning

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

_DPI = 200
_WIDTH_IN, _PLANE_IN, _LINES_IN = 6.6, 4.4, 2.3
_IN_A_ROW = 3
_STEPS = 81
# Percentage points above the best at which there are contours; beyond the last one all has one colour.
_CONTOURS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
_LEAST_LABELLED = 2.0
# An axis of error rates shows at least as many percentage points, lest it make much of little.
_LEAST_SPAN = 2.0
# Trials whose other keys are within this share of their ranges from the best ones lie on the line through the best.
_NEAR = 0.051
_BLUE, _ORANGE, _GREY = "#0072b2", "#d55e00", "#767676"  # told apart by the colour-blind as well (Okabe and Ito 2008)
_POINT: dict[str, Any] = {"marker": "o", "color": "white", "linestyle": "none", "clip_on": False}
_BEST: dict[str, Any] = {"marker": "*", "color": _ORANGE, "linestyle": "none", "markeredgecolor": "white", "zorder": 5}


def draw(tuning: Tuning, title: str) -> bytes:
    """Return the picture as PNG, the same bytes for the same trials.

    Parameters
    ----------
    tuning
        What a search found.
    title
        What it was made on.
    """
    from matplotlib.figure import Figure

    view = _View.of(tuning)
    plane = view.space[:2] if len(view.space) > 1 else ()
    lines = [key for key in tuning.keys if key not in plane]
    n_rows = math.ceil(len(lines) / _IN_A_ROW)
    heights = [_PLANE_IN] * bool(plane) + [_LINES_IN] * n_rows
    figure = Figure(figsize=(_WIDTH_IN, sum(heights) + 0.4), dpi=_DPI, layout="constrained")
    figure.suptitle(title, fontsize=10)
    parts = list(figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0])
    if plane:
        _draw_plane(parts.pop(0), view)
    n_columns = math.ceil(len(lines) / max(1, n_rows))
    for row, part in enumerate(parts):
        chosen = lines[row * n_columns : (row + 1) * n_columns]
        all_axes = part.subplots(1, n_columns, squeeze=False)[0]
        for axes, key in zip(all_axes, chosen, strict=False):
            _draw_beams(axes, key, view) if key.name == BEAM else _draw_line(axes, key, view)
        all_axes[0].set_ylabel("WER (%)")
        all_axes[0].legend(fontsize=7, loc="upper center", edgecolor="none")
        for axes in all_axes[len(chosen) :]:
            axes.remove()
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


@dataclass(frozen=True)
class _View:
    """Trials as they are drawn, with the surface on the level of the best one's beam."""

    tuning: Tuning
    space: tuple[Key, ...]
    surface: Surface

    @classmethod
    def of(cls, tuning: Tuning) -> _View:
        space = tuple(key for key in tuning.keys if key.name != BEAM)
        return cls(tuning, space, Surface.fit(tuning.trials, space, tuning.best.whole, tuning.best.settings.get(BEAM)))

    @property
    def best(self) -> Trial:
        return self.tuning.best

    def near(self, keys: tuple[Key, ...]) -> list[Trial]:
        """Return the trials with the best one's beam whose values of the given keys are near the best one's."""
        best = self.best
        return [
            trial
            for trial in self.tuning.trials
            if trial.whole == best.whole
            and trial.settings.get(BEAM) == best.settings.get(BEAM)
            and all(abs(key.share(trial.settings[key.name]) - key.share(best.settings[key.name])) < _NEAR for key in keys)
        ]

    def beams(self) -> list[Trial]:
        """Return the trials that differ in their beam alone, by their beam."""
        groups: dict[tuple[float, ...], list[Trial]] = {}
        for trial in self.tuning.trials:
            if trial.whole == self.best.whole:
                groups.setdefault(tuple(trial.settings[key.name] for key in self.space), []).append(trial)
        largest: list[Trial] = max(groups.values(), key=len)
        return sorted(largest, key=lambda trial: trial.settings[BEAM])

    def wer(self, deviations: float = 0.0, **shares: np.ndarray) -> np.ndarray:
        """Return the expected error rate (%) at ``(point,)`` shares of some keys' ranges, the others as in the best trial."""
        columns = [shares.get(key.name, key.share(self.best.settings[key.name])) for key in self.space]
        rates: np.ndarray = 100 * self.surface.wer(np.stack(np.broadcast_arrays(*columns), axis=1), deviations)
        return rates


def _draw_plane(part: SubFigure, view: _View) -> None:
    """Draw the surface over the first two keys, and where the trials lie."""
    x, y = view.space[:2]
    across, up = np.meshgrid(np.linspace(0, 1, _STEPS), np.linspace(0, 1, _STEPS))
    wer = view.wer(0.0, **{x.name: across.ravel(), y.name: up.ravel()}).reshape(_STEPS, _STEPS)
    xs, ys = x.low + across * (x.high - x.low), y.low + up * (y.high - y.low)
    axes = part.subplots()
    lowest = float(wer.min())
    levels = [lowest, *(lowest + step for step in _CONTOURS)]
    filled = axes.contourf(xs, ys, wer, levels=levels, cmap="viridis", norm=_bands(levels), extend="max")
    crossed = [level for level in levels[1:] if level < wer.max()]
    if crossed:
        lines = axes.contour(xs, ys, wer, levels=crossed, colors="white", linewidths=0.6)
        axes.clabel(lines, [level for level in crossed if level >= lowest + _LEAST_LABELLED], fmt="%.1f", fontsize=7)
    for whole, style in ((False, {"markersize": 3.5, "markeredgecolor": _GREY}), (True, {"markeredgecolor": "black"})):
        trials = [trial for trial in view.tuning.trials if trial.whole == whole]
        if trials:
            label = f"{len(trials)} trials on {trials[0].n_utterances} utterances"
            axes.plot(*_values(trials, x, y), **{**_POINT, "markersize": 5, **style}, label=label)
    axes.plot(*_values([view.best], x, y), **_BEST, markersize=15, clip_on=False, label="best")
    axes.set(xlabel=x.label, ylabel=y.label, xlim=(x.low, x.high), ylim=(y.low, y.high))
    axes.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, 1.09), ncols=3, frameon=False)
    part.colorbar(filled, ax=axes, ticks=levels, format="%.1f", label="expected WER (%)")


def _bands(levels: list[float]) -> Any:
    from matplotlib.colors import BoundaryNorm

    return BoundaryNorm(levels, 256, extend="max")


def _values(trials: list[Trial], *keys: Key) -> list[list[float]]:
    return [[trial.settings[key.name] for trial in trials] for key in keys]


def _draw_line(axes: Axes, key: Key, view: _View) -> None:
    """Draw the error rate along a key, the others as in the best trial or near it."""
    shares = np.linspace(0, 1, _STEPS)
    xs = key.low + shares * (key.high - key.low)
    low, middle, high = (view.wer(deviations, **{key.name: shares}) for deviations in (-1, 0, 1))
    axes.fill_between(xs, low, high, color=_GREY, alpha=0.25, linewidth=0)
    axes.plot(xs, middle, color=_GREY, linewidth=1, label="expected, ± 1 SD")
    near = view.near(tuple(one for one in view.space if one != key))
    (values,) = _values(near, key)
    axes.plot(values, [100 * trial.wer for trial in near], "o", markersize=4, color=_BLUE, label="trials near the best")
    best = 100 * view.best.wer
    axes.plot(view.best.settings[key.name], best, **_BEST, markersize=12)
    bottom = min(float(low.min()), best)
    top = max(min(float(high.max()), best + _CONTOURS[-2]), bottom + _LEAST_SPAN)
    axes.set(xlabel=key.label, xlim=(key.low, key.high), ylim=(bottom - 0.5, top + 0.5))
    axes.grid(alpha=0.3)


def _draw_beams(axes: Axes, key: Key, view: _View) -> None:
    """Draw the error rate over the beam."""
    best, trials = view.best, view.beams()
    (values,) = _values(trials, key)
    rates = [100 * trial.wer for trial in trials]
    axes.plot(values, rates, "o-", markersize=4, color=_BLUE, label="all else equal")
    axes.plot(best.settings[BEAM], 100 * best.wer, **_BEST, markersize=12)
    axes.set_xscale("log", base=2)
    axes.set_xticks(values, [f"{value:g}" for value in values])
    axes.minorticks_off()
    spare = max(0.0, _LEAST_SPAN - (max(rates) - min(rates))) / 2
    axes.set(xlabel=key.label, ylim=(min(rates) - spare - 0.1, max(rates) + spare + 0.1))
    axes.grid(alpha=0.3)
