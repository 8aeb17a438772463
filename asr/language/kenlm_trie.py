"""KenLM's tries: whether all that a search would follow in them stays inside them.

KenLM goes by the numbers in a binary file without a look at them, so a file that somebody made up can lead it anywhere. Here
the tables are laid out as KenLM does, from the counts of the header, and what it would follow is looked at beforehand: the
children of each n-gram are a range of the next longer ones, and the words of a range ascend. Heafield, "KenLM: faster and
smaller language model queries", 2011; Raj and Whittaker, "Lossless compression of language model structure and word
identifiers", 2003.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

QUANTISED, ARRAYS = 1, 2
"""Bits of a trie's type: values are places in tables; the high bits of pointers are in an array of their own."""

_QUANTISED_VERSION, _ARRAYS_VERSION = 2, 0
_MOST_BITS = 25  # of a place in a table
_LARGEST = 1e10  # no logarithm is larger, and the sum of some such is finite
_UNIGRAM = np.dtype([("probability", "<f4"), ("backoff", "<f4"), ("next", "<u8")])
_SPARE_BYTES = 8  # behind packed tables, so that 64 bits can be read at each place
_BLOCK = 1 << 16  # n-grams that are looked at together, as many as stay in a processor's cache; a multiple of 8


class Damage(Exception):
    """What is wrong in a binary file, for people."""


def demand(holds: bool | np.bool_, why: str) -> None:
    """Raise :class:`Damage` where something does not hold."""
    if not holds:
        raise Damage(why)


def view(content: np.ndarray, at: int, n: int, dtype: str | np.dtype) -> np.ndarray:
    """Return ``(n,)`` values that stand in a file's bytes, as they lie.

    Raises
    ------
    Damage
        The file ends before them.
    """
    demand(n >= 0 and at + n * np.dtype(dtype).itemsize <= len(content), "it ends before the tables that its header speaks of")
    return np.ndarray((n,), dtype, content, at)


def are_logarithms(values: np.ndarray, *, negative: bool) -> np.bool_:
    """Say whether all of some values are logarithms that can be, of probabilities where they are to be negative."""
    return np.all((values >= -_LARGEST) & (values <= (0.0 if negative else _LARGEST)))


@dataclass(frozen=True)
class _Field:
    """A value of each n-gram: where it begins, in bits behind the word, its width, and the table that holds it, if one does."""

    at: int
    n_bits: int
    is_probability: bool
    table: np.ndarray | None = None


_PROBABILITY, _BACKOFF = _Field(0, 31, True), _Field(31, 32, False)  # a probability has no sign: it is negative


@dataclass(frozen=True)
class _Packed:
    """N-grams of one length, packed to the bit: word, fields, pointer to the first child."""

    content: np.ndarray
    start: int
    n_entries: int
    word_bits: int
    fields: tuple[_Field, ...]
    pointer_bits: int

    @property
    def value_bits(self) -> int:
        return sum(field.n_bits for field in self.fields)

    @property
    def entry_bits(self) -> int:
        return self.word_bits + self.value_bits + self.pointer_bits

    @property
    def end(self) -> int:
        """Where the table ends; a further pointer stands behind the last n-gram."""
        return self.start + ((1 + self.n_entries) * self.entry_bits + 7) // 8 + _SPARE_BYTES

    def read(self, first: int, n: int, at: int, n_bits: int) -> np.ndarray:
        """Return ``(n,)`` numbers of at most 57 bits that begin at bit ``at`` of the n-grams from ``first`` on.

        Eight n-grams end at a full byte, so they are eight columns of a table of bytes.
        """
        values, mask = np.empty(n, np.uint64), np.uint64((1 << n_bits) - 1)
        for phase in range(min(8, n)):
            bit = (first + phase) * self.entry_bits + at
            column = np.ndarray(((n - phase + 7) // 8,), "<u8", self.content, self.start + bit // 8, (self.entry_bits,))
            values[phase::8] = (column >> np.uint64(bit % 8)) & mask
        return values

    def blocks(self, n: int) -> Iterator[tuple[int, int]]:
        """Yield the first of ``n`` n-grams, and the number, of each block."""
        return ((first, min(_BLOCK, n - first)) for first in range(0, n, _BLOCK))


def check_trie(content: np.ndarray, start: int, kind: int, counts: Sequence[int]) -> int:
    """Look at all of a trie.

    Parameters
    ----------
    content
        ``(byte,)``: the file.
    start
        Where its header ends.
    kind
        Some of :data:`QUANTISED` and :data:`ARRAYS`.
    counts
        Number of n-grams of each length, two or more.

    Returns
    -------
    int
        Where the trie ends.

    Raises
    ------
    Damage
        The file is shorter than it should be, or holds what no trie does.
    """
    n_words, order = counts[0], len(counts)
    at = _check_words(content, start, n_words)
    fields: list[tuple[_Field, ...]] = [*[(_PROBABILITY, _BACKOFF)] * (order - 2), (_PROBABILITY,)]
    if kind & QUANTISED:
        at, fields = _read_tables(content, at, order)
    unigrams = view(content, at, n_words + 2, _UNIGRAM)[: n_words + 1]
    at += (n_words + 2) * _UNIGRAM.itemsize
    demand(are_logarithms(unigrams["probability"][:-1], negative=True), "the probability of a word is none")
    demand(are_logarithms(unigrams["backoff"][:-1], negative=False), "the back-off of a word is none")
    starts = _Starts(counts[1])
    starts.add(unigrams["next"])
    chop = 0
    if kind & ARRAYS and order > 2:
        version, chop = view(content, at, 2, "u1").tolist()
        demand(version == _ARRAYS_VERSION, f"its pointers are of version {version}, not {_ARRAYS_VERSION}")
    for length in range(2, order + 1):
        n_children = counts[length] if length < order else 0
        offsets, pointer_bits = None, n_children.bit_length()
        if kind & ARRAYS and length < order:
            at, offsets, pointer_bits = _read_offsets(content, at, counts[length - 1], n_children, chop)
        table = _Packed(content, at, counts[length - 1], n_words.bit_length(), fields[length - 2], pointer_bits)
        at = table.end
        demand(at <= len(content), "it ends before the tables that its header speaks of")
        _check_table(table, length, n_words, starts)
        starts = _Starts(n_children)
        if length < order:
            _add_pointers(table, offsets, starts)
    return at


class _Starts:
    """Where the children of n-grams begin, among those that there are.

    Parameters
    ----------
    n_children
        How many there are.
    """

    def __init__(self, n_children: int) -> None:
        self.is_start = np.zeros(n_children + 1, bool)
        self._last = 0
        self._n = n_children

    def add(self, pointers: np.ndarray, *, is_end: bool = True) -> None:
        """Take the next pointers, in the order of the n-grams; behind the last n-gram's stands the end of its children."""
        ascend = pointers[0] >= self._last and bool((pointers[1:] >= pointers[:-1]).all())
        demand(ascend and pointers[-1] <= self._n, "its n-grams point outside the longer ones")
        demand(not is_end or pointers[-1] == self._n, "its n-grams do not point to all of the longer ones")
        self._last = int(pointers[-1])
        self.is_start[pointers.astype(np.int64)] = True


def _check_words(content: np.ndarray, at: int, n_words: int) -> int:
    """Look at the hashes of the words but ``<unk>``, and return where they end."""
    n_hashes = int(view(content, at, 1, "<u8")[0])
    demand(n_hashes == n_words - 1, f"its table of words has {n_hashes + 1:,}, its header says {n_words:,}")
    hashes = view(content, at + 8, n_words, "<u8")[:n_hashes]
    demand(bool((hashes[1:] > hashes[:-1]).all()), "its words are not in order")
    return at + 8 + 8 * n_words


def _read_tables(content: np.ndarray, at: int, order: int) -> tuple[int, list[tuple[_Field, ...]]]:
    """Return where the tables of values end, and the fields of the n-grams of each length from 2 on."""
    version, n_probability, n_backoff = view(content, at, 3, "u1").tolist()
    demand(version == _QUANTISED_VERSION, f"its values are of version {version}, not {_QUANTISED_VERSION}")
    demand(0 < n_probability <= _MOST_BITS and 0 < n_backoff <= _MOST_BITS, "its values have an impossible number of bits")
    at += 8
    fields: list[tuple[_Field, ...]] = []
    for length in range(2, order + 1):
        probability = _Field(
            n_backoff if length < order else 0, n_probability, True, view(content, at, 1 << n_probability, "<f4")
        )
        at += 4 << n_probability
        if length == order:
            fields.append((probability,))
            break
        fields.append((_Field(0, n_backoff, False, view(content, at, 1 << n_backoff, "<f4")), probability))
        at += 4 << n_backoff
    return at, fields


def _read_offsets(content: np.ndarray, at: int, n_entries: int, n_children: int, chop: int) -> tuple[int, np.ndarray, int]:
    """Return where the array of the pointers' high bits ends, the n-grams at which these grow, and the number of other bits."""
    required = n_children.bit_length()
    costs = [
        64 * (n_children >> (required - chopped)) - (n_entries + 1) * chopped for chopped in range(min(required, chop) + 1)
    ]
    inline = required - costs.index(min(costs))
    n_offsets = (n_children >> inline) + 1
    offsets = view(content, (at + 7) // 8 * 8 + 8, n_offsets, "<u8")
    ascend = bool((offsets[1:] >= offsets[:-1]).all())
    demand(ascend and offsets[0] == 0 and offsets[-1] <= n_entries, "the array of its pointers is not in order")
    return at + 8 * (1 + n_offsets) + 7, offsets, inline


def _check_table(table: _Packed, length: int, n_words: int, starts: _Starts) -> None:
    """Look at the words and values of n-grams."""
    last = -1
    for first, n in table.blocks(table.n_entries):
        words = table.read(first, n, 0, table.word_bits).astype(np.int64)
        demand(bool((words < n_words).all()), f"its {length}-grams hold a word that is none")
        descends = np.diff(words, prepend=last) <= 0
        demand(not (descends & ~starts.is_start[first : first + n]).any(), f"its {length}-grams are not in order")
        last = int(words[-1])
    for field in table.fields:
        _check_field(table, length, field)


def _check_field(table: _Packed, length: int, field: _Field) -> None:
    if field.table is not None and are_logarithms(field.table, negative=field.is_probability):
        return
    # A place in the table that no n-gram has may hold minus infinity.
    for first, n in table.blocks(table.n_entries):
        found = table.read(first, n, table.word_bits + field.at, field.n_bits)
        if field.table is not None:
            values = field.table[found.astype(np.int64)]
        else:
            values = (found.astype(np.uint32) | np.uint32(field.is_probability << 31)).view(np.float32)
        what = "probability" if field.is_probability else "back-off"
        demand(are_logarithms(values, negative=field.is_probability), f"the {what} of a {length}-gram is none")


def _add_pointers(table: _Packed, offsets: np.ndarray | None, starts: _Starts) -> None:
    """Follow the pointers of n-grams, that behind the last one included."""
    for first, n in table.blocks(table.n_entries + 1):
        pointers = table.read(first, n, table.word_bits + table.value_bits, table.pointer_bits)
        if offsets is not None:
            high = np.searchsorted(offsets, np.arange(first, first + n, dtype=np.uint64), side="right") - 1
            pointers |= high.astype(np.uint64) << np.uint64(table.pointer_bits)
        starts.add(pointers, is_end=first + n > table.n_entries)
