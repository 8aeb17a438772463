"""CTC-CRF against sums over all paths, finite differences and a plain loop; its n-gram against hand calculations."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict

import pytest
import torch

from asr.crf import CtcCrf, check_size, denominator, estimate_ngram, log_probability, perplexity
from asr.ctc import BLANK, ctc_loss
from asr.errors import ConfigError

ORDERS = (1, 2, 3, 4)


def random_ngram(n_tokens: int, order: int) -> torch.Tensor:
    return torch.rand((n_tokens,) * order, generator=torch.Generator().manual_seed(order)).add(0.1).softmax(-1).double()


def random_log_probs(batch: int, n_frames: int, n_tokens: int) -> torch.Tensor:
    logits = torch.randn(batch, n_frames, n_tokens, generator=torch.Generator().manual_seed(5)).double()
    return (2 * logits).log_softmax(2)


def sentence_log_probability(labels: tuple[int, ...], ngram: torch.Tensor) -> float:
    context = [0] * (ngram.dim() - 1)
    total = 0.0
    for label in [*labels, 0]:
        total += math.log(ngram[(*context, label)])
        context = [*context, label][1:] if context else []
    return total


def by_labels(log_probs: torch.Tensor) -> dict[tuple[int, ...], float]:
    """Probability of the frames along all paths of each label sequence."""
    n_frames, n_tokens = log_probs.shape
    rows = log_probs.exp().tolist()
    sums: dict[tuple[int, ...], float] = defaultdict(float)
    for path in itertools.product(range(n_tokens), repeat=n_frames):
        labels = tuple(token for token, _ in itertools.groupby(path) if token != BLANK)
        sums[labels] += math.prod(row[token] for row, token in zip(rows, path, strict=True))
    return sums


def exhaustive(log_probs: torch.Tensor, ngram: torch.Tensor) -> float:
    sums = by_labels(log_probs)
    return math.log(sum(sums[labels] * math.exp(sentence_log_probability(labels, ngram)) for labels in sums))


def plain_loop(log_probs: torch.Tensor, ngram: torch.Tensor) -> torch.Tensor:
    """The denominator of one utterance over labels' contexts, as one would write it first, for autograd."""
    rows = log_probs.exp()
    states = {((0,) * (ngram.dim() - 1), 0, True): rows.new_ones(())}  # context, newest label, whether a blank followed
    for row in rows:
        after: dict[tuple[tuple[int, ...], int, bool], torch.Tensor] = defaultdict(lambda: rows.new_zeros(()))
        for (context, newest, blank), value in states.items():
            after[context, newest, True] = after[context, newest, True] + value * row[BLANK]
            for label in range(1, len(row)):
                if label == newest and not blank:
                    after[context, newest, False] = after[context, newest, False] + value * row[label]
                    continue
                longer = (*context, label)[1:] if context else ()
                after[longer, label, False] = after[longer, label, False] + value * row[label] * ngram[(*context, label)]
        states = after
    return torch.stack([value * ngram[(*context, 0)] for (context, _, _), value in states.items()]).sum().log()


@pytest.mark.parametrize("order", ORDERS)
def test_denominator_equals_the_sum_over_all_paths(order: int) -> None:
    log_probs, ngram, lengths = random_log_probs(5, 6, 4), random_ngram(4, order), [6, 3, 1, 0, 5]
    found = denominator(log_probs, torch.tensor(lengths), ngram)
    expected = [exhaustive(row[:n], ngram) for row, n in zip(log_probs, lengths, strict=True)]
    assert found.tolist() == pytest.approx(expected, abs=1e-12)
    assert denominator(log_probs.float(), torch.tensor(lengths), ngram.float()).tolist() == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize("order", ORDERS)
def test_gradient_equals_finite_differences_and_a_plain_loop(order: int) -> None:
    log_probs, ngram, lengths = random_log_probs(3, 5, 4).requires_grad_(), random_ngram(4, order), [5, 3, 0]
    weights = torch.tensor([0.5, 2.0, 3.0]).double()
    (found,) = torch.autograd.grad((denominator(log_probs, torch.tensor(lengths), ngram) * weights).sum(), log_probs)
    plain = torch.stack([plain_loop(row[:n], ngram) for row, n in zip(log_probs, lengths, strict=True)])
    (expected,) = torch.autograd.grad((plain * weights).sum(), log_probs)
    assert torch.allclose(found, expected, atol=1e-12)
    assert torch.autograd.gradcheck(lambda x: denominator(x, torch.tensor(lengths), ngram), log_probs)
    (single,) = torch.autograd.grad((denominator(log_probs.float(), torch.tensor(lengths), ngram) * weights).sum(), log_probs)
    assert torch.allclose(single, expected, atol=2e-6)


def test_utterance_gives_the_same_alone_and_in_a_padded_batch() -> None:
    log_probs, ngram, lengths = random_log_probs(4, 40, 7).float(), random_ngram(7, 3).float(), [40, 17, 1, 30]
    log_probs[1, 17:] = torch.nan
    log_probs.requires_grad_()
    together = denominator(log_probs, torch.tensor(lengths), ngram)
    (gradient,) = torch.autograd.grad(together.sum(), log_probs)
    for row, n in enumerate(lengths):
        alone = log_probs[row : row + 1, :n].detach().requires_grad_()
        log_z = denominator(alone, torch.tensor([n]), ngram)
        (expected,) = torch.autograd.grad(log_z, alone)
        assert together[row].item() == pytest.approx(log_z.item(), rel=1e-6)
        assert torch.allclose(gradient[row, :n], expected[0], atol=1e-6)
        assert not gradient[row, n:].any()


@pytest.mark.parametrize("order", ORDERS)
def test_long_utterances_and_extreme_probabilities_stay_in_range(order: int) -> None:
    n_frames, n_tokens = 3000, 6
    ngram = estimate_ngram([[1, 2, 3, 1, 2], [4, 4]], n_tokens, order)  # token 5 is never seen
    generator = torch.Generator().manual_seed(2)
    log_probs = torch.full((3, n_frames, n_tokens), -1e4)
    path = torch.randint(n_tokens, (n_frames,), generator=generator)
    log_probs[0, torch.arange(n_frames), path] = 0.0  # one path alone has a probability
    log_probs[1] = (20 * torch.randn(n_frames, n_tokens, generator=generator)).log_softmax(1)
    log_probs.requires_grad_()  # the third: the same in all frames and tokens, far below float32's least number
    log_z = denominator(log_probs, torch.full((3,), n_frames), ngram)
    (gradient,) = torch.autograd.grad(log_z.sum(), log_probs)
    labels = tuple(token for token, _ in itertools.groupby(path.tolist()) if token != BLANK)
    assert log_z[0].item() == pytest.approx(sentence_log_probability(labels, ngram), rel=1e-5)
    assert torch.allclose(gradient[0].argmax(1), path)
    double = log_probs.detach().double().requires_grad_()
    exact = denominator(double, torch.full((3,), n_frames), ngram.double())
    (expected,) = torch.autograd.grad(exact.sum(), double)
    assert log_z.tolist() == pytest.approx(exact.tolist(), rel=1e-6)
    assert torch.allclose(gradient.double(), expected, atol=1e-4)
    assert torch.allclose(gradient.sum(2), torch.ones(3, n_frames))


def test_denominator_is_computed_in_float32_under_autocast() -> None:
    log_probs, ngram = random_log_probs(2, 50, 6).float(), random_ngram(6, 3).float()
    n_frames = torch.tensor([50, 40])
    plain = denominator(log_probs, n_frames, ngram)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = denominator(log_probs, n_frames, ngram)
    assert mixed.dtype == torch.float32
    assert torch.equal(mixed, plain)
    halves = log_probs.bfloat16()
    assert torch.equal(denominator(halves, n_frames, ngram), denominator(halves.float(), n_frames, ngram))


def saved(log_z: torch.Tensor) -> int:
    """Numbers kept for the gradient."""
    assert log_z.grad_fn is not None
    return sum(tensor.numel() for tensor in log_z.grad_fn.saved_tensors)  # type: ignore[attr-defined]


@pytest.mark.parametrize(("order", "n_frames"), [(1, 10), (3, 9), (4, 3), (3, 1)])
def test_sums_that_are_computed_anew_give_the_same(order: int, n_frames: int, monkeypatch: pytest.MonkeyPatch) -> None:
    log_probs, ngram = random_log_probs(3, n_frames, 5).requires_grad_(), random_ngram(5, order)
    lengths = torch.tensor([n_frames, n_frames - 1, 1])
    kept = denominator(log_probs, lengths, ngram)
    monkeypatch.setattr("asr.crf.paths.KEPT_BYTES", 0)
    anew = denominator(log_probs, lengths, ngram)
    assert torch.equal(kept, anew)
    assert (saved(anew) < saved(kept)) == (n_frames > 3)
    gradients = [torch.autograd.grad(log_z.sum(), log_probs)[0] for log_z in (kept, anew)]
    assert torch.equal(*gradients)


def test_denominator_keeps_nothing_where_no_gradient_is_wanted() -> None:
    log_probs, ngram = random_log_probs(2, 9, 5), random_ngram(5, 3)
    n_frames = torch.tensor([9, 4])
    kept = denominator(log_probs.clone().requires_grad_(), n_frames, ngram)
    assert torch.equal(denominator(log_probs, n_frames, ngram), kept)


@pytest.mark.parametrize("order", ORDERS)
def test_loss_is_the_negative_log_probability_of_the_labels(order: int) -> None:
    log_probs, n_frames, targets = random_log_probs(3, 6, 4), [6, 5, 4], [[1, 2], [3, 3], []]
    loss = CtcCrf(4, order, ctc_weight=0.25).double()
    loss.ngram.copy_(random_ngram(4, order))
    expected = 0.0
    for row, n, labels in zip(log_probs, n_frames, targets, strict=True):
        sums = by_labels(row[:n])
        joint = {found: sums[found] * math.exp(sentence_log_probability(found, loss.ngram)) for found in sums}
        expected -= math.log(joint[tuple(labels)] / sum(joint.values())) + 0.25 * math.log(sums[tuple(labels)])
    assert loss(log_probs, torch.tensor(n_frames), targets).item() == pytest.approx(expected, rel=1e-9)


def test_loss_of_labels_that_cannot_fit_is_infinite_as_that_of_ctc() -> None:
    log_probs, n_frames = random_log_probs(1, 2, 4), torch.tensor([2])
    assert CtcCrf(4, 2, 0.1)(log_probs, n_frames, [[1, 1]]).isinf()
    assert ctc_loss(log_probs, n_frames, [[1, 1]]).isinf()


def test_ngram_by_hand() -> None:
    # "1 2" and "1": after the begin 1 twice; after 1 a 2 and an end; after 2 an end. Unigrams: 1 twice, 2 once, the end twice.
    ngram = estimate_ngram([[1, 2], [1]], 4, 2)
    unigram = [(n + 3 / 4) / (5 + 3) for n in (2, 2, 1, 0)]
    assert ngram[0].tolist() == pytest.approx([(n + p) / 3 for n, p in zip((0, 2, 0, 0), unigram, strict=True)], rel=1e-6)
    assert ngram[1].tolist() == pytest.approx([(n + 2 * p) / 4 for n, p in zip((1, 0, 1, 0), unigram, strict=True)], rel=1e-6)
    assert ngram[3].tolist() == pytest.approx(unigram, rel=1e-6)  # never seen
    assert estimate_ngram([[1, 2], [1]], 4, 1).tolist() == pytest.approx(unigram, rel=1e-6)
    trigram = estimate_ngram([[1, 2], [1]], 4, 3)
    assert trigram[0, 1, 2].item() == pytest.approx((1 + 2 * ngram[1, 2].item()) / 4, rel=1e-6)
    assert trigram[3, 1].tolist() == pytest.approx(ngram[1].tolist(), rel=1e-6)
    assert torch.allclose(trigram.sum(-1), torch.ones(4, 4))


def test_no_probability_is_so_small_that_sums_leave_float32() -> None:
    ngram = estimate_ngram([[1] * 3000], 4, 3)  # unbounded it would be about 2e-11
    assert 0.9e-8 < ngram[1, 1, 2].item() < 1.1e-8
    assert torch.allclose(ngram.sum(-1), torch.ones(4, 4))


def test_ngram_of_nothing_is_uniform() -> None:
    assert torch.allclose(estimate_ngram([], 3, 2), torch.full((3, 3), 1 / 3))


def test_log_probability_and_perplexity() -> None:
    ngram = random_ngram(4, 3)
    targets = [[1, 2, 2, 3], [], [3]]
    expected = sum(sentence_log_probability(tuple(labels), ngram) for labels in targets)
    assert log_probability(targets, ngram).item() == pytest.approx(expected, rel=1e-12)
    assert perplexity(targets, ngram) == pytest.approx(math.exp(-expected / 8), rel=1e-12)


def test_ngram_too_large_to_be_held_is_refused() -> None:
    check_size(256, 3)
    with pytest.raises(ConfigError, match=r"optim.crf_order=3: with 500 tokens .* choose optim.crf_order=2"):
        check_size(500, 3)
    with pytest.raises(ConfigError, match=r"choose optim.crf_order=1"):
        check_size(5000, 2)
