"""From audio to transcripts: the Python interface of recognition."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from numbers import Real
from pathlib import Path
from threading import Lock, Thread
from typing import Any, BinaryIO

import numpy as np
import torch

from asr.audio import stream_audio
from asr.decoding import build_decoder
from asr.decoding.hypothesis import Hypothesis, Word
from asr.decoding.waveforms import decode_waveforms
from asr.decoding.words.confidence import Calibration
from asr.errors import AudioError, ConfigError
from asr.package.load import ModelPackage
from asr.resampling import resample
from asr.transcription.recording import Recording
from asr.transcription.speech import SpeechDetector
from asr.transcription.stitch import after, before, seam
from asr.transcription.transcript import Segment, Transcript
from asr.transcription.windows import Planner, Window, cut_windows
from asr.waveform import check_rate, check_waveform, unpack_recording

AudioSource = (
    str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | np.ndarray | tuple[Any, Any] | Mapping[str, Any]
)
"""A path, the bytes of a file, an open binary file, or an array (or tensor) with its sample rate beside it or in it."""

_BYTES = (bytes, bytearray, memoryview)
_BLOCK_S = 30.0
# Batches recognised at once. Several, of one core each, are faster than one on all cores; each takes memory.
_MOST_WORKERS = 4
_SETTING = Lock()
"""Held while the number of torch's threads is not what the program set."""


_Batch = list[tuple[Recording, Window | None]]
"""Windows, and None behind the last one of a recording."""


class Recogniser:
    """A model with its decoder, ready to transcribe. Several threads may use one.

    Parameters
    ----------
    package
        What :func:`asr.package.load.read_package` returned.
    vad
        Give the network only what a voice activity detector takes for speech; otherwise all of the audio.
    channel
        The channel to take, counted from 0; by default the mean of all.
    track
        The audio track of a file to take, counted from 0; by default the one that the file marks as its default.
    keep_going
        Transcribe what can be read of damaged files, and name what is lost; otherwise they are errors.
    window_s
        Longer stretches of speech are cut into windows of at most this length (s), more than 8, in pauses. Where there is no
        pause, windows overlap.
    earliest_cut_s
        Pauses from this time in a window on are preferred (s).
    batch_s
        Audio recognised at once (s), padding included; it bounds memory and changes no text. By default what is fast:
        30 on a CPU, 600 on a GPU.
    words
        Find the times and confidences of the words as well.

    Raises
    ------
    ConfigError
        For a ``window_s``, ``earliest_cut_s`` or ``batch_s`` that cannot be, or decoding settings that this package cannot use.

    Examples
    --------
    >>> recogniser = Recogniser(read_package("runs/mini/package"))  # doctest: +SKIP
    >>> recogniser.transcribe("talk.mp3").text  # doctest: +SKIP
    'so we set out again'
    """

    def __init__(
        self,
        package: ModelPackage,
        *,
        vad: bool = True,
        channel: int | None = None,
        track: int | None = None,
        keep_going: bool = False,
        window_s: float = 30.0,
        earliest_cut_s: float = 10.0,
        batch_s: float | None = None,
        words: bool = False,
    ) -> None:
        Planner(window_s, earliest_cut_s)  # refuses what cannot be
        if batch_s is not None and not 0 < batch_s < float("inf"):
            raise ConfigError(f"batch_s={batch_s:g}: expected a number of seconds above 0, or None for what is fast")
        self.package = package
        self.decoder = build_decoder(package.config.decoding, package.tokenizer, package.folder)
        self.sample_rate = package.config.frontend.sample_rate
        self._detector = SpeechDetector() if vad else None
        self._channel = channel
        self._track = track
        self._keep_going = keep_going
        self._words = Calibration.configured(package.config.decoding) if words else None
        self._window_s = window_s
        self._earliest_cut_s = earliest_cut_s
        self._on_cpu = next(package.model.parameters()).device.type == "cpu"
        self._batch_s = batch_s if batch_s is not None else 30.0 if self._on_cpu else 600.0

    def transcribe(self, source: AudioSource, sample_rate: int | None = None) -> Transcript:
        """Transcribe one recording.

        Parameters
        ----------
        source
            Path, bytes or open file in any format of :func:`asr.audio.load_audio`; an array or tensor as for
            :func:`asr.waveform.check_waveform`; or one with its rate, as for :func:`asr.waveform.unpack_recording`:
            ``(rate, array)``, ``(array, rate)``, ``{"array": ..., "sampling_rate": ...}``.
        sample_rate
            Samples a second of an array that comes without, a whole number from 1000 to 768000; left out for everything else.

        Raises
        ------
        AudioError
            Where the source holds no usable audio, or an array comes without its sample rate or with one that cannot be.
        """
        (result,) = self._results([source], sample_rate, None)
        if isinstance(result, AudioError):
            raise result
        return result

    def transcribe_many(
        self,
        sources: Iterable[AudioSource],
        sample_rate: int | None = None,
        *,
        on_progress: Callable[[float], None] | None = None,
    ) -> Iterator[Transcript | AudioError]:
        """Transcribe recordings, batched across them, on several cores.

        Parameters
        ----------
        sources, sample_rate
            As for :meth:`transcribe`; the rate holds for all arrays.
        on_progress
            Called now and then with the seconds of audio that were done since it was last called, silence included.

        Yields
        ------
        Transcript or AudioError
            One for each source, in order, as soon as it is ready: the error, not raised, of one that holds no usable audio.
        """
        if _is_one(sources):
            raise ConfigError(
                f"transcribe_many: expected several recordings, got one {type(sources).__name__}; put it into a list"
            )
        yield from self._results(sources, sample_rate, on_progress)

    def _results(
        self, sources: Iterable[AudioSource], sample_rate: int | None, on_progress: Callable[[float], None] | None
    ) -> Iterator[Transcript | AudioError]:
        segments: list[Segment] = []
        for recording, segment in self._run(sources, sample_rate, on_progress):
            if segment is not None:
                segments.append(segment)
                continue
            yield recording.error or self._transcript(recording, segments)
            segments = []

    def stream(
        self,
        source: AudioSource,
        sample_rate: int | None = None,
        *,
        on_progress: Callable[[float], None] | None = None,
        on_notice: Callable[[str], None] | None = None,
    ) -> Generator[Segment, None, None]:
        """Transcribe one recording, however long, and yield its segments while the rest is still being read.

        Parameters
        ----------
        source, sample_rate
            As for :meth:`transcribe`.
        on_progress
            As for :meth:`transcribe_many`.
        on_notice
            Called at the end with each of what a transcript has as its notices and losses. Without it, losses are Python
            warnings.

        Yields
        ------
        Segment
            In order of time. Closing the generator ends the work.

        Raises
        ------
        AudioError
            As for :meth:`transcribe`; what comes before a place that cannot be read is yielded first.
        """
        n_segments = 0
        for recording, segment in self._run([source], sample_rate, on_progress):
            if segment is not None:
                n_segments += 1
                yield segment
            elif recording.error is not None:
                raise recording.error
            elif on_notice is not None:
                for notice in (*recording.all_notices(n_segments, self.sample_rate), *recording.losses):
                    on_notice(notice)
            else:
                for loss in recording.losses:
                    warnings.warn(f"{recording.name}: {loss}", stacklevel=2)

    def _run(
        self, sources: Iterable[AudioSource], sample_rate: int | None, on_progress: Callable[[float], None] | None
    ) -> Iterator[tuple[Recording, Segment | None]]:
        """Yield each recording's segments, and ``None`` after its last."""
        for batch, hypotheses in self._recognised(self._batches(sources, sample_rate)):
            if on_progress is not None:
                on_progress(sum(recording.told(window) for recording, window in batch) / self.sample_rate)
            readings = iter(hypotheses)
            for recording, window in batch:
                found = self._joined(recording, window, next(readings) if window else None)
                yield from ((recording, self._shown(segment)) for segment in found if segment.text)
                if window is None:
                    yield recording, None

    def _batches(self, sources: Iterable[AudioSource], sample_rate: int | None) -> Iterator[_Batch]:
        batch: _Batch = []
        for recording, window in self._windows(sources, sample_rate):
            if window is not None and not self._fits(batch, window):
                yield batch
                batch = []
            batch.append((recording, window))
            if all(other is None for _, other in batch):  # what holds no speech waits for nothing
                yield batch
                batch = []
        if batch:
            yield batch

    def _windows(self, sources: Iterable[AudioSource], sample_rate: int | None) -> Iterator[tuple[Recording, Window | None]]:
        """Yield each recording's windows, and ``None`` after its last or in place of what could not be read."""
        for source in sources:
            recording = Recording(_name(source))
            try:
                for window in cut_windows(
                    recording.counted(self._blocks(source, sample_rate, recording)),
                    self.sample_rate,
                    recording.name,
                    detector=self._detector,
                    window_s=self._window_s,
                    earliest_s=self._earliest_cut_s,
                ):
                    recording.n_windows += 1
                    yield recording, window
            except AudioError as error:
                recording.error = error
            yield recording, None

    def _blocks(self, source: Any, sample_rate: int | None, recording: Recording) -> Iterator[np.ndarray]:
        source, sample_rate = unpack_recording(source, sample_rate, "array")
        tell = recording.notices.append
        if isinstance(source, (str, os.PathLike, *_BYTES)) or hasattr(source, "read"):
            file = bytes(source) if isinstance(source, _BYTES) else source if hasattr(source, "read") else Path(source)
            lose = recording.losses.append if self._keep_going else None
            yield from stream_audio(
                file, self.sample_rate, _BLOCK_S, channel=self._channel, track=self._track, tell=tell, lose=lose
            )
        elif sample_rate is None:
            check_waveform(source, "array")  # what is no array at all needs no rate
            raise AudioError("array: comes without a sample rate; an array needs sample_rate, in Hz")
        else:
            rate = check_rate(sample_rate, "array", "give sample_rate in Hz, as an int")
            yield resample(check_waveform(source, "array", self._channel, tell), rate, self.sample_rate)

    def _fits(self, batch: _Batch, window: Window) -> bool:
        lengths = [len(other.waveform) for _, other in batch if other is not None]
        return not lengths or max(*lengths, len(window.waveform)) * (len(lengths) + 1) <= self._batch_s * self.sample_rate

    def _recognised(self, batches: Iterator[_Batch]) -> Iterator[tuple[_Batch, list[Hypothesis]]]:
        """Recognise batches, several at once and while the next are being read, and yield them in order."""
        waiting: deque[tuple[_Batch, Future[list[Hypothesis]]]] = deque()
        with _threads(self._on_cpu) as (reader, workers, n_workers):
            try:
                reading = reader.submit(next, batches, None)
                while (batch := reading.result()) is not None:
                    reading = reader.submit(next, batches, None)
                    waiting.append((batch, workers.submit(self._hypotheses, batch)))
                    while waiting and (len(waiting) > n_workers or waiting[0][1].done()):
                        batch, future = waiting.popleft()
                        yield batch, future.result()
                while waiting:
                    batch, future = waiting.popleft()
                    yield batch, future.result()
            finally:
                for _, future in waiting:
                    future.cancel()

    def _hypotheses(self, batch: _Batch) -> list[Hypothesis]:
        windows = [window for _, window in batch if window is not None]
        words = self._words
        if words is None and any(window.shared or window.goes_on for window in windows):
            words = Calibration()
        return decode_waveforms(self.package.model, self.decoder, [window.waveform for window in windows], words=words)

    def _joined(self, recording: Recording, window: Window | None, hypothesis: Hypothesis | None) -> Iterator[Segment]:
        """Yield the segments that are complete when a window has been recognised, or the recording has ended."""
        held, recording.held = recording.held, None
        if window is None or hypothesis is None:
            if held is not None:
                yield held
            return
        start_s, end_s = window.start / self.sample_rate, window.end / self.sample_rate
        words = tuple(_later(word, start_s) for word in hypothesis.words)
        others = tuple(other.text for other in hypothesis.n_best[1:])
        segment = Segment(start_s, end_s, hypothesis.text, words, others)
        if held is not None:
            if window.shared:
                cut_s = seam(held.words, words, start_s, start_s + window.shared / self.sample_rate)
                held = _spoken(held.start_s, cut_s, before(held.words, cut_s))
                segment = _spoken(cut_s, end_s, after(words, cut_s))
            yield held
        if window.goes_on:
            recording.held = segment
        else:
            yield segment

    def _shown(self, segment: Segment) -> Segment:
        """Return a segment without the words that only joining asked for."""
        return segment if self._words is not None else dataclasses.replace(segment, words=())

    def _transcript(self, recording: Recording, segments: Sequence[Segment]) -> Transcript:
        config = self.package.config
        return Transcript(
            recording.name,
            recording.n_read / self.sample_rate,
            tuple(segments),
            config.name,
            self.package.checkpoint_hash,
            self._channel,
            recording.all_notices(len(segments), self.sample_rate),
            tuple(recording.losses),
        )


@contextmanager
def _threads(on_cpu: bool) -> Iterator[tuple[ThreadPoolExecutor, ThreadPoolExecutor, int]]:
    """Yield a thread that reads, threads that recognise, and how many; on a CPU these share torch's threads."""
    with _SETTING:
        n_threads = torch.get_num_threads()
    n_workers = min(n_threads, _MOST_WORKERS) if on_cpu else 2
    share = max(1, n_threads // n_workers)
    with (
        # The detector's steps are too small to be worth sharing.
        ThreadPoolExecutor(1, "recogniser-reader", _take, (1,)) as reader,
        ThreadPoolExecutor(n_workers, "recogniser", _take, (share,)) as workers,
    ):
        yield reader, workers, n_workers


def _take(n_threads: int) -> None:
    """Let the calling thread, a new one, compute with so many of torch's threads.

    torch then has threads to come take as many, those of callers at the same time among them; only another thread can set that
    back without changing this one.
    """
    with _SETTING:
        default = torch.get_num_threads()  # asked before, since torch sets a thread to the default when it is first used
        torch.set_num_threads(n_threads)
        other = Thread(target=torch.set_num_threads, args=(default,))
        other.start()
        other.join()


def _spoken(start_s: float, end_s: float, words: tuple[Word, ...]) -> Segment:
    return Segment(start_s, end_s, " ".join(word.text for word in words), words)


def _later(word: Word, seconds: float) -> Word:
    return dataclasses.replace(word, start_s=word.start_s + seconds, end_s=word.end_s + seconds)


def _is_one(sources: Any) -> bool:
    """Say whether what should be several recordings is one: its letters, lines or samples would each be taken for one."""
    if isinstance(sources, (str, os.PathLike, Mapping, *_BYTES)) or hasattr(sources, "read"):
        return True
    if hasattr(sources, "ndim"):  # an array of samples, and not of paths or waveforms; PyTorch's types have no kind
        return bool(sources.ndim == 0 or (sources.ndim == 1 and getattr(sources.dtype, "kind", "f") in "biufc"))
    return isinstance(sources, Sequence) and any(isinstance(source, Real) for source in sources)


def _name(source: Any) -> str:
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source)
    if isinstance(source, _BYTES):
        return "bytes"
    if isinstance(source, Mapping) and source.get("path"):
        return str(source["path"])
    return str(getattr(source, "name", None) or ("audio" if hasattr(source, "read") else "array"))
