"""Forced alignment: in which of the network's output frames the tokens of a known text lie."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch

from asr.ctc import BLANK, minimum_frames
from asr.errors import DataError


class FrameSpan(NamedTuple):
    """Consecutive output frames, half open."""

    start: int
    end: int


def align(log_probs: torch.Tensor, tokens: Sequence[int]) -> list[FrameSpan]:
    """Return the frames of each token on the likeliest of the alignments that read the given tokens.

    The Viterbi algorithm over the CTC lattice (Graves et al. 2006; Kürzinger et al. 2020), by torchaudio.

    Parameters
    ----------
    log_probs
        ``(frame, token)`` natural logarithms of one utterance.
    tokens
        Token indices without blanks and repeats.

    Returns
    -------
    list of FrameSpan
        One for each token, in order, disjoint: the frames that carry the token, blanks before and after it not among them.

    Raises
    ------
    DataError
        Where there are fewer frames than the tokens need, or no alignment has a probability above zero.

    Examples
    --------
    >>> align(torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.9, 0.1], [0.3, 0.7]]).log(), [1, 1])
    [FrameSpan(start=1, end=2), FrameSpan(start=3, end=4)]
    """
    if not tokens:
        return []
    n_frames, needed = log_probs.shape[0], minimum_frames(tokens)
    if n_frames < needed:
        raise DataError(
            f"alignment: {len(tokens)} tokens need {needed} frames at least (one each, and a blank between equal neighbours), "
            f"but the audio gives {n_frames}; the text is not that of this audio"
        )
    from torchaudio.functional import forced_align

    targets = torch.tensor([list(tokens)], dtype=torch.int64)
    path, scores = forced_align(log_probs.detach().float().cpu()[None].contiguous(), targets, blank=BLANK)
    if not bool(scores.isfinite().all()):
        raise DataError("alignment: the network gives this text a probability of zero or NaN; it cannot be aligned")
    labels = path[0].numpy()
    changes = np.flatnonzero(labels[1:] != labels[:-1]) + 1
    edges = [0, *changes.tolist(), n_frames]
    return [FrameSpan(a, b) for a, b in pairwise(edges) if labels[a] != BLANK]
