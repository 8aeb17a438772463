"""Prefix trees of spelled words, as tables in which a whole beam is looked up at once."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

UNKNOWN = 0
"""Label of every word that has none of its own."""
ROOT = 0
"""Node in which words start."""
NOWHERE = -1
"""In place of a node: the token cannot follow."""

# A larger table of transitions is not made; they are searched for among the edges instead.
_DENSE_CELLS = 1 << 26


@dataclass(frozen=True)
class Entry:
    """One spelling of a word or phrase.

    Attributes
    ----------
    tokens
        Its token indices; in a phrase boundaries stand between the words and not after the last.
    label
        Index of the word, from 1; several words may share a spelling, and a word may have several.
    value
        What the word is worth to a search before its context is known (nats). Every prefix has the value of the best word that
        it can become, so that words compete from their first token on.
    bonus
        As ``value``, but prefixes have it in proportion to how much of the spelling has been read.
    """

    tokens: tuple[int, ...]
    label: int
    value: float = 0.0
    bonus: float = 0.0


@dataclass(frozen=True)
class Trie:
    """Which tokens may follow which, where words end, and what a prefix promises.

    A word ends when its last token is read: the search then stands at the root again. Where there is a boundary token, it is
    the last token of every word; the end of the utterance may stand for it.

    Attributes
    ----------
    n_tokens
        Tokens of the network, blank included.
    start
        Node in which an utterance starts.
    ending
        The token for which the end of an utterance may stand, or None.
    closed
        Whether only the entries can be written.
    inner
        ``(node,)``, whether anything can follow a node inside the same word.
    potential
        ``(node,)``, what the best entry to which a node can lead is worth; 0 at the root.
    labels, label_start, label_count
        Labels of the words that end at a node: ``labels[label_start[node] : label_start[node] + label_count[node]]``.
    keys, targets
        With ``keys`` of ``(edge,)``, sorted ``node * n_tokens + token``, the targets of the edges; with empty ``keys`` a table,
        ``(node * n_tokens,)``.
    """

    n_tokens: int
    start: int
    ending: int | None
    closed: bool
    inner: torch.Tensor
    potential: torch.Tensor
    labels: torch.Tensor
    label_start: torch.Tensor
    label_count: torch.Tensor
    keys: torch.Tensor
    targets: torch.Tensor

    def step(self, nodes: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Return the nodes to which tokens lead, :data:`NOWHERE` for none; arguments of one shape, or broadcast to one."""
        cells = nodes * self.n_tokens + tokens
        if not len(self.keys):
            return self.targets[cells].long()
        places = torch.searchsorted(self.keys, cells).clamp_(max=len(self.keys) - 1)
        return torch.where(self.keys[places] == cells, self.targets[places].long(), NOWHERE)


def closed_trie(entries: Sequence[Entry], n_tokens: int, boundary: int | None, *, optional: bool = False) -> Trie:
    """Build the tree of a closed vocabulary.

    Parameters
    ----------
    entries
        The spellings, at least one.
    n_tokens
        Tokens of the network, blank included.
    boundary
        The token between words, or None.
    optional
        Words may also end without the boundary token.
    """
    nodes = _grow(entries, n_tokens, boundary, optional=optional)
    ending = None if optional else boundary
    table = nodes.table() if len(nodes.parents) * n_tokens <= _DENSE_CELLS else None
    return nodes.trie(start=ROOT, ending=ending, closed=True, table=table)


def open_trie(entries: Sequence[Entry], n_tokens: int, boundary: int | None, *, starts: np.ndarray, value: float = 0.0) -> Trie:
    """Build the tree of an open vocabulary: words that are no entries can be written as well, under :data:`UNKNOWN`.

    Parameters
    ----------
    entries, n_tokens, boundary
        As for :func:`closed_trie`.
    starts
        ``(token,)``, whether a token starts a word; it matters where there is no boundary token.
    value
        What a word that is no entry is worth (nats).
    """
    nodes = _grow(entries, n_tokens, boundary, optional=False)
    return _open_with_boundary(nodes, boundary, value) if boundary is not None else _open_without_boundary(nodes, starts)


@dataclass(frozen=True)
class _Nodes:
    """Tree under construction, node by node: parent, token that leads there, potential; and the words' ends."""

    n_tokens: int
    parents: np.ndarray
    tokens: np.ndarray
    potential: np.ndarray
    ends: np.ndarray  # (word, 2): node and label

    def table(self) -> np.ndarray:
        """Return ``(node, token)`` targets."""
        table = np.full((len(self.parents), self.n_tokens), NOWHERE, dtype=np.int32)
        table[self.parents[1:], self.tokens[1:]] = np.arange(1, len(self.parents))
        return table

    def trie(self, *, start: int, ending: int | None, closed: bool, table: np.ndarray | None) -> Trie:
        """Return the finished tree; without a table, transitions are those of the tree."""
        n_nodes = len(self.potential)
        keys, targets = np.zeros(0, dtype=np.int64), table
        if targets is not None:
            inner = (targets != NOWHERE).any(axis=1)
        else:
            inner = np.bincount(self.parents[1:], minlength=n_nodes) > 0
            keys = self.parents[1:] * self.n_tokens + self.tokens[1:]
            order = np.argsort(keys)
            keys, targets = keys[order], order + 1
        ends = self.ends[np.argsort(self.ends[:, 0], kind="stable")]
        counts = np.bincount(ends[:, 0], minlength=n_nodes)
        return Trie(
            n_tokens=self.n_tokens,
            start=start,
            ending=ending,
            closed=closed,
            inner=torch.from_numpy(inner),
            potential=torch.from_numpy(self.potential),
            labels=torch.from_numpy(ends[:, 1].copy()),
            label_start=torch.from_numpy(np.cumsum(counts) - counts),
            label_count=torch.from_numpy(counts),
            keys=torch.from_numpy(keys),
            targets=torch.from_numpy(targets.reshape(-1)),
        )


def _grow(entries: Sequence[Entry], n_tokens: int, boundary: int | None, *, optional: bool) -> _Nodes:
    """Make the tree of all spellings by sorting them: a node is a prefix that the spelling before it does not have."""
    spelled = [(entry, (*entry.tokens, boundary)) for entry in entries] if boundary is not None else []
    spelled += [(entry, entry.tokens) for entry in entries] if optional or boundary is None else []
    lengths = np.array([len(tokens) for _, tokens in spelled], dtype=np.int64)
    inside = np.arange(lengths.max(initial=0)) < lengths[:, None]
    padded = np.zeros(inside.shape, dtype=np.int32)
    padded[inside] = np.fromiter(itertools.chain.from_iterable(tokens for _, tokens in spelled), dtype=np.int32)
    order = np.lexsort(padded.T[::-1]) if padded.size else np.arange(0)
    rows = padded[order]
    is_new = rows > 0
    is_new[1:] &= np.logical_or.accumulate(rows[1:] != rows[:-1], axis=1)
    # Numbers grow along the rows, so the greatest so far in a column is that of the prefix which the row shares.
    numbers = np.maximum.accumulate(np.where(is_new, np.cumsum(is_new).reshape(is_new.shape), 0), axis=0)
    before = np.concatenate([np.full((len(rows), 1), ROOT), numbers[:, :-1]], axis=1)
    paths = np.empty_like(numbers)
    paths[order] = numbers
    labels = np.array([entry.label for entry, _ in spelled], dtype=np.int64)
    last = paths[np.arange(len(paths)), lengths - 1] if len(paths) else np.zeros(0, dtype=np.int64)
    return _Nodes(
        n_tokens,
        np.append(NOWHERE, before[is_new]),
        np.append(0, rows[is_new]),
        _potentials([entry for entry, _ in spelled], paths, inside),
        np.unique(np.stack([last, labels], axis=1), axis=0),
    )


def _potentials(entries: Sequence[Entry], paths: np.ndarray, inside: np.ndarray) -> np.ndarray:
    values, bonuses = (np.array([getattr(entry, name) for entry in entries]) for name in ("value", "bonus"))
    share = np.cumsum(inside, axis=1) / np.maximum(1, inside.sum(axis=1, keepdims=True))
    potential = np.full(paths.max(initial=0) + 1, -np.inf)
    np.maximum.at(potential, paths[inside], (values[:, None] + bonuses[:, None] * share)[inside])
    potential[ROOT] = 0.0
    return potential


def _open_with_boundary(nodes: _Nodes, boundary: int, value: float) -> Trie:
    """Lead every word that leaves the tree to a node of its own, and the boundary from there to the unknown word's end."""
    unknown, end = len(nodes.parents), len(nodes.parents) + 1
    after = np.flatnonzero(nodes.tokens == boundary)
    labelled = np.isin(after, nodes.ends[:, 0])
    nameless = np.array([[node, UNKNOWN] for node in (*after[~labelled], end)])
    grown = _Nodes(
        nodes.n_tokens,
        parents=np.append(nodes.parents, [unknown, unknown]),
        tokens=np.append(nodes.tokens, [0, boundary]),
        potential=np.append(nodes.potential, [value, value]),
        ends=np.concatenate([nodes.ends, nameless]),
    )
    table = grown.table()
    free = ~_below(grown.parents, after)
    free[end] = False
    # After a phrase's first words nothing else can follow: that reading goes on from the root, where those words have ended.
    rest = table[free]
    table[free] = np.where(rest == NOWHERE, np.where(np.arange(nodes.n_tokens) == boundary, end, unknown), rest)
    table[ROOT, boundary] = NOWHERE
    table[:, 0] = NOWHERE
    return grown.trie(start=ROOT, ending=boundary, closed=False, table=table)


def _open_without_boundary(nodes: _Nodes, starts: np.ndarray) -> Trie:
    """Let a word that leaves the tree go on in a node of its own, until a token starts the next word."""
    unknown = len(nodes.parents)
    grown = _Nodes(
        nodes.n_tokens,
        parents=np.append(nodes.parents, unknown),
        tokens=np.append(nodes.tokens, 0),
        potential=np.append(nodes.potential, 0.0),
        ends=nodes.ends,
    )
    table = grown.table()
    first = np.where(starts & (table[ROOT] == NOWHERE), unknown, table[ROOT])
    others = np.arange(len(table)) != ROOT
    table[others] = np.where(table[others] == NOWHERE, np.where(starts, first, unknown), table[others])
    table[ROOT] = first
    table[:, 0] = NOWHERE
    return grown.trie(start=unknown, ending=None, closed=False, table=table)


def _below(parents: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    """Return ``(node,)``, whether it is one of the nodes or stands below one."""
    found = np.zeros(len(parents), dtype=bool)
    while len(nodes):
        found[nodes] = True
        nodes = np.flatnonzero(found[parents] & ~found & (parents != NOWHERE))
    return found
