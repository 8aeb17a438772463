"""From a search's steps back to the tokens and words that it found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class Step:
    """Where each hypothesis ``(utterance, slot)`` came from in one frame.

    Attributes
    ----------
    source
        Its slot before the frame.
    token
        The token that it wrote; 0 for none.
    label
        Label of the word that ended, or -1.
    """

    source: torch.Tensor
    token: torch.Tensor
    label: torch.Tensor


@dataclass(frozen=True)
class TokenPath:
    """What a hypothesis wrote: tokens with their frames, labels of words, and the positions behind these words' last tokens."""

    tokens: tuple[int, ...]
    frames: tuple[int, ...]
    labels: tuple[int, ...]
    ends: tuple[int, ...] = ()


def trace(steps: Sequence[Step], widths: Sequence[int]) -> list[list[TokenPath]]:
    """Follow all hypotheses back.

    Parameters
    ----------
    steps
        One a frame. The utterances are sorted by length, the longest first, and each step holds those that have the frame.
    widths
        Slots of each utterance after its last frame.

    Returns
    -------
    list of list of TokenPath
        For each utterance and slot.
    """
    n_rows, width = len(widths), max(widths)
    slots = np.minimum(np.arange(width), np.array(widths)[:, None] - 1)
    tokens = np.zeros((n_rows, width, len(steps)), dtype=np.int32)
    labels = np.full((n_rows, width, len(steps)), -1, dtype=np.int32)
    for frame in range(len(steps) - 1, -1, -1):
        source, token, label = (part.numpy() for part in vars(steps[frame]).values())
        active = len(source)
        chosen = slots[:active]
        tokens[:active, :, frame] = np.take_along_axis(token, chosen, axis=1)
        labels[:active, :, frame] = np.take_along_axis(label, chosen, axis=1)
        slots[:active] = np.take_along_axis(source, chosen, axis=1)
    return [[_path(tokens[row, slot], labels[row, slot]) for slot in range(n_slots)] for row, n_slots in enumerate(widths)]


def _path(tokens: np.ndarray, labels: np.ndarray) -> TokenPath:
    frames = np.flatnonzero(tokens)
    written = labels[frames]
    ends = np.flatnonzero(written >= 0) + 1
    return TokenPath(
        tuple(tokens[frames].tolist()), tuple(frames.tolist()), tuple(written[written >= 0].tolist()), tuple(ends.tolist())
    )
