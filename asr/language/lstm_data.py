"""Training text as indices of units: encoding, shuffled streams."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from asr.language.units import Units
from asr.language.vocabulary import Vocabulary
from asr.progress import Progress


@dataclass(frozen=True)
class Tokens:
    """Sentences as indices of units.

    Attributes
    ----------
    values
        ``(unit of the text,)`` int32, sentence after sentence.
    offsets
        ``(sentence + 1,)`` int64: where each begins, and where the last ends.
    """

    values: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        """Return the number of sentences."""
        return len(self.offsets) - 1

    def stream(self, end: int, seed: Sequence[int]) -> np.ndarray:
        """Return all sentences one after the other in a random order, ``end`` before, between and after them.

        As the sentence before has nothing to do with the one after, a network learns to start afresh at ``end``, which is how
        it is used: on sentences by themselves.

        Parameters
        ----------
        end
            Index of the sentence's end.
        seed
            The same seed gives the same order.

        Returns
        -------
        np.ndarray
            ``(position,)`` int32.
        """
        order = np.random.default_rng(seed).permutation(len(self))
        lengths = np.diff(self.offsets)[order] + 1  # with the end
        starts = np.cumsum(lengths) - lengths
        stream = np.full(1 + int(lengths.sum()), end, dtype=np.int32)
        # Of every position of the stream: how far it is from its place in the text.
        shift = np.repeat(self.offsets[:-1][order] - starts, lengths)
        source = np.arange(len(shift)) + shift
        inside = np.ones(len(shift), dtype=bool)
        inside[starts + lengths - 1] = False
        stream[1:][inside] = self.values[source[inside]]
        return stream

    def counts(self, n_units: int, end: int) -> np.ndarray:
        """Return ``(unit,)`` occurrences, the ends of sentences included."""
        counts = np.bincount(self.values, minlength=n_units)
        counts[end] += len(self)
        return counts


def encode(sentences: Iterable[Sequence[str]], n_sentences: int, units: Units, vocabulary: Vocabulary) -> Tokens:
    """Look up the units of sentences of words; a unit outside the vocabulary gets the index after the sentence's end."""
    indices, unknown = vocabulary.indices, len(vocabulary) + 1
    values, offsets = array("i"), array("q", [0])
    with Progress("encoding", n_sentences, "sentences") as progress:
        for words in sentences:
            values.extend([indices.get(unit, unknown) for unit in units.split(words)])
            offsets.append(len(values))
            progress.advance(1)
    return Tokens(np.frombuffer(values, dtype=np.int32), np.frombuffer(offsets, dtype=np.int64))
