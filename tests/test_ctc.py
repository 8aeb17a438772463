"""The CTC loss against a sum over all alignments, and the consistency loss against its equation."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from asr.ctc import BLANK, consistency_loss, ctc_loss, minimum_frames


def collapse(path: tuple[int, ...]) -> list[int]:
    return [token for token, _ in itertools.groupby(path) if token != BLANK]


def exhaustive(log_probs: torch.Tensor, target: list[int]) -> float:
    """Negative logarithm of the summed probability of every path that collapses to the target."""
    n_frames, n_tokens = log_probs.shape
    paths = (path for path in itertools.product(range(n_tokens), repeat=n_frames) if collapse(path) == target)
    return -math.log(sum(math.exp(sum(float(log_probs[t, token]) for t, token in enumerate(path))) for path in paths))


@pytest.mark.parametrize("targets", [[[1, 2], [2]], [[1, 1], [2, 1]], [[], [1, 2, 1]]])
def test_equals_the_sum_over_all_alignments(targets: list[list[int]]) -> None:
    log_probs = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(1)).double().log_softmax(2)
    n_frames = torch.tensor([5, 4])
    expected = sum(exhaustive(row[:n], target) for row, n, target in zip(log_probs, [5, 4], targets, strict=True))
    assert float(ctc_loss(log_probs, n_frames, targets, normalise=False)) == pytest.approx(expected, rel=1e-9)
    n_tokens = sum(map(len, targets))
    assert float(ctc_loss(log_probs, n_frames, targets)) == pytest.approx(expected / n_tokens, rel=1e-9)


@pytest.mark.parametrize(("tokens", "expected"), [([], 0), ([3], 1), ([1, 1], 3), ([1, 2, 2, 2, 1], 7)])
def test_minimum_frames(tokens: list[int], expected: int) -> None:
    assert minimum_frames(tokens) == expected
    if tokens:
        log_probs = torch.zeros(1, expected, 5).log_softmax(2)
        assert ctc_loss(log_probs, torch.tensor([expected]), [tokens]).isfinite()
        assert ctc_loss(log_probs, torch.tensor([expected - 1]), [tokens]).isinf()


def test_consistency_is_the_divergence_of_each_view_from_the_other() -> None:
    logits = torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(1)).double().requires_grad_()
    log_probs = logits.log_softmax(2)
    n_frames = torch.tensor([5, 3, 5, 3])
    loss = consistency_loss(log_probs, n_frames)
    p = log_probs.detach().exp().tolist()

    def divergence(learnt_from: list[float], learns: list[float]) -> float:
        return sum(q * math.log(q / p) for q, p in zip(learnt_from, learns, strict=True))

    expected = sum(
        divergence(p[2 + row][t], p[row][t]) + divergence(p[row][t], p[2 + row][t])
        for row, n in enumerate([5, 3])
        for t in range(n)
    )
    assert loss.item() == pytest.approx(expected / 2, rel=1e-9)
    (gradient,) = torch.autograd.grad(loss, logits)
    # Of KL(q || softmax(z)) by z, with q a constant: softmax(z) - q.
    probabilities = log_probs.detach().exp()
    by_hand = (probabilities - probabilities.roll(2, dims=0)) / 2
    by_hand[[1, 3], 3:] = 0
    assert torch.allclose(gradient, by_hand, atol=1e-12)
