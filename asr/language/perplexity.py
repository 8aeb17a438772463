"""Perplexity of a text under a language model, and of one model against another."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from asr.bootstrap import REPLICATES, SEED
from asr.language.model import LanguageModel, SentenceScore

_BLOCK = 1000  # sentences


@dataclass(frozen=True)
class Perplexity:
    """How well a model foretells a text.

    Attributes
    ----------
    sentences
        Score of each.
    unit
        What the model predicts: ``word``, ``character`` or ``subword``.
    """

    sentences: tuple[SentenceScore, ...]
    unit: str

    @property
    def n_words(self) -> int:
        """Words of the text, without the ends of its sentences."""
        return sum(score.n_words for score in self.sentences)

    @property
    def n_predicted(self) -> int:
        """Words and ends of sentences."""
        return self.n_words + len(self.sentences)

    @property
    def n_unknown(self) -> int:
        """Units that the model does not know."""
        return sum(score.n_unknown for score in self.sentences)

    @property
    def log_prob(self) -> float:
        """Natural logarithm of the text's probability."""
        return math.fsum(score.log_prob for score in self.sentences)

    @property
    def unknown_log_prob(self) -> float:
        """The unknown units' part of :attr:`log_prob`."""
        return math.fsum(score.unknown_log_prob for score in self.sentences)

    @property
    def perplexity(self) -> float:
        """Perplexity a word, each sentence's end counting as one; an unknown word as the class of all of them."""
        return _exp(-self.log_prob / self.n_predicted)

    @property
    def known_perplexity(self) -> float:
        """The same over known words only (for a model of words); those after an unknown word count."""
        n_known = self.n_predicted - self.n_unknown
        return _exp(-(self.log_prob - self.unknown_log_prob) / n_known) if n_known else math.nan

    @property
    def oov_rate(self) -> float:
        """Unknown words as a share of all, for a model of words; otherwise unknown units as a share of all units."""
        n_units = sum(score.n_tokens - 1 for score in self.sentences)
        return self.n_unknown / n_units if n_units else 0.0

    @property
    def bits(self) -> float:
        """Bits a word, each sentence's end counting as one."""
        return -self.log_prob / math.log(2) / self.n_predicted

    def facts(self) -> dict[str, str]:
        """Return its figures with their names, for readers."""
        of_words = self.unit == "word"
        classed = ", unknown words as one class" if of_words and self.n_unknown else ""
        facts = {"perplexity a word": f"{self.perplexity:.2f} ({self.bits:.3f} bits), ends of sentences included{classed}"}
        if classed:
            facts["of known words"] = f"{self.known_perplexity:.2f}"
        noun = "words" if of_words else f"{self.unit}s"
        facts["out of vocabulary"] = f"{self.n_unknown:,} {noun} ({100 * self.oov_rate:.2f} %)"
        facts["text"] = f"{self.n_words:,} words in {len(self.sentences):,} sentences"
        return facts

    def summary(self) -> str:
        """Return :meth:`facts` as lines."""
        return as_lines(self.facts())

    def to_mapping(self) -> dict[str, Any]:
        """Return its figures as plain values."""
        return {
            "perplexity": round(self.perplexity, 3),
            "known_perplexity": round(self.known_perplexity, 3),
            "bits": round(self.bits, 5),
            "oov_rate": round(self.oov_rate, 6),
            "words": self.n_words,
            "sentences": len(self.sentences),
        }


def measure(
    model: LanguageModel, sentences: Sequence[Sequence[str]], on_progress: Callable[[int], None] = lambda n: None
) -> Perplexity:
    """Score a text.

    Parameters
    ----------
    model
        The language model.
    sentences
        Each as normalised words.
    on_progress
        Called now and then with the number of sentences that were scored since.
    """
    scores: list[SentenceScore] = []
    for start in range(0, len(sentences), _BLOCK):
        block = sentences[start : start + _BLOCK]
        scores += model.score(block)
        on_progress(len(block))
    return Perplexity(tuple(scores), model.unit)


@dataclass(frozen=True)
class Comparison:
    """The second model against the first.

    Attributes
    ----------
    bits
        Difference in bits a word; negative where the second model is better.
    low, high
        Its 95 % confidence interval.
    """

    bits: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """Which is better, if either clearly is."""
        if self.low <= 0 <= self.high:
            return "no clear difference"
        return "the second model is better" if self.bits < 0 else "the first model is better"

    def summary(self) -> str:
        """Return it in a line."""
        factor, low, high = (2**value for value in (self.bits, self.low, self.high))
        return (
            f"second against first: {self.bits:+.4f} bits a word, 95 % CI [{self.low:+.4f}, {self.high:+.4f}]; perplexity "
            f"times {factor:.4f} [{low:.4f}, {high:.4f}]"
        )


def compare(first: Perplexity, second: Perplexity) -> Comparison:
    """Compare two models on the same sentences, by a paired bootstrap over sentences (Efron and Tibshirani 1993).

    Sentences are taken as independent, which those of one book are not quite: the true interval is somewhat wider.
    """
    saved = np.array([a.log_prob - b.log_prob for a, b in zip(first.sentences, second.sentences, strict=True)]) / math.log(2)
    n_predicted = np.array([score.n_words + 1 for score in first.sentences])
    generator = np.random.default_rng(SEED)
    drawn = []
    for _ in range(REPLICATES):
        rows = generator.integers(0, len(saved), size=len(saved))
        drawn.append(saved[rows].sum() / n_predicted[rows].sum())
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Comparison(float(saved.sum() / n_predicted.sum()), float(low), float(high))


def why_incomparable(first: LanguageModel, second: LanguageModel) -> str | None:
    """Say why perplexities of two models cannot be compared, or None where they can."""
    if first.unit == second.unit and set(first.words) == set(second.words):
        return None
    if first.unit != second.unit:
        return (
            f"one predicts {first.unit}s, the other {second.unit}s: what the one has to call unknown, the other may spell, so "
            "compare them only on text without unknown words"
        )
    only = len(set(first.words) - set(second.words)), len(set(second.words) - set(first.words))
    return (
        f"their vocabularies differ ({only[0]:,} and {only[1]:,} {first.unit}s of their own): the larger has more to choose "
        "from and fewer unknown words, so the difference is not that of the models alone"
    )


def as_lines(facts: Mapping[str, str]) -> str:
    """Return a line for each fact, its name first, the values below each other."""
    width = max(map(len, facts))
    return "\n".join(f"{name:{width}}  {value}" for name, value in facts.items())


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf
