"""KenLM's hash tables: whether every search in them ends, and what it finds can be.

KenLM goes by the numbers in a binary file without a look at them. It looks for a key from the key's own place on until it meets
a free one, so that a full table is searched for ever, and one that is full for long stretches almost so.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from asr.language.kenlm_trie import are_logarithms, demand, view

_WORD = np.dtype([("key", "<u8"), ("index", "<u4")])
_LONGEST = np.dtype([("key", "<u8"), ("probability", "<f4")])
_VALUES = [("probability", "<f4"), ("backoff", "<f4")]
_REST = [("rest", "<f4")]
_VERSION = 0
_LONGEST_STRETCH = 1 << 16  # of places without a free one; where a third are free, there are some hundreds
_BLOCK = 1 << 20  # places that are looked at together


def check_probing(content: np.ndarray, start: int, *, rest: bool, multiplier: float, counts: Sequence[int]) -> int:
    """Look at all of the hash tables.

    Parameters
    ----------
    content
        ``(byte,)``: the file.
    start
        Where its header ends.
    rest
        Whether n-grams have a third value.
    multiplier
        How many places the tables have for each n-gram.
    counts
        Number of n-grams of each length, two or more.

    Returns
    -------
    int
        Where the tables end.

    Raises
    ------
    Damage
        The file is shorter than it should be, or holds what no such tables do.
    """
    values = [*_VALUES, *(_REST if rest else [])]
    version, bound = view(content, start, 2, "<u4").tolist()
    demand(version == _VERSION, f"its table of words is of version {version}, not {_VERSION}")
    # <unk> may be missing from the words that were counted.
    demand(counts[0] <= bound <= counts[0] + 1, f"its table of words has {bound:,}, its header says {counts[0]:,}")
    words = view(content, start + 8, n_places(counts[0], multiplier), _WORD)
    _check_places(words["key"], "words")
    demand(words["index"].max() < bound, "its table of words holds an index that is none")
    at = start + 8 + words.nbytes
    unigrams = view(content, at, counts[0] + 1, np.dtype(values))
    _check_values(unigrams[:bound], "word")
    at += unigrams.nbytes
    middle = np.dtype([("key", "<u8"), *values])
    for length, n in enumerate(counts[1:], start=2):
        table = view(content, at, n_places(n, multiplier), middle if length < len(counts) else _LONGEST)
        _check_places(table["key"], f"{length}-grams")
        _check_values(table, f"{length}-gram")
        at += table.nbytes
    return at


def n_places(n: int, multiplier: float) -> int:
    """Return how many places KenLM gives a hash table of ``n`` entries; it multiplies in single precision."""
    return max(n + 1, int(np.float32(multiplier) * np.float32(n)))


def _check_places(keys: np.ndarray, what: str) -> None:
    """Look for free places, whose key is 0; the table goes on at its beginning."""
    last = -1
    first_free = None
    for start in range(0, len(keys), _BLOCK):
        free = np.flatnonzero(keys[start : start + _BLOCK] == 0) + start
        if len(free):
            first_free = free[0] if first_free is None else first_free
            gaps = np.diff(free, prepend=last)
            demand(last < 0 or gaps.max() <= _LONGEST_STRETCH, f"its table of {what} is too full")
            last = int(free[-1])
    demand(first_free is not None, f"its table of {what} is full")
    assert first_free is not None
    demand(len(keys) - last + first_free <= _LONGEST_STRETCH, f"its table of {what} is too full")


def _check_values(table: np.ndarray, what: str) -> None:
    # The sign of a probability says whether a longer n-gram ends so.
    names = [name for name in table.dtype.names or () if name not in ("key", "index")]
    for start in range(0, len(table), _BLOCK):
        for name in names:
            values = table[name][start : start + _BLOCK]
            demand(are_logarithms(values, negative=False), f"a value of a {what} is none")
