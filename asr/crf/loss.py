"""The loss: CTC's numerator over the denominator, and CTC's own loss beside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import nn

from asr.crf.ngram import estimate_ngram, log_probability
from asr.crf.paths import denominator
from asr.ctc import ctc_loss
from asr.errors import ConfigError

MAX_NGRAMS = 1 << 24
"""Entries of the largest n-gram: of 64 tokens in a 4-gram, 256 in a trigram, 4096 in a bigram."""


class CtcCrf(nn.Module):
    """The negative log-probability of the labels in a conditional random field, plus a share of CTC's loss.

    The field gives a path the probability of its frames times the n-gram's of its labels, over the sum of all paths' ::

        loss = log Z - log P(labels) + (1 + ctc_weight) * CTC loss

    The n-gram is part of checkpoints; a package has no use for it.

    Parameters
    ----------
    n_tokens
        Number of tokens, the blank included.
    order
        Length of the n-grams.
    ctc_weight
        Weight of CTC's loss beside the field's.

    Raises
    ------
    ConfigError
        The n-gram is too large to be held whole.
    """

    def __init__(self, n_tokens: int, order: int, ctc_weight: float) -> None:
        super().__init__()
        check_size(n_tokens, order)
        self.ctc_weight = ctc_weight
        # No buffer, which a run of several processes would send around in every step.
        self.ngram = nn.Parameter(torch.full((n_tokens,) * order, 1 / n_tokens), requires_grad=False)

    def fit(self, sequences: Iterable[Sequence[int]]) -> None:
        """Estimate the n-gram from sequences of labels."""
        self.ngram.copy_(estimate_ngram(sequences, len(self.ngram), self.ngram.dim()))

    def forward(self, log_probs: torch.Tensor, n_frames: torch.Tensor, targets: Sequence[Sequence[int]]) -> torch.Tensor:
        """Return the loss of a batch, summed over it, in nats; infinite as :func:`asr.ctc.ctc_loss` is.

        Parameters
        ----------
        log_probs
            ``(batch, frame, token)`` natural logarithms.
        n_frames
            ``(batch,)`` integers.
        targets
            Token indices of each utterance, none of them blank.
        """
        numerator = ctc_loss(log_probs, n_frames, targets, normalise=False)
        log_z = denominator(log_probs, n_frames, self.ngram).sum()
        return log_z - log_probability(targets, self.ngram) + (1 + self.ctc_weight) * numerator


def check_size(n_tokens: int, order: int) -> None:
    """Refuse an n-gram that is too large to be held whole.

    Raises
    ------
    ConfigError
        Saying which order is possible.
    """
    if n_tokens**order <= MAX_NGRAMS:
        return
    possible = max(n for n in range(1, order) if n == 1 or n_tokens**n <= MAX_NGRAMS)
    raise ConfigError(
        f"optim.crf_order={order}: with {n_tokens} tokens the denominator would have {n_tokens**order:,} n-grams, more than "
        f"{MAX_NGRAMS:,}; choose optim.crf_order={possible}, or fewer tokens (tokens.size, or tokens.kind=phones)"
    )
