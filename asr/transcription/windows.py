"""Long audio to pieces that the network reads in one go, cut where it is quietest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

# Width over which quietness is judged: longer than the closure of a plosive, shorter than a pause between words.
_QUIET_FRAMES = 20
_FRAMES_PER_S = 100


@dataclass(frozen=True)
class Window:
    """A piece of audio.

    Attributes
    ----------
    start
        Index of its first sample in the whole audio.
    waveform
        ``(sample,)`` float32.
    """

    start: int
    waveform: np.ndarray


def cut_windows(blocks: Iterable[np.ndarray], sample_rate: int, *, window_s: float, earliest_s: float) -> Iterator[Window]:
    """Cut a stream of audio into windows that join without gap or overlap.

    Parameters
    ----------
    blocks
        Consecutive ``(sample,)`` arrays; how they are divided changes nothing.
    sample_rate
        Samples a second.
    window_s
        Longest window (s). Audio up to this length stays whole.
    earliest_s
        A cut is made at the quietest place between this time and ``window_s``.

    Raises
    ------
    ValueError
        Unless ``0 < earliest_s < window_s``, with at least 0.2 s between them.
    """
    longest, earliest = round(window_s * sample_rate), round(earliest_s * sample_rate)
    if not 0 < earliest <= longest - _QUIET_FRAMES * sample_rate // _FRAMES_PER_S:
        raise ValueError(f"earliest_s={earliest_s:g}, window_s={window_s:g}: a cut needs 0 < earliest_s <= window_s - 0.2")
    pending, start = np.zeros(0, dtype=np.float32), 0
    for block in blocks:
        pending = np.concatenate([pending, block])
        while len(pending) > longest:
            cut = earliest + quietest(pending[earliest:longest], sample_rate)
            yield Window(start, pending[:cut].copy())
            pending, start = pending[cut:], start + cut
    if len(pending):
        yield Window(start, pending)


def quietest(waveform: np.ndarray, sample_rate: int) -> int:
    """Return the middle (sample) of the 0.2 s with the least energy, the last such where several are equal.

    Parameters
    ----------
    waveform
        ``(sample,)``, at least 0.2 s.
    sample_rate
        Samples a second.
    """
    hop = max(1, sample_rate // _FRAMES_PER_S)
    frames = waveform[: len(waveform) // hop * hop].reshape(-1, hop)
    energy = np.square(frames, dtype=np.float64).sum(axis=1)
    sums = np.lib.stride_tricks.sliding_window_view(energy, _QUIET_FRAMES).sum(axis=1)
    last = len(sums) - 1 - int(np.argmin(sums[::-1]))
    return (last + _QUIET_FRAMES // 2) * hop
