"""The audio of cuts: read from its file, and kept in memory."""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from asr.audio import load_audio
from asr.errors import AudioError, ConfigError, lacks_memory
from asr.mixing import to_mono
from asr.resampling import resample

if TYPE_CHECKING:
    from lhotse.cut import Cut

_INT16_SCALE = np.float32(32768.0)


def to_int16(waveform: np.ndarray) -> np.ndarray:
    """Round ``(sample,)`` float32 in [-1, 1] to 16 bits; what lies beyond is clipped."""
    rounded: np.ndarray = np.clip(np.rint(waveform * _INT16_SCALE), -32768, 32767).astype(np.int16)
    return rounded


def from_int16(samples: np.ndarray) -> np.ndarray:
    """Return ``(sample,)`` int16 as float32 in [-1, 1]."""
    waveform: np.ndarray = np.multiply(samples, 1 / _INT16_SCALE, dtype=np.float32)  # a power of two: exact
    return waveform


class AudioMemory:
    """Decoded audio as 16-bit integers, in memory that worker processes share; who first needs an utterance reads it for all.

    What is once kept stays: a shuffled epoch comes back to all utterances equally late, so dropping some for others gains
    nothing. Audio is rounded to 16 bits whether it is kept or not, so that the limit changes no result; that of wav and FLAC
    files of 16 bits stays as it is.

    Parameters
    ----------
    sample_rate
        Rate of the waveforms (Hz).
    limit_gib
        Memory to use at most, in GiB; 0 keeps nothing. An hour at 16 kHz takes 0.11 GiB.
    cuts
        What to keep, as far as the limit reaches, in this order. Others are read each time.

    Raises
    ------
    ConfigError
        The machine refuses the memory.
    """

    def __init__(self, sample_rate: int, limit_gib: float = 0.0, cuts: Iterable[Cut] = ()) -> None:
        self.sample_rate = sample_rate
        room = int(limit_gib * 2**30)
        self._places: dict[str, tuple[int, int, int]] = {}
        end = 0
        for cut in cuts if room else ():
            key, size = _key(cut), math.ceil(cut.duration * sample_rate) + sample_rate // 100
            if 2 * (end + size) <= room and key not in self._places:
                self._places[key] = (len(self._places), end, end + size)
                end += size
        n_places = len(self._places)
        try:
            memory = mmap.mmap(-1, max(1, 8 * n_places + 2 * end))  # a forked process has it in common with this one
        except (OSError, ValueError, OverflowError) as error:
            raise ConfigError(f"trainer.cache_gib={limit_gib:g}: the machine does not give that memory ({error})") from error
        self._lengths = np.frombuffer(memory, np.int64, n_places)  # of what is kept, in samples; 0 until it is read
        self._samples = np.frombuffer(memory, np.int16, end, offset=8 * n_places)

    @property
    def n_bytes(self) -> int:
        """Bytes of audio kept by now."""
        return 2 * int(self._lengths.sum())

    def read(self, cut: Cut) -> np.ndarray:
        """Return ``(sample,)`` float32 of a cut, from memory where it is kept.

        Raises
        ------
        AudioError
            It cannot be read; the message names the utterance and its file.
        """
        index, start, end = self._places.get(_key(cut), (0, 0, 0))
        if end and (n_samples := int(self._lengths[index])):
            return from_int16(self._samples[start : start + n_samples])
        samples = to_int16(read_cut(cut, self.sample_rate))
        if len(samples) <= end - start:
            # Another process may do the same at the same time. The length comes last: it says that the samples are there.
            self._samples[start : start + len(samples)] = samples
            self._lengths[index] = len(samples)
        return from_int16(samples)


def _key(cut: Cut) -> str:
    return f"{cut.id} {plain_file(cut)} {cut.start} {cut.duration}"


def read_cut(cut: Cut, sample_rate: int) -> np.ndarray:
    """Read ``(sample,)`` float32 of a cut: straight from its file where there is one, through lhotse otherwise.

    Raises
    ------
    AudioError
        It cannot be read; the message names the utterance and its file.
    """
    try:
        path = plain_file(cut)
        if path is not None:
            whole = cut.start == 0 and abs(cut.duration - cut.recording.duration) < 1e-3
            return load_audio(path, sample_rate, offset_s=cut.start, duration_s=None if whole else cut.duration)
        return _read_with_lhotse(cut, sample_rate)
    except AudioError as error:
        raise AudioError(f"utterance {cut.id}: {error}") from None


def plain_file(cut: Cut) -> str | None:
    """Return the file of a cut that is a stretch of a recording as it lies there, all channels together; none of any other."""
    recording = getattr(cut, "recording", None)
    if recording is None or len(recording.sources) != 1 or recording.transforms or recording.sources[0].type != "file":
        return None
    n_channels = len(cut.channel) if isinstance(cut.channel, list) else 1
    return recording.sources[0].source if n_channels == recording.num_channels else None


def _read_with_lhotse(cut: Cut, sample_rate: int) -> np.ndarray:
    try:
        channels = cut.load_audio()
    except Exception as error:  # lhotse raises many kinds, some of its own
        if lacks_memory(error):
            raise
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise AudioError(f"cannot be read by lhotse: {reason}") from error
    if channels is None or channels.size == 0:
        raise AudioError("the cut has no recording; expected audio, not features alone")
    waveform = to_mono(np.asarray(channels, dtype=np.float32).T, "its audio")
    return resample(waveform, cut.sampling_rate, sample_rate)
