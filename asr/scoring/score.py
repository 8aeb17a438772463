"""Error rates of words, characters and sentences over a corpus, paired by utterance id, with confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from asr.errors import DataError
from asr.scoring.counts import Counts, count_characters, count_words
from asr.scoring.intervals import Interval, ResamplingUnits, bootstrap_interval, choose_units

_NAMED = 5


@dataclass(frozen=True)
class ErrorRate:
    """An error rate with its counts.

    Attributes
    ----------
    counts
        Sums over all utterances.
    interval
        Its 95 % confidence interval, in fractions; NaN where the references are empty.
    """

    counts: Counts
    interval: Interval

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
        return f"{name} {100 * self.rate:.2f} %  95 % CI {self.interval.phrase()}  {counts}"

    def to_mapping(self) -> dict[str, Any]:
        """Return what a summary file holds; an undefined number is ``None``."""
        rate = self.rate if math.isfinite(self.rate) else None
        return {"rate": rate, **self.interval.to_mapping(), **self.counts.to_mapping()}


@dataclass(frozen=True)
class SentenceErrorRate:
    """The share of utterances with at least one word error.

    Attributes
    ----------
    n_wrong, n_utterances
        How many have one, and of how many.
    interval
        Its 95 % confidence interval, in fractions.
    """

    n_wrong: int
    n_utterances: int
    interval: Interval

    @property
    def rate(self) -> float:
        """As a fraction."""
        return self.n_wrong / self.n_utterances

    def line(self) -> str:
        """Return it as one line, in per cent."""
        return f"SER {100 * self.rate:.2f} %  95 % CI {self.interval.phrase()}  {self.n_wrong} of {self.n_utterances}"

    def to_mapping(self) -> dict[str, Any]:
        """Return what a summary file holds."""
        return {"rate": self.rate, **self.interval.to_mapping(), "wrong": self.n_wrong, "N": self.n_utterances}


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
    wer, cer, ser
        Error rates of words, characters and sentences.
    utterances
        The utterances, in the order of the references.
    caution
        What is to be known of the intervals.
    """

    wer: ErrorRate
    cer: ErrorRate
    ser: SentenceErrorRate
    utterances: tuple[UtteranceScore, ...]
    caution: str | None = None

    def summary(self) -> str:
        """Return the error rates of words, characters and sentences, a line each."""
        lines = [self.wer.line("WER"), self.cer.line("CER"), self.ser.line()]
        return "\n".join([*lines, self.caution] if self.caution else lines)

    def markdown(self) -> str:
        """Return the cells of a row of a results table, without the outer bars: WER, CER and SER."""
        words = " ".join(f"{letter}={value}" for letter, value in self.wer.counts.to_mapping().items())
        rates = [f"{100 * one.rate:.2f} % {one.interval.phrase()}" for one in (self.wer, self.cer, self.ser)]
        return " | ".join([f"{rates[0]}, {words}", *rates[1:]])


def score(
    references: Mapping[str, str],
    hypotheses: Mapping[str, str],
    *,
    normalise: Callable[[str], str] | None = None,
    speakers: Mapping[str, str] | None = None,
) -> Score:
    """Compare hypotheses with references, paired by utterance id.

    Parameters
    ----------
    references, hypotheses
        Texts by utterance id; the same ids in both, in any order. Empty texts count like others: an empty reference makes
        every word of its hypothesis an insertion.
    normalise
        Applied to both sides before they are compared.
    speakers
        By utterance id. Where all are known and there are ten or more, confidence intervals are over speakers, not utterances.

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
    units = choose_units(len(ids), [speakers.get(utterance) for utterance in ids] if speakers else None)
    return Score(
        error_rate(words, units),
        error_rate(characters, units),
        _sentence_error_rate(words, units),
        tuple(UtteranceScore(*row) for row in rows),
        units.caution,
    )


def score_best(
    references: Mapping[str, str],
    hypotheses: Mapping[str, str],
    readings: Mapping[str, Sequence[str]],
    *,
    normalise: Callable[[str], str] | None = None,
    speakers: Mapping[str, str] | None = None,
) -> Score | None:
    """Score, of several readings of an utterance, the one that has the fewest word errors: what perfect ranking would reach.

    Parameters
    ----------
    references, hypotheses, normalise, speakers
        As for :func:`score`.
    readings
        By utterance id, the hypothesis among them; where there are none, the hypothesis stands alone.

    Returns
    -------
    Score or None
        None where no utterance has several readings.
    """
    if all(len(readings.get(key, ())) < 2 for key in hypotheses):
        return None
    apply = normalise if normalise is not None else str
    pairs = [(key, text) for key in references for text in (*readings.get(key, ()), hypotheses[key])]
    errors = count_words([apply(references[key]) for key, _ in pairs], [apply(text) for _, text in pairs])
    best: dict[str, tuple[int, str]] = {}
    for (key, text), counts in zip(pairs, errors, strict=True):
        if key not in best or counts.errors < best[key][0]:
            best[key] = (counts.errors, text)
    return score(references, {key: text for key, (_, text) in best.items()}, normalise=normalise, speakers=speakers)


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


def error_rate(counts: Sequence[Counts], units: ResamplingUnits) -> ErrorRate:
    """Return the error rate of utterances, given the counts of each and what is resampled."""
    errors, references = (np.array([getattr(one, name) for one in counts], np.int64) for name in ("errors", "reference"))
    return ErrorRate(sum(counts, Counts()), bootstrap_interval(errors, references, units))


def _sentence_error_rate(counts: Sequence[Counts], units: ResamplingUnits) -> SentenceErrorRate:
    wrong = np.array([one.errors > 0 for one in counts], np.int64)
    return SentenceErrorRate(int(wrong.sum()), len(wrong), bootstrap_interval(wrong, np.ones_like(wrong), units))
