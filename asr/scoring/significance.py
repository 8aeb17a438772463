"""Whether two systems differ on the same utterances, or chance would do."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from asr.scoring.pairs import Pair

MIN_SEGMENTS = 50
"""With fewer, the sum of their differences is no normal variable yet (Gillick and Cox, 1989)."""

_BUFFER = 2


@dataclass(frozen=True)
class Mapsswe:
    """The matched-pair sentence-segment word error test.

    Attributes
    ----------
    n_segments
        Segments of text that hold all errors of both systems.
    mean, deviation
        Of the second system's errors in a segment less the first's.
    p
        Probability of a mean as far from 0, or farther, where the systems make errors alike often; NaN with fewer than
        :data:`MIN_SEGMENTS` segments.
    """

    n_segments: int
    mean: float
    deviation: float
    p: float


def mapsswe(first: Sequence[Sequence[Pair]], second: Sequence[Sequence[Pair]]) -> Mapsswe:
    """Test whether two systems make errors alike often.

    The text is cut where two words in a row are right in both outputs: what lies between such places is a segment, whose errors
    do not depend on another segment's (Gillick and Cox, "Some statistical issues in the comparison of speech recognition
    algorithms", ICASSP 1989; NIST's ``sc_stats`` cuts alike). The differences of the numbers of errors are taken for draws of
    one distribution, their mean for normal.

    Parameters
    ----------
    first, second
        Aligned words of each utterance, as from :func:`asr.scoring.pairs.align_words`, against the same references.

    Raises
    ------
    ValueError
        The references of an utterance are not the same words.
    """
    differences = np.array([two - one for pair in zip(first, second, strict=True) for one, two in segments(*pair)], dtype=float)
    n = len(differences)
    if n < 2:
        return Mapsswe(n, float(differences.mean()) if n else 0.0, math.nan, math.nan)
    mean, deviation = float(differences.mean()), float(differences.std(ddof=1))
    if n < MIN_SEGMENTS:
        return Mapsswe(n, mean, deviation, math.nan)
    if deviation == 0:
        return Mapsswe(n, mean, deviation, 1.0 if mean == 0 else 0.0)
    return Mapsswe(n, mean, deviation, math.erfc(abs(mean) / deviation * math.sqrt(n / 2)))


def segments(first: Sequence[Pair], second: Sequence[Pair]) -> Iterator[tuple[int, int]]:
    """Yield both systems' errors in each segment of an utterance in which there are any."""
    errors = [_errors_by_place(pairs) for pairs in (first, second)]
    if len(errors[0]) != len(errors[1]) or _words(first) != _words(second):
        raise ValueError("the two systems were not compared with the same words")
    counts, n_right = [0, 0], 0
    for place, here in enumerate(zip(*errors, strict=True)):
        if any(here):
            counts, n_right = [counts[0] + here[0], counts[1] + here[1]], 0
            continue
        n_right += place % 2  # odd places are words, even ones what lies between them
        if n_right == _BUFFER and any(counts):
            yield counts[0], counts[1]
            counts = [0, 0]
    if any(counts):
        yield counts[0], counts[1]


def _words(pairs: Sequence[Pair]) -> list[str]:
    return [left for left, _ in pairs if left is not None]


def _errors_by_place(pairs: Sequence[Pair]) -> list[int]:
    """Return errors before the first word, in it, between it and the second, and so on."""
    errors = [0]
    for left, right in pairs:
        if left is None:
            errors[-1] += 1
        else:
            errors += [int(left != right), 0]
    return errors


def holm(p_values: Sequence[float]) -> list[float]:
    """Return probabilities that hold for all comparisons together (Holm, Scandinavian Journal of Statistics, 1979).

    NaN, which is no comparison, stays NaN.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted((p, index) for index, p in enumerate(p_values) if not math.isnan(p))
    adjusted = [math.nan] * len(p_values)
    largest = 0.0
    for rank, (p, index) in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p))
        adjusted[index] = largest
    return adjusted
