"""Connectionist temporal classification (Graves et al. 2006): the losses, and which utterances they can fit. Blank is 0."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F

BLANK = 0


def minimum_frames(tokens: Sequence[int]) -> int:
    """Return the fewest frames that can hold a token sequence: one a token, and a blank between equal neighbours.

    Examples
    --------
    >>> minimum_frames([1, 2, 2, 3])
    5
    """
    return len(tokens) + sum(a == b for a, b in pairwise(tokens))


def ctc_loss(
    log_probs: torch.Tensor, n_frames: torch.Tensor, targets: Sequence[Sequence[int]], *, normalise: bool = True
) -> torch.Tensor:
    """Return the CTC loss of a batch: the negative log-likelihood a token (nats), averaged over all tokens of the batch.

    Parameters
    ----------
    log_probs
        ``(batch, frame, token)`` natural logarithms.
    n_frames
        ``(batch,)`` integers.
    targets
        Token indices of each utterance, none of them blank.
    normalise
        Divide by the number of tokens; otherwise the sum over the batch is returned.

    Returns
    -------
    torch.Tensor
        A scalar; infinite where an utterance has fewer frames than :func:`minimum_frames` asks for.
    """
    lengths = torch.tensor([len(tokens) for tokens in targets], device=log_probs.device)
    flat = torch.tensor([token for tokens in targets for token in tokens], device=log_probs.device)
    loss = F.ctc_loss(log_probs.transpose(0, 1), flat, n_frames, lengths, blank=BLANK, reduction="sum")
    return loss / lengths.sum().clamp(min=1) if normalise else loss


def consistency_loss(log_probs: torch.Tensor, n_frames: torch.Tensor) -> torch.Tensor:
    """Return how far two views of the same utterances are from each other: CR-CTC (Yao et al. 2025, equation 3), summed.

    Each view learns from the other as it stands: no gradient flows through the one that is learnt from. ::

        sum over frames t of  1/2 KL(stop(b_t) || a_t) + 1/2 KL(stop(a_t) || b_t)

    Parameters
    ----------
    log_probs
        ``(2 * batch, frame, token)`` natural logarithms: all utterances in one view, then all in the other.
    n_frames
        ``(2 * batch,)`` integers; those of both views are the same.

    Returns
    -------
    torch.Tensor
        A scalar, in nats.
    """
    a, b = log_probs.chunk(2)
    learnt_from = torch.cat([b, a]).detach()
    divergence = F.kl_div(log_probs, learnt_from, reduction="none", log_target=True).sum(2)
    valid = torch.arange(log_probs.shape[1], device=log_probs.device) < n_frames.to(log_probs.device)[:, None]
    return divergence.masked_fill(~valid, 0.0).sum() / 2
