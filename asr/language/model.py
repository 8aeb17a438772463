"""What every language model offers: scores of sentences, likeliest next words, and text drawn from it."""

from __future__ import annotations

import heapq
import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

from asr.language.units import SENTENCE_END, UNKNOWN, Units
from asr.text import Normaliser
from asr.text.tokenizer import BOUNDARY

# Of the search for words that consist of several units: beginnings that are followed up, and units tried after each.
_MAX_EXPANSIONS = 5000
_BRANCHES = 200
# Cost, order of insertion, units, the state before the last of them, whether the word is complete.
_Beginning: TypeAlias = tuple[float, int, tuple[int, ...], Any, bool]


@dataclass(frozen=True)
class SentenceScore:
    """How likely a sentence is.

    Attributes
    ----------
    log_prob
        Natural logarithm of its probability, its end included. A unit outside the vocabulary counts with the probability of
        the class of all such units.
    n_words
        Words in it.
    n_tokens
        Units that were predicted: those of its words, and its end.
    n_unknown
        Units among them that the model does not know.
    unknown_log_prob
        Their part of ``log_prob``.
    """

    log_prob: float
    n_words: int
    n_tokens: int
    n_unknown: int
    unknown_log_prob: float


class LanguageModel(ABC):
    """Probabilities of sentences, unit by unit.

    Indices of units are those of :attr:`words`; two more follow, :attr:`end` and :attr:`unknown`.

    Parameters
    ----------
    units
        How words are cut into units.
    words
        The units that it knows, most frequent first.
    form
        Brings text into the form that it was trained on; None where that is not known.

    Attributes
    ----------
    end
        Index of the sentence's end.
    unknown
        Index of the class of all units that are not in :attr:`words`.
    """

    def __init__(self, units: Units, words: Sequence[str], form: Normaliser | None) -> None:
        self.units = units
        self.words = words
        self.form = form
        self.end = len(words)
        self.unknown = len(words) + 1

    @property
    def unit(self) -> str:
        """``word``, ``character`` or ``subword``."""
        return self.units.name

    @property
    @abstractmethod
    def signature(self) -> str:
        """Kind, size and hash, which tell it from every other model."""

    @property
    @abstractmethod
    def description(self) -> str:
        """Kind and size in words."""

    @cached_property
    def _indices(self) -> dict[str, int]:
        return {word: index for index, word in enumerate(self.words)}

    def __len__(self) -> int:
        """Return the number of units with a probability: the words, the sentence's end and the unknown unit."""
        return len(self.words) + 2

    def index(self, word: str) -> int:
        """Return the index of a unit; :attr:`unknown` for one that it does not know."""
        return self._indices.get(word, self.unknown)

    def name(self, index: int) -> str:
        """Return the unit of an index."""
        return (*self.words, SENTENCE_END, UNKNOWN)[index] if index >= self.end else self.words[index]

    def normalise(self, text: str) -> list[str]:
        """Return the words of a text in the form that the model was trained on."""
        return (self.form.normalise(text) if self.form else text).split()

    def unknown_words(self, words: Sequence[str]) -> list[str]:
        """Return those of some normalised words that it does not know, or not all units of."""
        return [word for word in words if self.unknown in map(self.index, self.units.split([word]))]

    @abstractmethod
    def score(self, sentences: Sequence[Sequence[str]]) -> list[SentenceScore]:
        """Score sentences, each a sequence of normalised words; several at once where that is faster."""

    @abstractmethod
    def _begin(self) -> Any:
        """Return the state before a sentence's first unit."""

    @abstractmethod
    def _extend(self, state: Any, index: int) -> Any:
        """Return the state after one more unit."""

    @abstractmethod
    def _log_probs(self, state: Any) -> np.ndarray:
        """Return ``(unit,)`` natural logarithms of the probabilities of what comes next; they sum to 1."""

    def _after(self, units: Sequence[str]) -> Any:
        state = self._begin()
        for unit in units:
            state = self._extend(state, self.index(unit))
        return state

    def next_log_probs(self, history: Sequence[str]) -> np.ndarray:
        """Return ``(unit,)`` natural logarithms of the probabilities of what follows the words of a sentence's beginning.

        Those of :attr:`words` come first, then :attr:`end` and :attr:`unknown`.
        """
        return self._log_probs(self._after(self.units.split(history)))

    def next_words(self, history: Sequence[str], n: int) -> list[tuple[str, float]]:
        """Return the likeliest next words after the words of a sentence's beginning.

        Parameters
        ----------
        history
            Normalised words.
        n
            How many to return.

        Returns
        -------
        list of (str, float)
            Words with their probabilities, likeliest first. Where a word consists of several units, what is given is that
            the history's last word is complete.
        """
        if self.unit == "word":
            probs = np.exp(self.next_log_probs(history)[: self.end])
            order = np.argsort(-probs, kind="stable")[:n]
            return [(self.words[index], float(probs[index])) for index in order]
        return self._likeliest_words(history, n)

    @cached_property
    def _starts(self) -> np.ndarray:
        """``(unit,)`` booleans: a unit before which a word is complete."""
        return np.array([*map(self.units.starts_word, self.words), True, False])

    def _likeliest_words(self, history: Sequence[str], n: int) -> list[tuple[str, float]]:
        """Find words of several units: a best-first search.

        The heap holds beginnings of words, and whole words, whose probability includes that nothing is added to them. No
        continuation is likelier than what it continues, so the words come out in order.
        """
        state, total = self._after_complete(history)
        heap: list[_Beginning] = []
        order = itertools.count()
        self._push(heap, order, total, (), state, ~self._starts if self.unit == "character" else self._starts)
        found: list[tuple[str, float]] = []
        for _ in range(_MAX_EXPANSIONS):
            if not heap or len(found) == n:
                break
            cost, _, units, parent, complete = heapq.heappop(heap)
            if complete:
                found.append(("".join(self.units.join([self.words[index] for index in units])), math.exp(-cost)))
                continue
            state = self._extend(parent, units[-1])
            finished = -cost + _log_sum(self._log_probs(state)[self._starts])
            if self.units.join([self.words[index] for index in units]):
                heapq.heappush(heap, (-finished, next(order), units, None, True))
            self._push(heap, order, -cost, units, state, ~self._starts)
        return found

    def _after_complete(self, history: Sequence[str]) -> tuple[Any, float]:
        """Return the state in which a new word begins, and the log-probability of that, given that the last is complete."""
        state = self._after(self.units.split(history))
        if not history:
            return state, 0.0
        log_probs = self._log_probs(state)
        total = -_log_sum(log_probs[self._starts])
        if self.unit == "character":
            boundary = self.index(BOUNDARY)
            return self._extend(state, boundary), total + float(log_probs[boundary])
        return state, total

    def _push(
        self,
        heap: list[_Beginning],
        order: Iterator[int],
        total: float,
        units: tuple[int, ...],
        state: Any,
        allowed: np.ndarray,
    ) -> None:
        """Add the likelier continuations of a beginning; their states are made when they come out of the heap."""
        log_probs = np.where(allowed, self._log_probs(state), -np.inf)[: self.end]
        for index in np.argsort(-log_probs)[:_BRANCHES]:
            if math.isfinite(log_probs[index]):
                heapq.heappush(heap, (-(total + float(log_probs[index])), next(order), (*units, int(index)), state, False))

    def sample(
        self, n: int, *, seed: int = 1, temperature: float = 1.0, max_words: int = 100, history: Sequence[str] = ()
    ) -> list[str]:
        """Draw sentences.

        Parameters
        ----------
        n
            How many.
        seed
            The same seed draws the same sentences.
        temperature
            Logarithms of probabilities are divided by this: below 1 the likeliest words gain, above 1 the others.
        max_words
            A sentence is cut off after so many units.
        history
            Words that each begins with.

        Returns
        -------
        list of str
            Unknown words are never drawn.
        """
        generator = np.random.default_rng(seed)
        return [" ".join(self._draw(generator, temperature, max_words, history)) for _ in range(n)]

    def _draw(self, generator: np.random.Generator, temperature: float, max_units: int, history: Sequence[str]) -> list[str]:
        units = self.units.split(history)
        state = self._after(units)
        for _ in range(max_units):
            log_probs = self._log_probs(state)[: self.unknown]
            probs = np.exp((log_probs - log_probs.max()) / temperature)
            index = int(generator.choice(len(probs), p=probs / probs.sum()))
            if index == self.end:
                break
            units.append(self.words[index])
            state = self._extend(state, index)
        return self.units.join(units)


def _log_sum(values: np.ndarray) -> float:
    top = float(values.max())
    return top + math.log(float(np.exp(values - top).sum())) if math.isfinite(top) else -math.inf
