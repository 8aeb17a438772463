"""Windows that share audio to one text, without lost or doubled words."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from asr.decoding.hypothesis import Word

# A cut this share of a second further from the middle is as bad as one a second deeper inside a word.
_DISTANCE_WEIGHT = 0.05


def seam(left: Sequence[Word], right: Sequence[Word], start_s: float, end_s: float) -> float:
    """Find the time to cut at, as far as possible between words of both readings and near the middle.

    Parameters
    ----------
    left, right
        The words of two windows, with times that count from the start of the recording.
    start_s, end_s
        The time that both windows hold (s).

    Returns
    -------
    float
        A time between the two (s).
    """
    middle = (start_s + end_s) / 2
    edges = [time for word in (*left, *right) for time in (word.start_s, word.end_s) if start_s < time < end_s]

    def cost(time: float) -> float:
        inside = sum(max(0.0, min(time - word.start_s, word.end_s - time)) for word in (*left, *right))
        return inside + _DISTANCE_WEIGHT * abs(time - middle)

    return min([middle, *edges], key=cost)


def before(words: Sequence[Word], time_s: float) -> tuple[Word, ...]:
    """Return the words that lie mostly before a time, none of them reaching beyond it."""
    kept = [word for word in words if word.start_s + word.end_s < 2 * time_s]
    return tuple(dataclasses.replace(word, end_s=min(word.end_s, time_s)) for word in kept)


def after(words: Sequence[Word], time_s: float) -> tuple[Word, ...]:
    """Return the words that do not lie mostly before a time, none of them beginning before it."""
    kept = [word for word in words if word.start_s + word.end_s >= 2 * time_s]
    return tuple(dataclasses.replace(word, start_s=max(word.start_s, time_s)) for word in kept)
