"""WER and CER over a corpus, paired by utterance id, with bootstrap confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from asr.errors import DataError
from asr.scoring.counts import Counts, count_characters, count_words

_REPLICATES = 2000
_SEED = 20240501
# Elements of one block of resampled utterances: bounds memory at some 16 MiB.
_BLOCK = 2_000_000
_NAMED = 5


@dataclass(frozen=True)
class ErrorRate:
    """An error rate with its counts.

    Attributes
    ----------
    counts
        Sums over all utterances.
    low, high
        Bounds of the 95 % confidence interval, as fractions; NaN where the references are empty.
    """

    counts: Counts
    low: float
    high: float

    @property
    def rate(self) -> float:
        """Errors by reference units, as a fraction; with empty references 0 without errors and infinity with them."""
        if self.counts.reference == 0:
            return math.inf if self.counts.errors else 0.0
        return self.counts.errors / self.counts.reference

    def is_above(self, per_cent: float) -> bool:
        """Say whether the rate is above so many per cent; 7 errors in 100 words are not above 7."""
        errors, reference = self.counts.errors, self.counts.reference
        return 100 * errors / reference > per_cent if reference else errors > 0

    def phrase(self, name: str) -> str:
        """Return the rate in per cent with what it was counted from, as part of a sentence."""
        return f"{name} {100 * self.rate:.2f} % ({self.counts.errors:,} errors in {self.counts.reference:,})"

    def line(self, name: str) -> str:
        """Return the rate as one line, in per cent, with interval and counts."""
        counts = " ".join(f"{letter}={value}" for letter, value in self.counts.to_mapping().items())
        interval = f"[{100 * self.low:.2f}, {100 * self.high:.2f}]" if math.isfinite(self.low) else "[undefined]"
        return f"{name} {100 * self.rate:.2f} %  95 % CI {interval}  {counts}"

    def to_mapping(self) -> dict[str, Any]:
        """Return what a summary file holds; an undefined number is ``None``."""
        values = {"rate": self.rate, "low": self.low, "high": self.high}
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        return {**finite, **self.counts.to_mapping()}


@dataclass(frozen=True)
class UtteranceScore:
    """One utterance's texts, as they were compared, and its counts."""

    id: str
    reference: str
    hypothesis: str
    words: Counts
    characters: Counts

    def to_mapping(self) -> dict[str, Any]:
        """Return one line of a hypotheses file."""
        return {
            "id": self.id,
            "reference": self.reference,
            "hypothesis": self.hypothesis,
            "words": self.words.to_mapping(),
            "characters": self.characters.to_mapping(),
        }


@dataclass(frozen=True)
class Score:
    """Error rates of a corpus.

    Attributes
    ----------
    wer, cer
        Word and character error rate.
    utterances
        The utterances, in the order of the references.
    """

    wer: ErrorRate
    cer: ErrorRate
    utterances: tuple[UtteranceScore, ...]

    def summary(self) -> str:
        """Return WER and CER as two lines."""
        return self.wer.line("WER") + "\n" + self.cer.line("CER")


def score(
    references: Mapping[str, str], hypotheses: Mapping[str, str], *, normalise: Callable[[str], str] | None = None
) -> Score:
    """Compare hypotheses with references, paired by utterance id.

    Parameters
    ----------
    references, hypotheses
        Texts by utterance id; the same ids in both, in any order. Empty texts count like others: an empty reference makes
        every word of its hypothesis an insertion.
    normalise
        Applied to both sides before they are compared.

    Raises
    ------
    DataError
        Where there are no utterances, or an id is on one side only.

    Examples
    --------
    >>> score({"1": "I"}, {"1": "A"}).wer.rate
    1.0
    """
    _check_ids(references, hypotheses)
    apply = normalise if normalise is not None else str
    ids = list(references)
    reference_texts = [apply(references[utterance]) for utterance in ids]
    hypothesis_texts = [apply(hypotheses[utterance]) for utterance in ids]
    words = count_words(reference_texts, hypothesis_texts)
    characters = count_characters(reference_texts, hypothesis_texts)
    rows = zip(ids, reference_texts, hypothesis_texts, words, characters, strict=True)
    return Score(_error_rate(words), _error_rate(characters), tuple(UtteranceScore(*row) for row in rows))


def _check_ids(references: Mapping[str, str], hypotheses: Mapping[str, str]) -> None:
    if not references:
        raise DataError("nothing to score: there are no references")
    missing = [utterance for utterance in references if utterance not in hypotheses]
    extra = [utterance for utterance in hypotheses if utterance not in references]
    parts = [
        f"{len(ids)} {side}: {', '.join(ids[:_NAMED])}{', ...' if len(ids) > _NAMED else ''}"
        for ids, side in ((missing, "without a hypothesis"), (extra, "without a reference"))
        if ids
    ]
    if parts:
        raise DataError(f"references and hypotheses are not of the same utterances; {'; '.join(parts)}")


def _error_rate(counts: list[Counts]) -> ErrorRate:
    errors = np.array([count.errors for count in counts], dtype=np.int64)
    references = np.array([count.reference for count in counts], dtype=np.int64)
    low, high = bootstrap_interval(errors, references)
    return ErrorRate(sum(counts, Counts()), low, high)


def bootstrap_interval(errors: np.ndarray, references: np.ndarray) -> tuple[float, float]:
    """Return the 95 % interval of ``sum(errors) / sum(references)`` over utterances drawn with replacement.

    Parameters
    ----------
    errors, references
        ``(utterance,)`` counts. Utterances are taken as independent, which those of one speaker are not quite: the true
        interval is somewhat wider (Bisani and Ney, "Bootstrap estimates for confidence intervals in ASR", 2004).

    Returns
    -------
    tuple of float
        The 2.5 and 97.5 percentiles of the rate in 2000 replicates from a fixed seed; NaN where all references are empty.
    """
    n_utterances = len(errors)
    generator = np.random.default_rng(_SEED)
    rows = max(1, min(_REPLICATES, _BLOCK // n_utterances))
    rates = []
    for start in range(0, _REPLICATES, rows):
        drawn = generator.integers(0, n_utterances, size=(min(rows, _REPLICATES - start), n_utterances), dtype=np.int32)
        totals = references[drawn].sum(axis=1)
        rates.append(errors[drawn].sum(axis=1)[totals > 0] / totals[totals > 0])
    values = np.concatenate(rates)
    if values.size == 0:
        return math.nan, math.nan
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
