"""The n-gram over tokens that a denominator sums with: dense, by interpolated Witten-Bell smoothing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch

EDGE = 0
"""The blank's index, which no label has, stands for a sentence's begin in a context, and for its end as an outcome."""

_LEAST = 1e-8
"""Least probability of an outcome. What the future of two states can differ by is the cube of its inverse at most, so that the
sums of the denominator stay within float32."""


def estimate_ngram(sequences: Iterable[Sequence[int]], n_tokens: int, order: int) -> torch.Tensor:
    """Return the probabilities of each token after each context, by interpolated Witten-Bell smoothing.

    With ``n`` occurrences of a context ``h`` (which without its first token is ``h'``), and ``t`` different tokens after it ::

        P(c | h) = (n(h, c) + t(h) P(c | h')) / (n(h) + t(h))

    down to equal probabilities of all tokens and the end.

    Parameters
    ----------
    sequences
        Labels of each sentence, none of them 0.
    n_tokens
        Number of tokens, the blank included.
    order
        Length of the n-grams, 1 or more.

    Returns
    -------
    torch.Tensor
        float32 of ``order`` axes of ``n_tokens``: the context, its newest token last, then the outcome. Index 0 is
        :data:`EDGE`. Every probability is positive, and those of a context sum to 1.
    """
    counts = np.zeros((n_tokens,) * order)
    for labels in sequences:
        np.add.at(counts, tuple(_ngrams(labels, order).T), 1)
    probabilities = np.full(n_tokens, 1 / n_tokens)
    for length in range(1, order + 1):
        seen = counts.sum(axis=tuple(range(order - length)))
        n, t = seen.sum(-1, keepdims=True), (seen > 0).sum(-1, keepdims=True)
        probabilities = np.where(n > 0, (seen + t * probabilities) / np.maximum(n + t, 1), probabilities)
    probabilities = np.maximum(probabilities, _LEAST)
    return torch.from_numpy(probabilities / probabilities.sum(-1, keepdims=True)).float()


def log_probability(targets: Sequence[Sequence[int]], ngram: torch.Tensor) -> torch.Tensor:
    """Return the natural logarithm of the probability of label sequences, their ends included, summed over them: a scalar."""
    grams = np.concatenate([_ngrams(labels, ngram.dim()) for labels in targets])
    return ngram[torch.from_numpy(grams).to(ngram.device).unbind(1)].log().sum()


def perplexity(sequences: Sequence[Sequence[int]], ngram: torch.Tensor) -> float:
    """Return the inverse of the geometric mean of the probabilities of label sequences' tokens and ends."""
    outcomes = sum(len(labels) + 1 for labels in sequences)
    return math.exp(-log_probability(sequences, ngram).item() / outcomes)


def _ngrams(labels: Sequence[int], order: int) -> np.ndarray:
    """Return the n-grams of a sentence, which begins with as many edges as a context is long and ends with one.

    They are ``(n-gram, token)``.
    """
    padded = np.array([*[EDGE] * (order - 1), *labels, EDGE])
    return np.lib.stride_tricks.sliding_window_view(padded, order)
