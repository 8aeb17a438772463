"""A Gaussian process: what a few tried settings let expect of all others, and which to try next.

Trials are dear and their outcomes noisy, so each one is chosen where the improvement to be expected is greatest (Jones,
Schonlau and Welch, "Efficient global optimization of expensive black-box functions", 1998).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

_LENGTHS = (0.1, 0.15, 0.25, 0.4, 0.6, 1.0, 1.6, 2.5)
_NOISES = (1e-4, 1e-3, 1e-2, 5e-2, 0.2)
_USUAL_LENGTH = 0.6
_SWEEPS = 4


@dataclass(frozen=True, eq=False)
class GaussianProcess:
    """A Gaussian process with a Matérn kernel (smoothness 5/2), a length a dimension, fitted to noisy values.

    Rasmussen and Williams, "Gaussian Processes for Machine Learning" (2006), chapters 2, 4 and 5.

    Attributes
    ----------
    points
        ``(trial, key)`` in [0, 1].
    lengths
        ``(key,)``, over what distance values resemble each other.
    noise
        Variance of a value's noise, as a share of the process' own.
    """

    points: np.ndarray
    lengths: np.ndarray
    noise: float
    _mean: float
    _variance: float
    _factor: np.ndarray
    _weights: np.ndarray

    @classmethod
    def fit(cls, points: np.ndarray, values: np.ndarray) -> GaussianProcess:
        """Find the lengths and the noise under which the values are likeliest.

        Lengths are looked for one at a time, from a few; a mild prior keeps them near half the range where the values say
        little. The process' variance and mean have their likeliest values given those.

        Parameters
        ----------
        points
            ``(trial, key)`` in [0, 1].
        values
            ``(trial,)``, finite.
        """
        choice = [_LENGTHS.index(_USUAL_LENGTH)] * points.shape[1] + [2]
        options = [_LENGTHS] * points.shape[1] + [_NOISES]
        best = -math.inf
        for _ in range(_SWEEPS):
            before = list(choice)
            for place, candidates in enumerate(options):
                for index in range(len(candidates)):
                    trial = [*choice[:place], index, *choice[place + 1 :]]
                    likelihood = cls._with(points, values, trial)._log_posterior(values)
                    if likelihood > best + 1e-9:
                        best, choice = likelihood, trial
            if choice == before:
                break
        return cls._with(points, values, choice)

    @classmethod
    def _with(cls, points: np.ndarray, values: np.ndarray, choice: list[int]) -> GaussianProcess:
        lengths, noise = np.array([_LENGTHS[index] for index in choice[:-1]]), _NOISES[choice[-1]]
        covariance = _matern(points, points, lengths) + noise * np.eye(len(points))
        factor = np.linalg.cholesky(covariance)
        ones = _solve(factor, np.ones(len(points)))
        mean = float(ones @ values / ones.sum())
        weights = _solve(factor, values - mean)
        variance = max(float((values - mean) @ weights) / len(points), 1e-12)
        return cls(points, lengths, noise, mean, variance, factor, weights)

    def _log_posterior(self, values: np.ndarray) -> float:
        fit = -0.5 * len(values) * math.log(self._variance) - float(np.log(np.diag(self._factor)).sum())
        return fit - 0.5 * float(np.square(np.log(self.lengths / _USUAL_LENGTH)).sum())

    def predict(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and standard deviation of the process, without noise, at ``(point, key)``; each ``(point,)``."""
        cross = _matern(points, self.points, self.lengths)
        mean = self._mean + cross @ self._weights
        explained = np.square(np.linalg.solve(self._factor, cross.T)).sum(axis=0)
        return mean, np.sqrt(self._variance * np.maximum(1.0 - explained, 1e-12))

    def expected_improvement(self, points: np.ndarray) -> np.ndarray:
        """Return ``(point,)``, by how much each is expected to fall below the lowest mean of the tried points."""
        lowest = self.predict(self.points)[0].min()
        mean, deviation = self.predict(points)
        z = (lowest - mean) / deviation
        below = 0.5 * (1 + np.array([math.erf(value / math.sqrt(2)) for value in z]))
        density = np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
        improvement: np.ndarray = deviation * (z * below + density)
        return improvement


def _matern(left: np.ndarray, right: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    distance = np.sqrt(5 * np.square((left[:, None] - right[None]) / lengths).sum(axis=2))
    result: np.ndarray = (1 + distance + np.square(distance) / 3) * np.exp(-distance)
    return result


def _solve(factor: np.ndarray, right: np.ndarray) -> np.ndarray:
    result: np.ndarray = np.linalg.solve(factor.T, np.linalg.solve(factor, right))
    return result


def spread(n_points: int, n_keys: int, offset: float = 0.5) -> np.ndarray:
    """Return ``(point, key)`` in [0, 1) that fill the space evenly, the first of them at the offset.

    The additive recurrence of the generalised golden ratio (Roberts, "The unreasonable effectiveness of quasirandom sequences",
    2018).
    """
    ratio = 2.0
    for _ in range(64):
        ratio = (1 + ratio) ** (1 / (n_keys + 1))
    steps = ratio ** -np.arange(1.0, n_keys + 1)
    result: np.ndarray = (offset + np.arange(n_points)[:, None] * steps) % 1.0
    return result
