"""From audio to transcripts: the Python interface of recognition."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from asr.audio import check_waveform, resample, stream_audio
from asr.decoding import build_decoder
from asr.decoding.confidence import Calibration
from asr.decoding.hypothesis import Word
from asr.decoding.waveforms import decode_waveforms
from asr.errors import AudioError
from asr.package import ModelPackage
from asr.transcription.transcript import Segment, Transcript
from asr.transcription.windows import Window, cut_windows

AudioSource = str | os.PathLike[str] | bytes | BinaryIO | np.ndarray
"""A path, the bytes of a file, an open binary file, or an array (or tensor) with its sample rate."""

_BLOCK_S = 60.0


@dataclass(eq=False)
class _Recording:
    """A source on its way through the batches."""

    name: str
    n_samples: int = 0
    error: AudioError | None = None
    segments: list[Segment] = field(default_factory=list)


class Recogniser:
    """A model with its decoder, ready to transcribe. Several threads may use one.

    Parameters
    ----------
    package
        What :func:`asr.package.read_package` returned.
    window_s
        Longer audio is cut into windows of at most this length (s), at quiet places.
    earliest_cut_s
        No window but a recording's last is shorter than this (s).
    batch_s
        Audio recognised at once (s), padding included; it bounds memory and changes no text. By default what is fast:
        30 on a CPU, 600 on a GPU.
    words
        Find the times and confidences of the words as well.

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
        window_s: float = 30.0,
        earliest_cut_s: float = 10.0,
        batch_s: float | None = None,
        words: bool = False,
    ) -> None:
        self.package = package
        self.decoder = build_decoder(package.config.decoding, package.tokenizer, package.folder)
        self.sample_rate = package.config.frontend.sample_rate
        self._words = Calibration.configured(package.config.decoding) if words else None
        self._window_s = window_s
        self._earliest_cut_s = earliest_cut_s
        on_cpu = next(package.model.parameters()).device.type == "cpu"
        self._batch_s = batch_s or (30.0 if on_cpu else 600.0)

    def transcribe(self, source: AudioSource, sample_rate: int | None = None) -> Transcript:
        """Transcribe one recording.

        Parameters
        ----------
        source
            Path, bytes or open file in any format of :func:`asr.audio.load_audio`, or an array ``(sample,)`` or
            ``(sample, channel)``.
        sample_rate
            Samples a second of an array, which has none of its own; left out for everything else.

        Raises
        ------
        AudioError
            Where the source holds no usable audio, or an array comes without its sample rate.
        """
        (result,) = self.transcribe_many([source], sample_rate)
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
        """Transcribe recordings one after the other, batched across them.

        Parameters
        ----------
        sources, sample_rate
            As for :meth:`transcribe`; the rate holds for all arrays.
        on_progress
            Called after each batch with the seconds of audio that were recognised in it.

        Yields
        ------
        Transcript or AudioError
            One for each source, in order: the error, not raised, of one that holds no usable audio.
        """
        waiting: list[_Recording] = []
        batch: list[tuple[_Recording, Window]] = []
        for recording, window in self._windows(sources, sample_rate):
            if not waiting or waiting[-1] is not recording:
                waiting.append(recording)
            if window is None:
                if not batch:
                    yield from self._finished(waiting, before=None)
                continue
            if not self._fits(batch, window):
                self._recognise(batch, on_progress)
                batch = []
                yield from self._finished(waiting, before=recording)
            batch.append((recording, window))
        self._recognise(batch, on_progress)
        yield from self._finished(waiting, before=None)

    def _windows(self, sources: Iterable[AudioSource], sample_rate: int | None) -> Iterator[tuple[_Recording, Window | None]]:
        """Yield each recording's windows, and ``None`` after its last or in place of what could not be read."""
        for source in sources:
            recording = _Recording(_name(source))
            try:
                blocks = self._blocks(source, sample_rate)
                for window in cut_windows(blocks, self.sample_rate, window_s=self._window_s, earliest_s=self._earliest_cut_s):
                    recording.n_samples += len(window.waveform)
                    yield recording, window
            except AudioError as error:
                recording.error = error
            yield recording, None

    def _blocks(self, source: Any, sample_rate: int | None) -> Iterator[np.ndarray]:
        if isinstance(source, (str, os.PathLike)):
            yield from stream_audio(Path(source), self.sample_rate, _BLOCK_S)
        elif isinstance(source, bytes) or hasattr(source, "read"):
            yield from stream_audio(source, self.sample_rate, _BLOCK_S)
        elif sample_rate is None or sample_rate <= 0:
            raise AudioError(f"array: got sample_rate={sample_rate}; an array needs its sample rate in Hz, above 0")
        else:
            yield resample(check_waveform(source, "array"), sample_rate, self.sample_rate)

    def _fits(self, batch: list[tuple[_Recording, Window]], window: Window) -> bool:
        longest = max([len(window.waveform), *(len(other.waveform) for _, other in batch)])
        return not batch or longest * (len(batch) + 1) <= self._batch_s * self.sample_rate

    def _recognise(self, batch: list[tuple[_Recording, Window]], on_progress: Callable[[float], None] | None) -> None:
        if not batch:
            return
        waveforms = [window.waveform for _, window in batch]
        hypotheses = decode_waveforms(self.package.model, self.decoder, waveforms, words=self._words)
        n_samples = 0
        for (recording, window), hypothesis in zip(batch, hypotheses, strict=True):
            n_samples += len(window.waveform)
            if hypothesis.text:
                start_s = window.start / self.sample_rate
                end_s = (window.start + len(window.waveform)) / self.sample_rate
                words = tuple(_later(word, start_s) for word in hypothesis.words)
                recording.segments.append(Segment(start_s, end_s, hypothesis.text, words))
        if on_progress is not None:
            on_progress(n_samples / self.sample_rate)

    def _finished(self, waiting: list[_Recording], before: _Recording | None) -> Iterator[Transcript | AudioError]:
        """Take the recordings that are complete off the list, up to the one given."""
        while waiting and waiting[0] is not before:
            recording = waiting.pop(0)
            yield recording.error or Transcript(
                recording.name,
                recording.n_samples / self.sample_rate,
                tuple(recording.segments),
                self.package.config.name,
                self.package.checkpoint_hash,
            )


def _later(word: Word, seconds: float) -> Word:
    return dataclasses.replace(word, start_s=word.start_s + seconds, end_s=word.end_s + seconds)


def _name(source: Any) -> str:
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source)
    if isinstance(source, bytes):
        return "bytes"
    return str(getattr(source, "name", None) or ("audio" if hasattr(source, "read") else "array"))
