"""What every decoder returns."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Hypothesis:
    """One reading of an utterance.

    Attributes
    ----------
    text
        The transcript.
    tokens
        Token indices, blanks and repeats removed.
    frames
        For each token, the output frame at which it first appears.
    score
        Natural logarithm of the score by which the decoder ranked it.
    """

    text: str
    tokens: tuple[int, ...]
    frames: tuple[int, ...]
    score: float
