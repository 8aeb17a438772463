"""What all trials together say of the word error rate between them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from asr.tuning.keys import BEAM, Key, Point
from asr.tuning.surrogate import GaussianProcess
from asr.tuning.trial import Trial

_Kind = tuple[bool, float | None]

# Beyond this the error rate is that of nonsense, whatever it is.
_WORST = 0.9


@dataclass(frozen=True, eq=False)
class Surface:
    """Word error rates as a Gaussian process sees them.

    The process is fitted to ``v / (1 + v)``, where ``v`` is the natural logarithm of a trial's errors by those of the best one:
    near the best this is the share of errors by which a trial is worse, and what is far from it is squeezed together. Trials on
    a part of the utterances, or with another beam, are put on the level of the others by the settings that were tried on both.

    Attributes
    ----------
    keys
        The dimensions.
    process
        The process, over shares of the keys' ranges.
    log_lowest
        Natural logarithm of the best trial's error rate.
    """

    keys: tuple[Key, ...]
    process: GaussianProcess
    log_lowest: float

    @classmethod
    def fit(cls, trials: Sequence[Trial], keys: Sequence[Key], whole: bool, beam: float | None) -> Surface:
        """Fit a surface to one trial or more.

        Parameters
        ----------
        trials
            What was tried.
        keys
            The dimensions, the beam not among them.
        whole, beam
            On whose level the surface is: trials on all utterances, and those with this beam.
        """
        logs = np.array([math.log((trial.words.errors + 0.5) / max(1, trial.words.reference)) for trial in trials])
        logs += _shifts(trials, logs, (whole, beam))
        lowest = float(logs.min())
        worse = logs - lowest
        points = np.array([[key.share(trial.settings[key.name]) for key in keys] for trial in trials])
        process = GaussianProcess.fit(points.reshape(len(trials), len(keys)), worse / (1 + worse))
        return cls(tuple(keys), process, lowest)

    def wer(self, shares: np.ndarray, deviations: float = 0.0) -> np.ndarray:
        """Return the word error rate, as a fraction, at ``(point, key)`` shares of the ranges.

        Parameters
        ----------
        shares
            Places in [0, 1].
        deviations
            How many standard deviations above (or below) what is expected.
        """
        mean, deviation = self.process.predict(shares)
        squeezed = np.minimum(mean + deviations * deviation, _WORST)
        rates: np.ndarray = np.exp(self.log_lowest + squeezed / (1 - squeezed))
        return rates


def _shifts(trials: Sequence[Trial], logs: np.ndarray, level: _Kind) -> np.ndarray:
    """Return ``(trial,)``, what is to be added to the logarithms of each, so that all are on one level."""
    groups: dict[_Kind, dict[Point, float]] = {}
    for trial, value in zip(trials, logs.tolist(), strict=True):
        point = tuple(number for name, number in trial.settings.items() if name != BEAM)
        groups.setdefault((trial.whole, trial.settings.get(BEAM)), {})[point] = value
    here = groups.get(level, {})
    shifts = {}
    for kind, group in groups.items():
        both = sorted(group.keys() & here.keys())
        shifts[kind] = float(np.mean([here[point] - group[point] for point in both])) if both else 0.0
    return np.array([shifts[trial.whole, trial.settings.get(BEAM)] for trial in trials])
