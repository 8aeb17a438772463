"""Confidence intervals of error rates, by resampling utterances or speakers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from asr.bootstrap import REPLICATES, SEED

MIN_SPEAKERS = 10
"""With fewer, how much speakers differ cannot be told from them, and utterances are drawn."""

_LEVEL = 0.95
_ALL_SIGNS, _FLIPS = 14, 10_000
_NORMAL = NormalDist()
# Elements of one block of resampled units: bounds memory at some 16 MiB.
_BLOCK = 2_000_000


@dataclass(frozen=True)
class Interval:
    """A 95 % confidence interval.

    Attributes
    ----------
    low, high
        Its bounds; NaN where there is nothing to resample.
    unit
        What was drawn with replacement: ``utterance`` or ``speaker``.
    n_units
        How many of them there are.
    """

    low: float
    high: float
    unit: str = "utterance"
    n_units: int = 0

    def phrase(self) -> str:
        """Return the bounds in per cent, and what was drawn where it is no utterances."""
        if not math.isfinite(self.low):
            return "[undefined]"
        over = f" over {self.n_units} speakers" if self.unit == "speaker" else ""
        return f"[{100 * self.low:.2f}, {100 * self.high:.2f}]{over}"

    def to_mapping(self) -> dict[str, Any]:
        """Return what a summary file holds; an undefined number is ``None``."""
        low, high = (value if math.isfinite(value) else None for value in (self.low, self.high))
        return {"low": low, "high": high, "over": f"{self.unit}s"}


@dataclass(frozen=True)
class ResamplingUnits:
    """What is resampled: utterances, or all of a speaker's together.

    Attributes
    ----------
    name
        ``utterance`` or ``speaker``.
    index
        ``(utterance,)``: the unit of each, from 0.
    n
        How many units there are.
    n_speakers
        How many speakers are known; 0 where an utterance's is not.
    """

    name: str
    index: np.ndarray
    n: int
    n_speakers: int

    def sums(self, counts: np.ndarray) -> np.ndarray:
        """Return ``(unit,)`` sums of ``(utterance,)`` counts."""
        return counts if self.name == "utterance" else np.bincount(self.index, counts, self.n)

    @property
    def caution(self) -> str | None:
        """What is to be said of intervals over utterances although there are speakers."""
        if self.name == "speaker" or not self.n_speakers:
            return None
        speakers = "1 speaker" if self.n_speakers == 1 else f"{self.n_speakers} speakers"
        few = f"fewer than {MIN_SPEAKERS}"
        return f"intervals are of utterances drawn from these {speakers}, {few}: for other speakers they are wider"


def choose_units(n_utterances: int, speakers: Sequence[str | None] | None = None) -> ResamplingUnits:
    """Choose speakers where all are known and there are at least :data:`MIN_SPEAKERS`, utterances otherwise.

    Utterances of one speaker are alike, so that an interval over utterances is too narrow for what other speakers would bring
    (Bisani and Ney, "Bootstrap estimates for confidence intervals in ASR performance evaluation", ICASSP 2004; Liu and Peng,
    "Statistical testing on ASR performance via blockwise bootstrap", Interspeech 2020).
    """
    each = np.arange(n_utterances)
    if not speakers or None in speakers:
        return ResamplingUnits("utterance", each, n_utterances, 0)
    places = {name: place for place, name in enumerate(dict.fromkeys(speakers))}
    if len(places) < MIN_SPEAKERS:
        return ResamplingUnits("utterance", each, n_utterances, len(places))
    return ResamplingUnits("speaker", np.array([places[name] for name in speakers]), len(places), len(places))


def bootstrap_interval(errors: np.ndarray, references: np.ndarray, units: ResamplingUnits | None = None) -> Interval:
    """Return the 95 % interval of ``sum(errors) / sum(references)``.

    The bias-corrected and accelerated bootstrap (Efron, "Better bootstrap confidence intervals", JASA 1987), with percentiles
    widened by Student's t and the n - 1 of a variance, without which few units give too narrow an interval (Hesterberg, "What
    teachers should know about the bootstrap", The American Statistician 2015, section 5.3).

    Parameters
    ----------
    errors, references
        ``(utterance,)`` counts.
    units
        What is drawn with replacement; utterances by default.
    """
    units = units or choose_units(len(errors))
    total_errors, total_references = units.sums(errors), units.sums(references)
    rates = np.concatenate([_rates(total_errors, total_references, drawn) for drawn in _draws(units.n)])
    left_out = _rates_without_one(total_errors, total_references)
    rate = total_errors.sum() / total_references.sum() if total_references.any() else math.nan
    if rate == 0:  # nothing varies: the exact bound of so many words without an error (Clopper and Pearson, 1934)
        return Interval(0.0, 1 - ((1 - _LEVEL) / 2) ** (1 / float(total_references.sum())), units.name, units.n)
    return Interval(*percentiles(rate, rates[np.isfinite(rates)], left_out), units.name, units.n)


def bootstrap_difference(
    first: np.ndarray, second: np.ndarray, references: np.ndarray, units: ResamplingUnits | None = None
) -> Interval:
    """Return the 95 % interval of the second system's error rate less the first's, by the paired bootstrap.

    Parameters
    ----------
    first, second
        ``(utterance,)`` errors of the two systems.
    references
        ``(utterance,)`` reference words.
    units
        What is drawn with replacement; utterances by default.

    """
    units = units or choose_units(len(first))
    differences, total_references = units.sums(second - first), units.sums(references)
    drawn = np.concatenate([_rates(differences, total_references, rows) for rows in _draws(units.n)])
    drawn = drawn[np.isfinite(drawn)]
    if not drawn.size:
        return Interval(math.nan, math.nan, units.name, units.n)
    difference = differences.sum() / total_references.sum()
    bounds = percentiles(difference, drawn, _rates_without_one(differences, total_references))
    return Interval(*bounds, units.name, units.n)


def sign_flip_test(differences: np.ndarray) -> float:
    """Return the probability of a sum of differences as far from 0, or farther, if each could as well have the other sign.

    A randomisation test, right for any number of differences (Fisher, "The design of experiments", 1935, section 21; for few of
    them, all signs are tried). Of one difference nothing can be said: the probability is 1.

    Parameters
    ----------
    differences
        ``(unit,)``: the second system's errors less the first's.
    """
    counted = differences[differences != 0].astype(np.int64)
    n, size = len(counted), abs(int(counted.sum()))
    if n <= _ALL_SIGNS:
        signs = 1 - 2 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)
        return float((abs(signs @ counted) >= size).mean())
    generator = np.random.default_rng(SEED)
    rows = max(1, min(_FLIPS, _BLOCK // n))
    n_far, n_flips = 1, 1  # the signs that were found
    while n_flips < _FLIPS:
        signs = generator.integers(0, 2, (rows, n), np.int8) * np.int64(2) - 1
        n_far, n_flips = n_far + int((abs(signs @ counted) >= size).sum()), n_flips + rows
    return n_far / n_flips


def percentiles(value: float, replicates: np.ndarray, left_out: np.ndarray) -> tuple[float, float]:
    """Return the bounds of a 95 % interval.

    Parameters
    ----------
    value
        The statistic of all units.
    replicates
        ``(replicate,)`` of it.
    left_out
        ``(unit,)`` of it, with one unit left out of each: how skewed it is.
    """
    if not replicates.size or not math.isfinite(value):
        return math.nan, math.nan
    n_units = len(left_out)
    if n_units < 2:
        return math.nan, math.nan
    below = ((replicates < value).mean() + (replicates <= value).mean()) / 2
    if not 0 < below < 1:
        return float(replicates.min()), float(replicates.max())
    deviations = left_out.mean() - left_out
    spread = (deviations**2).sum() ** 1.5
    acceleration = float((deviations**3).sum() / (6 * spread)) if spread > 0 else 0.0
    bias = _NORMAL.inv_cdf(float(below))
    width = _student((1 + _LEVEL) / 2, n_units - 1) * math.sqrt(n_units / (n_units - 1))
    shares = []
    for z in (bias - width, bias + width):
        factor = 1 - acceleration * z
        shares.append(_NORMAL.cdf(bias + z / factor) if factor > 0 else float(z > 0))
    low, high = np.quantile(replicates, shares)
    return float(low), float(high)


def _student(share: float, degrees: int) -> float:
    """Return a quantile of Student's t distribution."""
    from scipy.special import stdtrit  # imported late: evaluation alone needs it

    return float(stdtrit(degrees, share))


def _draws(n_units: int) -> Iterator[np.ndarray]:
    """Yield blocks of ``(replicate, unit)`` indices, from a fixed seed."""
    generator = np.random.default_rng(SEED)
    rows = max(1, min(REPLICATES, _BLOCK // n_units))
    for start in range(0, REPLICATES, rows):
        yield generator.integers(0, n_units, size=(min(rows, REPLICATES - start), n_units), dtype=np.int32)


def _rates(errors: np.ndarray, references: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Return the rate of each draw; NaN where it holds no reference."""
    totals = references[drawn].sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(totals > 0, errors[drawn].sum(axis=1) / totals, math.nan)


def _rates_without_one(errors: np.ndarray, references: np.ndarray) -> np.ndarray:
    totals = references.sum() - references
    with np.errstate(invalid="ignore", divide="ignore"):
        rates = (errors.sum() - errors) / totals
    return rates[totals > 0]
