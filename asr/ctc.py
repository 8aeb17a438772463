"""Connectionist temporal classification (Graves et al. 2006): the loss, and which utterances it can fit. Blank is 0."""

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
