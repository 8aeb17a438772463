"""Where in the audio words begin and end.

The network decides the order and the rough place. Its tokens are spikes of a frame or two, whose place inside the word is
whatever training made it: at a word's edges they lie some 40 ms inside it within fluent speech, and up to a tenth of a second
outside it beside a pause. So the edges of words are put where the audio is quiet: round a pause where there is one, at the
quietest moment between two words otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from asr.decoding.words.alignment import FrameSpan

LOUDNESS_HOP_S = 0.01
# Words begin and end up to this far beyond the frames of their outer tokens.
_REACH_S = 0.3
# The closure of a plosive is shorter than this, a pause longer.
_PAUSE_S = 0.08
# Quiet is what lies in the lower part of the range between background and speech; a narrow range is noise or music.
_BACKGROUND_PERCENTILE, _SPEECH_PERCENTILE = 5, 90
_QUIET_SHARE = 0.25
_LEAST_RANGE_DB = 15.0
_SILENCE = 1e-10


def loudness(waveform: np.ndarray, sample_rate: int) -> np.ndarray:
    """Return the power of a waveform in dB, ``(frame,)``, a value each 10 ms, smoothed over 30 ms.

    Parameters
    ----------
    waveform
        ``(sample,)`` in [-1, 1]; what does not fill a last frame is left out.
    sample_rate
        Samples a second.
    """
    hop = round(LOUDNESS_HOP_S * sample_rate)
    frames = waveform[: len(waveform) // hop * hop].reshape(-1, hop)
    power = np.square(frames, dtype=np.float64).mean(axis=1)
    decibels = 10 * np.log10(power + _SILENCE)
    if not len(decibels):
        return decibels
    smoothed: np.ndarray = np.convolve(np.pad(decibels, 1, mode="edge"), np.full(3, 1 / 3), "valid")
    return smoothed


def word_edges(
    spans: Sequence[FrameSpan], frame_s: float, duration_s: float, loudness_db: np.ndarray | None = None
) -> list[tuple[float, float]]:
    """Turn the frames of words into times, sharing out what lies between them.

    Parameters
    ----------
    spans
        For each word, from the first frame of its first token to the last of its last; in order and disjoint.
    frame_s
        Seconds between output frames; frame ``k`` is centred on ``k * frame_s``.
    duration_s
        Length of the audio (s).
    loudness_db
        What :func:`loudness` returned. Without it, or without contrast in it, words touch half-way between their tokens, and
        the first and the last one reach no further than their tokens.

    Returns
    -------
    list of tuple of float
        Start and end of each word (s), ``0 <= start <= end <= duration_s``, in order and without overlap.
    """
    tokens = np.clip([((span.start - 0.5) * frame_s, (span.end - 0.5) * frame_s) for span in spans], 0.0, duration_s)
    middles = [0.0, *(0.5 * (start + end) for start, end in tokens), duration_s]
    quiet = _Quiet.of(loudness_db)
    gaps = []
    for index in range(len(spans) + 1):
        left = tokens[index - 1][1] if index else 0.0
        right = tokens[index][0] if index < len(spans) else duration_s
        reach = max(middles[index], left - _REACH_S), min(middles[index + 1], right + _REACH_S)
        is_outer = index in (0, len(spans))
        gap = quiet.pause((left, right), reach, least_s=0.0 if is_outer else _PAUSE_S)
        if gap is None:
            # Nothing is said before the first word and after the last one.
            meeting = min(max(quiet.moment(left - frame_s / 2, right + frame_s / 2), reach[0]), reach[1])
            gap = (left, right) if is_outer else (meeting, meeting)
        gaps.append(gap)
    return [(before[1], after[0]) for before, after in pairwise(gaps)]


@dataclass(frozen=True)
class _Quiet:
    """Where the audio is quiet.

    Attributes
    ----------
    levels
        ``(frame,)`` loudness (dB); empty where speech does not stand out from the background.
    stretches
        ``(stretch, 2)`` starts and ends (s) of all that is quiet, however short.
    """

    levels: np.ndarray
    stretches: np.ndarray

    @classmethod
    def of(cls, levels: np.ndarray | None) -> _Quiet:
        if levels is not None and len(levels):
            low, high = np.percentile(levels, [_BACKGROUND_PERCENTILE, _SPEECH_PERCENTILE])
            if high - low >= _LEAST_RANGE_DB:
                is_quiet = np.concatenate([[False], levels < low + _QUIET_SHARE * (high - low), [False]])
                return cls(levels, np.flatnonzero(is_quiet[1:] != is_quiet[:-1]).reshape(-1, 2) * LOUDNESS_HOP_S)
        return cls(np.zeros(0), np.zeros((0, 2)))

    def pause(self, gap: tuple[float, float], reach: tuple[float, float], least_s: float) -> tuple[float, float] | None:
        """Return the longest stretch, cut to the reach, of those that touch the gap; None where none is longer than given."""
        inside = np.clip(self.stretches, *reach)
        lengths = (inside[:, 1] - inside[:, 0]) * ((inside[:, 1] >= gap[0]) & (inside[:, 0] <= gap[1]))
        best = int(np.argmax(lengths)) if len(lengths) else -1
        return (float(inside[best, 0]), float(inside[best, 1])) if best >= 0 and lengths[best] > least_s else None

    def moment(self, left: float, right: float) -> float:
        """Return the quietest moment between two times (s), or the middle."""
        first, last = round(left / LOUDNESS_HOP_S), round(right / LOUDNESS_HOP_S)
        between = self.levels[max(first, 0) : last]
        return (max(first, 0) + int(np.argmin(between)) + 0.5) * LOUDNESS_HOP_S if len(between) else 0.5 * (left + right)
