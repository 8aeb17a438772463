"""Prefix trees against dictionaries of prefixes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from asr.decoding.search import trie as module
from asr.decoding.search.trie import NOWHERE, ROOT, UNKNOWN, Entry, Trie, closed_trie, open_trie

ENTRIES = [
    Entry((2, 3), 1, value=-1.0),
    Entry((2, 3, 3), 2, value=-2.0),
    Entry((2, 3), 3, value=-3.0),
    Entry((4,), 4, bonus=6.0),
    Entry((4, 1, 2), 5, value=-0.5, bonus=3.0),
]
STARTS = np.array([False, False, True, False, True, False])


def walk(trie: Trie, tokens: Sequence[int], node: int | None = None) -> int:
    node = trie.start if node is None else node
    for token in tokens:
        node = int(trie.step(torch.tensor(node), torch.tensor(token))) if node != NOWHERE else NOWHERE
    return node


def labels(trie: Trie, node: int) -> set[int]:
    first, count = int(trie.label_start[node]), int(trie.label_count[node])
    return set(trie.labels[first : first + count].tolist())


@pytest.mark.parametrize("dense_cells", [1 << 26, 0], ids=["table", "edges"])
@pytest.mark.parametrize("optional", [False, True])
def test_closed(optional: bool, dense_cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_DENSE_CELLS", dense_cells)
    trie = closed_trie(ENTRIES, 6, 1, optional=optional)
    assert trie.ending == (None if optional else 1)
    ends: dict[tuple[int, ...], set[int]] = {}
    for entry in ENTRIES:
        ends.setdefault((*entry.tokens, 1), set()).add(entry.label)
        if optional:
            ends.setdefault(entry.tokens, set()).add(entry.label)
    prefixes = {tokens[:n] for tokens in ends for n in range(len(tokens) + 1)}
    assert len(trie.inner) == len(prefixes)
    for prefix in prefixes:
        node = walk(trie, prefix)
        assert labels(trie, node) == ends.get(prefix, set())
        following = [token for token in range(6) if (*prefix, token) in prefixes]
        assert [token for token in range(6) if walk(trie, [token], node) != NOWHERE] == following
        assert bool(trie.inner[node]) == bool(following)


def test_potentials_are_those_of_the_best_word() -> None:
    trie = closed_trie(ENTRIES, 6, 1)
    assert float(trie.potential[ROOT]) == 0.0
    assert float(trie.potential[walk(trie, (2,))]) == -1.0
    assert float(trie.potential[walk(trie, (2, 3, 3))]) == -2.0
    assert float(trie.potential[walk(trie, (4,))]) == 3.0  # half of the word 4 and its boundary
    assert float(trie.potential[walk(trie, (4, 1, 2))]) == pytest.approx(-0.5 + 3.0 * 3 / 4)


def test_open_with_boundary() -> None:
    trie = open_trie(ENTRIES, 6, 1, starts=STARTS, value=-7.0)
    lost = walk(trie, (5,))
    assert float(trie.potential[lost]) == -7.0
    for tokens in ((5,), (2, 2), (2, 3, 3, 3), (4, 5), (5, 5, 2)):
        assert walk(trie, tokens) == lost
    for tokens in ((5, 1), (2, 1), (2, 2, 4, 1)):
        end = walk(trie, tokens)
        assert labels(trie, end) == {UNKNOWN}
        assert not trie.inner[end]
    assert labels(trie, walk(trie, (2, 3, 1))) == {1, 3}
    # A phrase goes on behind its first word, which ends as well; what breaks the phrase off goes on from the root instead.
    assert labels(trie, walk(trie, (4, 1))) == {4}
    assert labels(trie, walk(trie, (4, 1, 2, 1))) == {5}
    assert walk(trie, (4, 1, 3)) == NOWHERE
    assert walk(trie, (4, 1, 2, 2)) == NOWHERE
    assert walk(trie, (1,)) == NOWHERE


def test_first_words_of_phrases_can_be_unknown() -> None:
    trie = open_trie([Entry((2, 1, 3), 1)], 4, 1, starts=STARTS)
    assert labels(trie, walk(trie, (2, 1))) == {UNKNOWN}
    assert labels(trie, walk(trie, (2, 1, 3, 1))) == {1}


def test_open_without_boundary() -> None:
    trie = open_trie([Entry((2, 3), 1, bonus=2.0)], 6, None, starts=STARTS)
    free = trie.start
    assert walk(trie, (3,)) == walk(trie, (4,)) == walk(trie, (2, 5)) == free
    assert labels(trie, walk(trie, (2, 3))) == {1}
    assert walk(trie, (2, 3)) == walk(trie, (3, 2, 3)) == walk(trie, (2, 2, 3)) == walk(trie, (2, 3, 2, 3))
    # Behind a word's end a new word must start.
    assert walk(trie, (3,), ROOT) == NOWHERE
    assert walk(trie, (2, 3), ROOT) == walk(trie, (2, 3))
    assert bool(trie.inner[walk(trie, (2, 3))])


def test_nothing_is_an_open_vocabulary_too() -> None:
    trie = open_trie([], 4, 1, starts=STARTS)
    assert labels(trie, walk(trie, (2, 3, 1))) == {UNKNOWN}
