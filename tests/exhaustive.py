"""What decoders should find, by trying everything: all alignments, all ways to cut tokens into words; and an n-gram model."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

Tokens = tuple[int, ...]

TRIGRAMS = {
    1: {
        "<unk>": (-1.5, 0.0),
        "<s>": (-99.0, -0.3),
        "</s>": (-0.8, 0.0),
        "a": (-0.5, -0.2),
        "b": (-0.6, -0.25),
        "ab": (-0.9, -0.1),
        "|": (-0.7, -0.15),
    },
    2: {
        "<s> a": (-0.3, -0.2),
        "a b": (-0.4, -0.15),
        "b </s>": (-0.9, 0.0),
        "b a": (-0.7, -0.05),
        "ab ab": (-0.2, -0.3),
        "<s> ab": (-0.35, -0.1),
        "a |": (-0.25, -0.2),
        "| b": (-0.45, -0.1),
    },
    3: {"<s> a b": (-0.1, 0.0), "a b a": (-0.15, 0.0), "a | b": (-0.2, 0.0), "a b </s>": (-0.3, 0.0)},
}
"""Base-10 logarithms of probability and back-off weight; words, or characters with "|" between words."""


def write_arpa(path: Path, ngrams: Mapping[int, Mapping[str, tuple[float, float]]] = TRIGRAMS) -> Path:
    """Write an ARPA file."""
    lines = ["\\data\\", *(f"ngram {n}={len(entries)}" for n, entries in ngrams.items()), ""]
    for n, entries in ngrams.items():
        lines += [f"\\{n}-grams:", *(f"{prob}\t{words}\t{backoff}" for words, (prob, backoff) in entries.items()), ""]
    path.write_text("\n".join([*lines, "\\end\\"]) + "\n", encoding="utf-8")
    return path


def sentence_log_prob(words: Sequence[str], ngrams: Mapping[int, Mapping[str, tuple[float, float]]] = TRIGRAMS) -> float:
    """Return the natural log-probability of a sentence with its end, by back-off (Katz 1987)."""
    flat = {tuple(key.split()): value for entries in ngrams.values() for key, value in entries.items()}

    def log10(history: tuple[str, ...], word: str) -> float:
        if (*history, word) in flat:
            return flat[*history, word][0]
        return flat.get(history, (0.0, 0.0))[1] + log10(history[1:], word)

    known = ["<s>", *(word if (word,) in flat else "<unk>" for word in words), "</s>"]
    n = max(ngrams)
    total = sum(log10(tuple(known[max(0, k - n + 1) : k]), known[k]) for k in range(1, len(known)))
    return total * math.log(10.0)


def random_log_probs(rng: np.random.Generator, n_frames: int, n_tokens: int) -> np.ndarray:
    """Return ``(frame, token)`` log-probabilities, some peaked and some flat."""
    values = rng.normal(0, rng.uniform(0.5, 3.0), (n_frames, n_tokens))
    return values - np.logaddexp.reduce(values, axis=1, keepdims=True)


def collapse(path: Sequence[int]) -> Tokens:
    """Remove repeats, then blanks."""
    return tuple(token for token, _ in itertools.groupby(path) if token)


def squeeze(tokens: Tokens, boundary: int | None) -> Tokens:
    """Leave single boundaries, and none at the ends: texts that read the same become the same."""
    words = [group for group in cut(tokens, boundary) if group]
    return tuple(token for index, word in enumerate(words) for token in (*([boundary] if index else []), *word))  # type: ignore[misc]


def cut(tokens: Tokens, boundary: int | None) -> list[Tokens]:
    """Split at the boundaries."""
    parts: list[list[int]] = [[]]
    for token in tokens:
        if token == boundary:
            parts.append([])
        else:
            parts[-1].append(token)
    return [tuple(part) for part in parts]


def all_readings(log_probs: np.ndarray, boundary: int | None, *, log_add: bool = True) -> dict[Tokens, float]:
    """Return the log-probability of every token sequence over all its alignments, or that of its best one."""
    found: dict[Tokens, list[float]] = {}
    n_frames, n_tokens = log_probs.shape
    for path in itertools.product(range(n_tokens), repeat=n_frames):
        score = math.fsum(log_probs[frame, token] for frame, token in enumerate(path))
        found.setdefault(squeeze(collapse(path), boundary), []).append(score)
    return {tokens: join(scores, log_add=log_add) for tokens, scores in found.items()}


def join(scores: Sequence[float], *, log_add: bool = True) -> float:
    """Return the logarithm of a sum of probabilities, or the highest."""
    return float(np.logaddexp.reduce(scores)) if log_add else max(scores)


def ways(
    tokens: Tokens, lexicon: Mapping[str, Sequence[Tokens]], boundary: int | None, *, optional: bool = False
) -> Iterator[tuple[str, ...]]:
    """Return every sequence of words whose spellings, with boundaries between them, make up the tokens."""
    if not tokens:
        yield ()
    for word, spellings in lexicon.items():
        for spelling in spellings:
            if tokens[: len(spelling)] != spelling:
                continue
            rest = tokens[len(spelling) :]
            if rest and boundary is not None:
                if rest[0] == boundary:
                    rest = rest[1:]
                elif not optional:
                    continue
            yield from ((word, *others) for others in ways(rest, lexicon, boundary, optional=optional))
