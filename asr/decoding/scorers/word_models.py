"""Language models over words in one search: which histories there are, and what each model says to the next word."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from operator import add
from typing import TypeAlias


class WordReader(ABC):
    """A model in one search. Histories of words are called contexts, and whoever asks numbers them; 0 is the empty one."""

    @abstractmethod
    def read(self, contexts: Sequence[int], labels: Sequence[int], after: Sequence[int]) -> list[float]:
        """Return the natural log-probability of each word after its context; ``after`` number the contexts behind the words."""

    @abstractmethod
    def finish(self, contexts: Sequence[int]) -> list[float]:
        """Return the natural log-probability of the sentence's end after each context."""

    @abstractmethod
    def retain(self, contexts: Collection[int]) -> None:
        """Forget all contexts but these."""


class WordModel(ABC):
    """A language model over the labels of a :class:`asr.decoding.search.trie.Trie`; it can be sent to other processes.

    Label 0 is that of unknown words.
    """

    @abstractmethod
    def reader(self) -> WordReader:
        """Return what reads for one search; several may be used at the same time."""

    @abstractmethod
    def unigrams(self) -> list[float]:
        """Return about the natural log-probability of each label without context."""


Weighted: TypeAlias = tuple[WordModel, float]
"""A model and the weight of its natural log-probabilities."""


class WordSession:
    """Models in one search, with the histories that it met.

    Parameters
    ----------
    readers
        One or more, with the weights of their natural log-probabilities.
    """

    def __init__(self, readers: Sequence[tuple[WordReader, float]]) -> None:
        self._readers = [reader for reader, _ in readers]
        self._weights = [weight for _, weight in readers]
        self._known: dict[tuple[int, int], tuple[int, float]] = {}
        self._totals: dict[int, tuple[float, ...]] = {0: (0.0,) * len(readers)}
        self._n_contexts = 1

    def score(self, contexts: Sequence[int], labels: Sequence[int]) -> tuple[list[int], list[float]]:
        """Return, for each word after its context, the context that follows and the weighted sum of the log-probabilities."""
        pairs = list(zip(contexts, labels, strict=True))
        new = [pair for pair in dict.fromkeys(pairs) if pair not in self._known]
        if new:
            self._add(new)
        found = [self._known[pair] for pair in pairs]
        return [context for context, _ in found], [score for _, score in found]

    def _add(self, pairs: Sequence[tuple[int, int]]) -> None:
        contexts, labels = zip(*pairs, strict=True)
        after = range(self._n_contexts, self._n_contexts + len(pairs))
        self._n_contexts += len(pairs)
        columns = [reader.read(contexts, labels, after) for reader in self._readers]
        for pair, context, scores in zip(pairs, after, zip(*columns, strict=True), strict=True):
            self._totals[context] = tuple(map(add, self._totals[pair[0]], scores))
            self._known[pair] = context, self._sum(scores)

    def _sum(self, scores: Sequence[float]) -> float:
        return sum(weight * score for weight, score in zip(self._weights, scores, strict=True))

    def finish(self, contexts: Sequence[int]) -> tuple[list[float], list[tuple[float, ...]]]:
        """End sentences.

        Returns
        -------
        scores
            For each context the weighted sum of the log-probabilities of the sentence's end.
        totals
            For each context the natural log-probability that each model gives the whole sentence.
        """
        distinct = list(dict.fromkeys(contexts))
        columns = [reader.finish(distinct) for reader in self._readers]
        ends = dict(zip(distinct, zip(*columns, strict=True), strict=True))
        totals = [tuple(map(add, self._totals[context], ends[context])) for context in contexts]
        return [self._sum(ends[context]) for context in contexts], totals

    def retain(self, contexts: Collection[int]) -> None:
        """Forget all histories but these, the empty one, and those that are one word longer."""
        held = {0, *contexts}
        self._known = {pair: found for pair, found in self._known.items() if pair[0] in held}
        held.update(context for context, _ in self._known.values())
        self._totals = {context: total for context, total in self._totals.items() if context in held}
        for reader in self._readers:
            reader.retain(held)
