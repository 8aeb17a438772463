"""How likely the words of a hypothesis are right.

The evidence for a word is what the network gives its spelling: the probability, summed over all alignments, that the frames it
was aligned to read the word's tokens and the boundaries beside them. A competing letter anywhere in the word lowers it, and so
does doubt about where the word ends. Beside it stands the number of tokens: where a lexicon and a language model choose the
words, a long word that the network gives little is more often right than a short one. Three numbers, fitted on a development
set, turn the two into a probability that the word is right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from asr.config import DecodingConfig
from asr.ctc import BLANK
from asr.decoding.words.alignment import FrameSpan
from asr.errors import DataError

# Probabilities nearer to 0 or 1 than this count as this far away. It keeps logits finite; and a word that the lexicon chose
# where the network saw next to nothing of it is right one time in ten, however little that nothing was.
_MARGIN = 1e-3
_NEWTON_STEPS = 100
_TOLERANCE = 1e-10


@dataclass(frozen=True)
class Calibration:
    """Turns evidence into probabilities: ``sigmoid(scale * logit(p) + length * n + bias)``, p and n as in the evidence.

    Attributes
    ----------
    scale
        At least 0, so that of words of one length the more probable are the more confident.
    length
        Above 0 where long words are more often right than the network thinks, as those of a lexicon are.
    bias
        Above 0 where the network's probabilities are too low.
    """

    scale: float = 1.0
    length: float = 0.0
    bias: float = 0.0

    @classmethod
    def configured(cls, config: DecodingConfig) -> Calibration:
        """Return the one that a decoding configuration holds."""
        return cls(config.confidence_scale, config.confidence_length, config.confidence_bias)

    def apply(self, evidence: np.ndarray) -> np.ndarray:
        """Map evidence ``(word, 2)``, as :func:`word_evidence` returns it, to confidences ``(word,)`` in [0, 1]."""
        return _sigmoid(_design(evidence) @ np.array([self.scale, self.length, self.bias]))


def _design(evidence: np.ndarray) -> np.ndarray:
    """Return ``(word, 3)``: logit of the probability, number of tokens, 1."""
    probability = np.clip(evidence[:, 0], _MARGIN, 1 - _MARGIN)
    return np.stack([np.log(probability / (1 - probability)), evidence[:, 1], np.ones(len(evidence))], axis=1)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    result: np.ndarray = 0.5 * (1 + np.tanh(0.5 * x))
    return result


def fit_calibration(evidence: np.ndarray, correct: Sequence[bool] | np.ndarray) -> Calibration:
    """Fit the three numbers to words that are known to be right or wrong (Platt 1999; Lin, Lin and Weng 2007).

    Parameters
    ----------
    evidence
        ``(word, 2)``, as :func:`word_evidence` returns it.
    correct
        ``(word,)``, whether each word is right.

    Returns
    -------
    Calibration
        Of the greatest likelihood. As in Platt's paper a right word counts as right with ``(n_right + 1) / (n_right + 2)`` and
        a wrong one with ``1 / (n_wrong + 2)``, which keeps few or perfectly separated words from giving certainty. Where higher
        probabilities go with more errors, the scale is 0.

    Raises
    ------
    DataError
        Where there is no word, or not the evidence of each.
    """
    right = np.asarray(correct, dtype=bool)
    if evidence.ndim != 2 or evidence.shape != (right.size, 2) or not right.size:
        raise DataError(
            f"calibration: got evidence of shape {evidence.shape} for {right.size} words; expected two numbers for each "
            "word, and one word at least"
        )
    n_right = int(right.sum())
    targets = np.where(right, (n_right + 1) / (n_right + 2), 1 / (len(right) - n_right + 2))
    design = _design(evidence)
    scale, length, bias = _newton(design, targets)
    if scale < 0:
        scale, (length, bias) = 0.0, _newton(design[:, 1:], targets)
    return Calibration(float(scale), float(length), float(bias))


def _newton(design: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the weights of the logistic regression, by Newton's method with halved steps where one goes too far."""
    weights = np.zeros(design.shape[1])
    loss = _cross_entropy(design @ weights, targets)
    for _ in range(_NEWTON_STEPS):
        probability = _sigmoid(design @ weights)
        gradient = design.T @ (probability - targets)
        curvature = (design.T * (probability * (1 - probability))) @ design
        # Words of one length, or one probability, leave a weight undetermined; least squares then takes the smallest step.
        step = np.linalg.lstsq(curvature, gradient, rcond=None)[0]
        while (trial := _cross_entropy(design @ (weights - step), targets)) > loss and np.abs(step).max() > _TOLERANCE:
            step /= 2
        weights, loss = weights - step, trial
        if np.abs(step).max() < _TOLERANCE:
            break
    return weights


def _cross_entropy(logits: np.ndarray, targets: np.ndarray) -> float:
    return float((np.logaddexp(0, logits) - targets * logits).sum())


def word_evidence(
    log_probs: torch.Tensor, tokens: Sequence[int], spans: Sequence[FrameSpan], words: Sequence[range], boundary: int | None
) -> np.ndarray:
    """Return what a confidence is made of.

    Parameters
    ----------
    log_probs
        ``(frame, token)`` natural logarithms of one utterance.
    tokens, spans
        The hypothesis' tokens, and what :func:`asr.decoding.words.alignment.align` returned for them.
    words
        For each word, the positions of its tokens in ``tokens``.
    boundary
        The token between words, or None.

    Returns
    -------
    numpy.ndarray
        ``(word, 2)``: the probability in [0, 1] that the network gives each word, and the number of its tokens.
    """
    if not words:
        return np.zeros((0, 2))
    zones = [_zone(index, tokens, spans, words, boundary, log_probs.shape[0]) for index in range(len(words))]
    n_frames = torch.tensor([span.end - span.start for span, _ in zones])
    batch = torch.zeros(int(n_frames.max()), len(zones), log_probs.shape[1])
    for column, (span, _) in enumerate(zones):
        batch[: span.end - span.start, column] = log_probs[span.start : span.end]
    targets = [[tokens[position] for position in positions] for _, positions in zones]
    lengths = torch.tensor([len(target) for target in targets])
    flat = torch.tensor([token for target in targets for token in target])
    with torch.inference_mode():
        losses = F.ctc_loss(batch, flat, n_frames, lengths, blank=BLANK, reduction="none")
    probabilities = losses.neg().exp().clamp(0.0, 1.0).double().numpy()
    return np.stack([probabilities, [len(word) for word in words]], axis=1)


def _zone(
    index: int, tokens: Sequence[int], spans: Sequence[FrameSpan], words: Sequence[range], boundary: int | None, n_frames: int
) -> tuple[FrameSpan, range]:
    """Return the frames in which a word is judged, and the positions of the tokens that are to be read there.

    The boundary tokens beside the word belong to it. Where there is none, the frames reach to the tokens of the next word.
    """
    first, last = words[index].start, words[index].stop - 1
    start, end = 0, n_frames
    if first > 0:
        has_boundary = tokens[first - 1] == boundary
        first -= has_boundary
        start = spans[first].start if has_boundary else spans[first - 1].end
    if last + 1 < len(tokens):
        has_boundary = tokens[last + 1] == boundary
        last += has_boundary
        end = spans[last].end if has_boundary else spans[last + 1].start
    return FrameSpan(start, end), range(first, last + 1)
