"""Confidences of words against sums over all alignments, and their calibration against scikit-learn."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from asr.config import DecodingConfig
from asr.decoding.words.alignment import FrameSpan, align
from asr.decoding.words.confidence import Calibration, fit_calibration, word_evidence
from asr.errors import DataError


def total_probability(log_probs: torch.Tensor, tokens: list[int]) -> float:
    """Sum over every path that reads the tokens, in float64."""
    probabilities = log_probs.double().exp().numpy()
    total = 0.0
    for path in itertools.product(range(probabilities.shape[1]), repeat=len(probabilities)):
        if [token for token, _ in itertools.groupby(path) if token != 0] == tokens:
            total += float(np.prod([probabilities[frame, token] for frame, token in enumerate(path)]))
    return total


class TestWordEvidence:
    # tokens: blank 0, boundary 1, letters 2 and 3
    TOKENS = (2, 3, 1, 3, 1, 2)
    SPANS = (FrameSpan(0, 1), FrameSpan(2, 3), FrameSpan(4, 5), FrameSpan(5, 7), FrameSpan(8, 9), FrameSpan(9, 10))
    WORDS = (range(0, 2), range(3, 4), range(5, 6))

    @pytest.fixture
    def log_probs(self) -> torch.Tensor:
        return torch.randn(11, 4, generator=torch.Generator().manual_seed(0)).log_softmax(1)

    def test_boundaries_beside_a_word_belong_to_it(self, log_probs: torch.Tensor) -> None:
        found = word_evidence(log_probs, self.TOKENS, self.SPANS, self.WORDS, boundary=1)
        expected = [
            total_probability(log_probs[0:5], [2, 3, 1]),  # from the start to the end of the boundary
            total_probability(log_probs[4:9], [1, 3, 1]),
            total_probability(log_probs[8:11], [1, 2]),  # to the last frame
        ]
        np.testing.assert_allclose(found[:, 0], expected, rtol=1e-5)
        assert found[:, 1].tolist() == [2, 1, 1]

    def test_without_boundaries_frames_reach_to_the_next_word(self, log_probs: torch.Tensor) -> None:
        tokens, spans = (2, 3, 3, 2), (FrameSpan(0, 1), FrameSpan(2, 3), FrameSpan(5, 7), FrameSpan(9, 10))
        found = word_evidence(log_probs, tokens, spans, (range(0, 2), range(2, 3), range(3, 4)), boundary=None)
        expected = [
            total_probability(log_probs[0:5], [2, 3]),
            total_probability(log_probs[3:9], [3]),
            total_probability(log_probs[7:11], [2]),
        ]
        np.testing.assert_allclose(found[:, 0], expected, rtol=1e-5)
        assert found[:, 1].tolist() == [2, 1, 1]

    def test_certain_impossible_and_absent(self) -> None:
        log_probs = torch.full((3, 4), -math.inf)
        log_probs[[0, 1, 2], [2, 0, 3]] = 0.0
        np.testing.assert_allclose(
            word_evidence(log_probs, [2, 3], align(log_probs, [2, 3]), [range(0, 2)], 1), [[1.0, 2.0]], rtol=1e-6
        )
        log_probs[1] = torch.tensor([-math.inf, 0.0, -math.inf, -math.inf])
        spans = [FrameSpan(0, 1), FrameSpan(2, 3)]
        np.testing.assert_allclose(word_evidence(log_probs, [2, 3], spans, [range(0, 2)], 1), [[0.0, 2.0]])
        assert word_evidence(log_probs, [], [], [], 1).shape == (0, 2)


def evidence_of(probabilities: Sequence[float] | np.ndarray, n_tokens: Sequence[int] | np.ndarray | int = 3) -> np.ndarray:
    return np.stack([np.asarray(probabilities, dtype=float), np.broadcast_to(n_tokens, len(probabilities))], axis=1)


class TestCalibration:
    def test_by_hand(self) -> None:
        # logit(0.8) = ln 4, so a scale of 2 gives 16 to 1; -ln 4 as the bias, or for each of two tokens -ln 2, takes it back.
        evidence = evidence_of([0.8, 0.5, 0.2], [2, 2, 2])
        np.testing.assert_allclose(Calibration(2.0).apply(evidence), [16 / 17, 0.5, 1 / 17])
        np.testing.assert_allclose(Calibration(2.0, bias=-math.log(4)).apply(evidence[:1]), [0.8])
        np.testing.assert_allclose(Calibration(2.0, length=-math.log(2)).apply(evidence[:1]), [0.8])
        np.testing.assert_allclose(Calibration().apply(evidence), [0.8, 0.5, 0.2])

    def test_certainty_stays_finite(self) -> None:
        assert Calibration(0.0, 0.0, 0.0).apply(evidence_of([0.0, 1.0])).tolist() == [0.5, 0.5]
        mapped = Calibration(3.0, 0.0, 1.0).apply(evidence_of([0.0, 1.0]))
        assert np.isfinite(mapped).all()
        assert mapped[0] < 1e-6
        assert mapped[1] > 1 - 1e-6

    def test_from_the_configuration(self) -> None:
        assert Calibration.configured(DecodingConfig()) == Calibration(1.0, 0.0, 0.0)
        config = DecodingConfig(confidence_scale=0.7, confidence_length=0.1, confidence_bias=-0.2)
        assert Calibration.configured(config) == Calibration(0.7, 0.1, -0.2)


class TestFit:
    def test_agrees_with_scikit_learn(self) -> None:
        linear_model = pytest.importorskip("sklearn.linear_model")
        rng = np.random.default_rng(0)
        raw, n_tokens = rng.uniform(0.01, 0.99, 400), rng.integers(1, 9, 400)
        right = rng.random(400) < raw**2
        n_right, n_wrong = int(right.sum()), int((~right).sum())
        high, low = (n_right + 1) / (n_right + 2), 1 / (n_wrong + 2)  # Platt's targets, as weighted pairs of labels
        targets = np.where(right, high, low)
        x = np.stack([np.log(raw / (1 - raw)), n_tokens], axis=1)
        model = linear_model.LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000)
        weights = np.concatenate([targets, 1 - targets])
        model.fit(np.concatenate([x, x]), np.repeat([True, False], 400), sample_weight=weights)
        found = fit_calibration(evidence_of(raw, n_tokens), right)
        assert (found.scale, found.length) == pytest.approx(tuple(model.coef_[0]), rel=1e-3)
        assert found.bias == pytest.approx(model.intercept_[0], rel=1e-3)

    def test_finds_what_made_the_data(self) -> None:
        rng = np.random.default_rng(1)
        evidence = evidence_of(rng.uniform(0.02, 0.98, 40000), rng.integers(1, 9, 40000))
        truth = Calibration(1.7, -0.3, 0.6)
        found = fit_calibration(evidence, rng.random(40000) < truth.apply(evidence))
        assert (found.scale, found.length, found.bias) == pytest.approx((1.7, -0.3, 0.6), abs=0.06)

    def test_separated_words_do_not_give_certainty(self) -> None:
        evidence = evidence_of([0.1, 0.2, 0.8, 0.9])
        mapped = fit_calibration(evidence, [False, False, True, True]).apply(evidence)
        assert ((mapped > 0.05) & (mapped < 0.95)).all()
        assert (np.diff(mapped) > 0).all()

    def test_probabilities_that_mislead_are_levelled(self) -> None:
        found = fit_calibration(evidence_of([0.1, 0.2, 0.8, 0.9]), [True, True, False, True])
        assert found.scale == 0.0
        # the mean of the targets 4/5, 4/5, 1/3 and 4/5
        assert found.apply(evidence_of([0.1, 0.9])) == pytest.approx([0.6833333] * 2)

    @pytest.mark.parametrize("right", [[True] * 3, [False] * 3, [True, False, True]])
    def test_equal_words_get_their_share(self, right: list[bool]) -> None:
        n_right, n_wrong = sum(right), 3 - sum(right)
        share = (n_right * (n_right + 1) / (n_right + 2) + n_wrong / (n_wrong + 2)) / 3
        evidence = evidence_of([0.7] * 3)
        assert fit_calibration(evidence, right).apply(evidence) == pytest.approx([share] * 3)

    @pytest.mark.parametrize(
        ("evidence", "right"),
        [(np.zeros((0, 2)), []), (evidence_of([0.5]), [True, False]), (np.array([0.5]), [True]), (np.zeros((1, 3)), [True])],
    )
    def test_wrong_shapes(self, evidence: np.ndarray, right: list[bool]) -> None:
        with pytest.raises(DataError, match="two numbers for each word, and one word at least"):
            fit_calibration(evidence, right)
