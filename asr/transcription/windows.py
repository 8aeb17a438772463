"""Recordings of any length to pieces that the network reads in one go: the speech in them, cut at pauses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from asr.errors import ConfigError
from asr.resampling import resample_blocks
from asr.transcription.speech import FRAME, SAMPLE_RATE, SpeechDetector

_FRAMES_PER_S = SAMPLE_RATE / FRAME

# Speech begins at the first of these probabilities and lasts until they stay below the second.
_BEGIN, _GO_ON = 0.4, 0.25
_SHORTEST_SPEECH_S = 0.1
_SHORTEST_PAUSE_S = 0.2
# A longer pause is given to no window, but for what belongs to the speech around it.
_LONGEST_PAUSE_S = 1.0
_AROUND_SPEECH_S = 0.3
_OVERLAP_S = 4.0


@dataclass(frozen=True)
class Window:
    """A piece of a recording.

    Attributes
    ----------
    start
        Index of its first sample in the recording.
    waveform
        ``(sample,)`` float32.
    shared
        Samples at its start that the window before it holds as well, since there was no pause to cut at; mostly 0.
    goes_on
        Whether the next window shares samples with this one.
    """

    start: int
    waveform: np.ndarray
    shared: int = 0
    goes_on: bool = False

    @property
    def end(self) -> int:
        """Index behind its last sample."""
        return self.start + len(self.waveform)


@dataclass(frozen=True)
class WindowSpan:
    """The place of a window in frames of the detector; attributes as in :class:`Window`."""

    start: int
    end: int
    shared: int = 0
    goes_on: bool = False


def cut_windows(
    blocks: Iterable[np.ndarray],
    sample_rate: int,
    name: str,
    *,
    detector: SpeechDetector | None,
    window_s: float,
    earliest_s: float,
) -> Iterator[Window]:
    """Cut a stream of audio into windows that hold all speech and little else.

    Parameters
    ----------
    blocks
        Consecutive ``(sample,)`` arrays; how they are divided changes nothing.
    sample_rate
        Samples a second.
    name
        What to call the recording in an error.
    detector
        Finds the speech; ``None`` takes all audio for speech without pauses.
    window_s, earliest_s
        As for :class:`Planner`.

    Yields
    ------
    Window
        In order of time, each as soon as it is complete; no audio is kept longer than that.
    """
    buffer = _Buffer(sample_rate)
    passing = resample_blocks(buffer.passing(blocks), sample_rate, SAMPLE_RATE, name)
    planner = Planner(window_s, earliest_s)
    for probabilities in detector.probabilities(passing) if detector else _certainty(passing):
        for span in planner.feed(probabilities):
            yield buffer.window(span)
        buffer.forget(planner.needed)
    for span in planner.finish():
        yield buffer.window(span)


def _certainty(blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    n_samples = n_frames = 0
    for block in blocks:
        n_samples += len(block)
        yield np.ones(-(-n_samples // FRAME) - n_frames)
        n_frames = -(-n_samples // FRAME)


class Planner:
    """Decides from the probabilities of speech where windows begin and end.

    A window ends in the longest of its pauses when it would grow too long, and in any case in a pause of 1 s. Where there is no
    pause, the next window starts 4 s before this one's end.

    Parameters
    ----------
    window_s
        Longest window (s).
    earliest_s
        Pauses from this time in a window on are preferred (s).

    Raises
    ------
    ConfigError
        Unless ``0 <= earliest_s < window_s`` and windows are longer than two overlaps, and finite.
    """

    def __init__(self, window_s: float, earliest_s: float) -> None:
        if not (2 * _OVERLAP_S < window_s < float("inf") and 0 <= earliest_s < window_s):
            raise ConfigError(
                f"window_s={window_s:g}, earliest_cut_s={earliest_s:g}: expected a finite window of more than "
                f"{2 * _OVERLAP_S:g} s and its earliest cut before its end"
            )
        self._longest, self._earliest = _frames(window_s), _frames(earliest_s)
        self._now = 0
        self._speaking = False
        self._start: int | None = None  # of the window that is being filled
        self._shared = 0
        self._n_speech = 0  # frames of speech in it, without those that are shared
        self._speech_end = 0
        self._pauses: list[tuple[int, int]] = []
        self._free = 0  # the frame behind the last window

    @property
    def needed(self) -> int:
        """The first frame that a window to come may hold."""
        return self._start if self._start is not None else max(self._free, self._now - _AROUND)

    def feed(self, probabilities: np.ndarray) -> Iterator[WindowSpan]:
        """Take the probabilities of the next frames, ``(frame,)``, and yield the windows that are complete."""
        for probability in probabilities.tolist():
            self._speaking = probability >= (_GO_ON if self._speaking else _BEGIN)
            if self._speaking:
                self._speech()
            self._now += 1
            if self._start is None:
                continue
            if self._now - self._speech_end >= _LONGEST_PAUSE:
                yield from self._close()
            elif self._now - self._start >= self._longest:
                yield self._cut()

    def finish(self) -> Iterator[WindowSpan]:
        """Yield the last window."""
        if self._start is not None:
            yield from self._close()

    def _speech(self) -> None:
        if self._start is None:
            self._start = max(self._free, self._now - _AROUND)
        elif self._now - self._speech_end >= _SHORTEST_PAUSE:
            self._pauses.append((self._speech_end, self._now))
        self._n_speech += 1
        self._speech_end = self._now + 1

    def _close(self) -> Iterator[WindowSpan]:
        """End the window behind its speech, if that is more than a click."""
        assert self._start is not None
        if self._n_speech >= _SHORTEST_SPEECH:
            self._free = min(self._speech_end + _AROUND, self._now)
            yield WindowSpan(self._start, self._free, self._shared)
        self._open(None)

    def _cut(self) -> WindowSpan:
        """End the window that has become too long in its best pause, and begin the next."""
        assert self._start is not None
        start, shared = self._start, self._shared
        pauses = [*self._pauses, (self._speech_end, self._now)]
        pauses = [(begin, end) for begin, end in pauses if end - begin >= _SHORTEST_PAUSE]
        late = [pause for pause in pauses if pause[0] - start >= self._earliest]
        if not pauses:
            self._open(self._now - _OVERLAP, shared=_OVERLAP)
            return WindowSpan(start, self._now, shared, goes_on=True)
        begin, end = max(late or pauses, key=lambda pause: (pause[1] - pause[0], pause))
        middle = (begin + end) // 2
        self._free = min(begin + _AROUND, middle)
        self._open(max(end - _AROUND, middle) if end < self._now else None)
        self._n_speech = self._speech_end - end if end < self._now else 0
        self._pauses = [pause for pause in pauses if end < pause[0] and pause[1] < self._now]
        return WindowSpan(start, self._free, shared)

    def _open(self, start: int | None, shared: int = 0) -> None:
        self._start, self._shared, self._n_speech, self._pauses = start, shared, 0, []


def _frames(seconds: float) -> int:
    return round(seconds * _FRAMES_PER_S)


_SHORTEST_SPEECH, _SHORTEST_PAUSE, _LONGEST_PAUSE = (
    _frames(_SHORTEST_SPEECH_S),
    _frames(_SHORTEST_PAUSE_S),
    _frames(_LONGEST_PAUSE_S),
)
_AROUND, _OVERLAP = _frames(_AROUND_SPEECH_S), _frames(_OVERLAP_S)


class _Buffer:
    """The audio that windows may still be made of."""

    def __init__(self, sample_rate: int) -> None:
        self._sample_rate = sample_rate
        self._start = 0
        self._audio = np.zeros(0, np.float32)

    def passing(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Keep each block and hand it on."""
        for block in blocks:
            self._audio = np.concatenate([self._audio, block])
            yield block

    def window(self, span: WindowSpan) -> Window:
        """Cut out a window."""
        start, end = self._sample(span.start), self._sample(span.end)
        waveform = self._audio[start - self._start : end - self._start].copy()
        return Window(start, waveform, self._sample(span.start + span.shared) - start, span.goes_on)

    def forget(self, frame: int) -> None:
        """Drop what lies before a frame."""
        self._audio = self._audio[self._sample(frame) - self._start :]
        self._start = self._sample(frame)

    def _sample(self, frame: int) -> int:
        return frame * FRAME * self._sample_rate // SAMPLE_RATE
