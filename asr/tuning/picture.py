"""The picture of a search: the surface over the two keys that matter most, and the error rate along each other one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from asr.pictures.error_surface import Axis, Curve, Doublings, Plane, draw_error_surface
from asr.pictures.figure import encode
from asr.tuning.keys import BEAM, Key
from asr.tuning.surface import Surface
from asr.tuning.trial import Trial
from asr.tuning.tuner import Tuning

_STEPS = 81
# Trials whose other keys are within this share of their ranges from the best ones lie on the line through the best.
_NEAR = 0.051


def draw(tuning: Tuning, title: str) -> bytes:
    """Return the picture as PNG, the same bytes for the same trials.

    Parameters
    ----------
    tuning
        What a search found.
    title
        What it was made on.
    """
    view = _View.of(tuning)
    across = view.space[:2] if len(view.space) > 1 else ()
    plane = view.plane(*across) if across else None
    lines = [view.beams(key) if key.name == BEAM else view.curve(key) for key in tuning.keys if key not in across]
    return encode(draw_error_surface(plane, lines, title), ".png")


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

    def plane(self, x: Key, y: Key) -> Plane:
        """Return the surface over two keys, and where the trials lie."""
        across, up = np.meshgrid(np.linspace(0, 1, _STEPS), np.linspace(0, 1, _STEPS))
        part, whole = ([trial for trial in self.tuning.trials if trial.whole == kind] for kind in (False, True))
        return Plane(
            x=_axis(x),
            y=_axis(y),
            wer=self.wer(0.0, **{x.name: across.ravel(), y.name: up.ravel()}).reshape(_STEPS, _STEPS),
            part=_table((trial.settings[x.name], trial.settings[y.name]) for trial in part),
            whole=_table((trial.settings[x.name], trial.settings[y.name]) for trial in whole),
            part_label=_label(part),
            whole_label=_label(whole),
            best=(self.best.settings[x.name], self.best.settings[y.name]),
        )

    def curve(self, key: Key) -> Curve:
        """Return the error rate along a key, the others as in the best trial or near it."""
        low, expected, high = (self.wer(deviations, **{key.name: np.linspace(0, 1, _STEPS)}) for deviations in (-1, 0, 1))
        near = self.near(tuple(one for one in self.space if one != key))
        return Curve(_axis(key), low, expected, high, _rates(near, key), _rate(self.best, key))

    def beams(self, key: Key) -> Doublings:
        """Return the error rate over the beam, of trials that differ in nothing else."""
        groups: dict[tuple[float, ...], list[Trial]] = {}
        for trial in self.tuning.trials:
            if trial.whole == self.best.whole:
                groups.setdefault(tuple(trial.settings[one.name] for one in self.space), []).append(trial)
        largest: list[Trial] = max(groups.values(), key=len)
        return Doublings(key.label, _rates(sorted(largest, key=lambda trial: trial.settings[BEAM]), key), _rate(self.best, key))

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

    def wer(self, deviations: float = 0.0, **shares: np.ndarray) -> np.ndarray:
        """Return the expected error rate (%) at ``(point,)`` shares of some keys' ranges, the others as in the best trial."""
        columns = [shares.get(key.name, key.share(self.best.settings[key.name])) for key in self.space]
        rates: np.ndarray = 100 * self.surface.wer(np.stack(np.broadcast_arrays(*columns), axis=1), deviations)
        return rates


def _axis(key: Key) -> Axis:
    return Axis(key.label, key.low, key.high)


def _label(trials: Sequence[Trial]) -> str:
    return f"{len(trials)} trials on {trials[0].n_utterances} utterances" if trials else ""


def _rate(trial: Trial, key: Key) -> tuple[float, float]:
    """Return a trial's value of a key and its error rate (%)."""
    return trial.settings[key.name], 100 * trial.wer


def _rates(trials: Sequence[Trial], key: Key) -> np.ndarray:
    return _table(_rate(trial, key) for trial in trials)


def _table(pairs: Iterable[tuple[float, float]]) -> np.ndarray:
    return np.array(list(pairs), dtype=np.float64).reshape(-1, 2)
