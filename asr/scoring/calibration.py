"""Whether confidences are what they claim: of the words that are given 0.8, eight in ten should be right."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jiwer
import numpy as np

from asr.bootstrap import SEED
from asr.decoding.hypothesis import Word
from asr.errors import DataError

N_BINS = 15
_REPLICATES = 200
_MARGIN = 1e-6


@dataclass(frozen=True)
class Bin:
    """Words of similar confidence.

    Attributes
    ----------
    low, high
        Their confidences lie between these.
    n_words
        How many there are.
    confidence
        Their mean confidence.
    accuracy
        The share of them that is right.
    """

    low: float
    high: float
    n_words: int
    confidence: float
    accuracy: float

    @property
    def interval(self) -> tuple[float, float]:
        """Bounds of the 95 % confidence interval of the accuracy (Wilson 1927)."""
        z, n, p = 1.96, self.n_words, self.accuracy
        middle = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return max(0.0, middle - half), min(1.0, middle + half)


@dataclass(frozen=True, eq=False)
class CalibrationReport:
    """Confidences of recognised words, beside what became of the words.

    Attributes
    ----------
    confidences
        ``(word,)`` in [0, 1].
    correct
        ``(word,)``, whether each word is right. A word that was said and not recognised has no confidence, and is not here.
    """

    confidences: np.ndarray
    correct: np.ndarray

    @property
    def n_words(self) -> int:
        """Number of recognised words."""
        return len(self.confidences)

    @property
    def n_correct(self) -> int:
        """Number of them that are right."""
        return int(self.correct.sum())

    def bins(self, *, equal_mass: bool = False) -> list[Bin]:
        """Divide the words into 15 bins by their confidence, equally wide or equally full ones; empty ones are left out."""
        order = np.argsort(self.confidences, kind="stable")
        if equal_mass:
            groups = np.array_split(order, N_BINS)
            edges = [self.confidences[[group[0], group[-1]]] for group in groups if len(group)]
        else:
            numbers = _bin_numbers(self.confidences)
            groups = [np.flatnonzero(numbers == number) for number in range(N_BINS)]
            edges = [np.array([k, k + 1]) / N_BINS for k, group in enumerate(groups) if len(group)]
        full = [group for group in groups if len(group)]
        return [
            Bin(float(low), float(high), len(group), float(self.confidences[group].mean()), float(self.correct[group].mean()))
            for (low, high), group in zip(edges, full, strict=True)
        ]

    def error(self, *, equal_mass: bool = False) -> float:
        """Return the expected calibration error: how far a bin's accuracy is from its confidence, averaged over the words.

        Naeini, Cooper and Hauskrecht 2015 (equally wide bins); Nixon et al. 2019 (equally full bins, "adaptive").
        """
        return sum(one.n_words * abs(one.accuracy - one.confidence) for one in self.bins(equal_mass=equal_mass)) / self.n_words

    @cached_property
    def chance_error(self) -> float:
        """What :meth:`error` would be on average if each confidence were true, which is above 0 for want of words."""
        generator = np.random.default_rng(SEED)
        numbers = _bin_numbers(self.confidences)
        total = 0.0
        for _ in range(_REPLICATES):
            drawn = generator.random(self.n_words) < self.confidences
            total += np.abs(np.bincount(numbers, drawn - self.confidences)).sum() / self.n_words
        return total / _REPLICATES

    @property
    def auc(self) -> float:
        """Probability that a right word has a higher confidence than a wrong one, ties counted half; NaN without both."""
        n_wrong = self.n_words - self.n_correct
        if not self.n_correct or not n_wrong:
            return math.nan
        _, inverse, counts = np.unique(self.confidences, return_inverse=True, return_counts=True)
        ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
        return float((ranks[self.correct].sum() - self.n_correct * (self.n_correct + 1) / 2) / (self.n_correct * n_wrong))

    @property
    def normalised_cross_entropy(self) -> float:
        """Information that the confidences give, as a share of what it would take to know which words are right.

        1 is all, 0 is no more than the overall accuracy tells, and misleading confidences go below; NaN where all words are
        right or all are wrong. Siu, Gish and Richardson, "Improved estimation, evaluation and applications of confidence
        measures for speech recognition" (1997), as used by NIST. Confidences within 1e-6 of 0 and 1 count as that far away.
        """
        accuracy = self.n_correct / self.n_words
        if accuracy in (0.0, 1.0):
            return math.nan
        n_wrong = self.n_words - self.n_correct
        unknown = -self.n_correct * math.log2(accuracy) - n_wrong * math.log2(1 - accuracy)
        clipped = np.clip(self.confidences, _MARGIN, 1 - _MARGIN)
        left = -np.log2(np.where(self.correct, clipped, 1 - clipped)).sum()
        return float((unknown - left) / unknown)

    def summary(self) -> str:
        """Return the report as one line."""
        if not self.n_words:
            return "confidences: no words were recognised"
        return (
            f"confidences: ECE {100 * self.error():.2f} % (chance {100 * self.chance_error:.2f} %; equally full bins "
            f"{100 * self.error(equal_mass=True):.2f} %)  AUC {self.auc:.3f}  NCE {self.normalised_cross_entropy:.3f}  "
            f"words={self.n_words} right={self.n_correct} mean={self.confidences.mean():.3f}"
        )

    def to_mapping(self) -> dict[str, Any]:
        """Return what a report file holds; an undefined number is ``None``."""
        if not self.n_words:
            return {"words": 0, "right": 0, "bins": []}
        values = {
            "ece": self.error(),
            "ece_equal_mass": self.error(equal_mass=True),
            "ece_chance": self.chance_error,
            "auc": self.auc,
            "nce": self.normalised_cross_entropy,
        }
        return {
            "words": self.n_words,
            "right": self.n_correct,
            **{name: round(value, 6) if math.isfinite(value) else None for name, value in values.items()},
            "bins": [
                {"low": one.low, "high": one.high, "words": one.n_words, "confidence": one.confidence, "accuracy": one.accuracy}
                for one in self.bins()
            ],
        }


def _bin_numbers(confidences: np.ndarray) -> np.ndarray:
    numbers: np.ndarray = np.minimum((confidences * N_BINS).astype(np.int64), N_BINS - 1)
    return numbers


def words_correct(reference: str, hypothesis: str) -> list[bool]:
    """Return whether each word of a hypothesis is right: equal to the word of the reference that it is aligned with.

    Examples
    --------
    >>> words_correct("the cat sat", "a cat sat down")
    [False, True, True, False]
    """
    correct = [False] * len(hypothesis.split())
    for _, position in right_words(reference, hypothesis):
        correct[position] = True
    return correct


def right_words(reference: str, hypothesis: str) -> list[tuple[int, int]]:
    """Return the positions, in the reference and in the hypothesis, of the words that are right."""
    said, found = reference.split(), hypothesis.split()
    if not said or not found:
        return []
    (chunks,) = jiwer.process_words([" ".join(said)], [" ".join(found)]).alignments
    return [
        pair
        for chunk in chunks
        if chunk.type == "equal"
        for pair in zip(
            range(chunk.ref_start_idx, chunk.ref_end_idx), range(chunk.hyp_start_idx, chunk.hyp_end_idx), strict=True
        )
    ]


def calibration_report(references: Mapping[str, str], words: Mapping[str, Sequence[Word]]) -> CalibrationReport:
    """Compare the confidences of recognised words with the references, paired by utterance id.

    Parameters
    ----------
    references
        Texts by utterance id, as a perfect hypothesis would have them.
    words
        Recognised words by utterance id, of the same utterances.

    Raises
    ------
    DataError
        Where the ids differ.
    """
    if references.keys() != words.keys():
        odd = sorted(references.keys() ^ words.keys())
        raise DataError(f"references and recognised words are not of the same utterances: {', '.join(odd[:5])}")
    confidences: list[float] = []
    correct: list[bool] = []
    for utterance, reference in references.items():
        confidences += [word.confidence for word in words[utterance]]
        correct += words_correct(reference, " ".join(word.text for word in words[utterance]))
    return CalibrationReport(np.array(confidences, dtype=np.float64), np.array(correct, dtype=bool))
