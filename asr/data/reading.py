"""The audio of cuts: read from its file, and kept in memory."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import numpy as np

from asr.audio import load_audio
from asr.errors import AudioError
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
    return samples.astype(np.float32) / _INT16_SCALE


class AudioCache:
    """Decoded waveforms as 16-bit integers, the least recently used ones dropped when the limit is reached.

    Parameters
    ----------
    limit_gib
        Memory to use at most, in GiB; 0 keeps nothing. An hour at 16 kHz takes 0.11 GiB.
    """

    def __init__(self, limit_gib: float) -> None:
        self.limit_bytes = int(limit_gib * 2**30)
        self.n_bytes = 0
        self._entries: OrderedDict[str, np.ndarray] = OrderedDict()

    def get(self, key: str) -> np.ndarray | None:
        """Return ``(sample,)`` int16, or nothing if it is not kept."""
        samples = self._entries.get(key)
        if samples is not None:
            self._entries.move_to_end(key)
        return samples

    def put(self, key: str, samples: np.ndarray) -> None:
        """Keep ``(sample,)`` int16."""
        if samples.nbytes > self.limit_bytes or key in self._entries:
            return
        self._entries[key] = samples
        self.n_bytes += samples.nbytes
        while self.n_bytes > self.limit_bytes:
            self.n_bytes -= self._entries.popitem(last=False)[1].nbytes

    def read(self, cut: Cut, sample_rate: int) -> np.ndarray:
        """Return ``(sample,)`` float32 of a cut, from memory where it is kept.

        Raises
        ------
        AudioError
            It cannot be read; the message names the utterance and its file.
        """
        key = f"{cut.id} {_plain_file(cut)} {cut.start} {cut.duration} {sample_rate}"
        samples = self.get(key)
        if samples is None:
            waveform = read_cut(cut, sample_rate)
            if not self.limit_bytes:
                return waveform
            # The first epoch takes the rounded samples too: every epoch sees the same audio.
            samples = to_int16(waveform)
            self.put(key, samples)
        return from_int16(samples)


def read_cut(cut: Cut, sample_rate: int) -> np.ndarray:
    """Read ``(sample,)`` float32 of a cut: straight from its file where there is one, through lhotse otherwise.

    Raises
    ------
    AudioError
        It cannot be read; the message names the utterance and its file.
    """
    try:
        path = _plain_file(cut)
        if path is not None:
            whole = cut.start == 0 and abs(cut.duration - cut.recording.duration) < 1e-3
            return load_audio(path, sample_rate, offset_s=cut.start, duration_s=None if whole else cut.duration)
        return _read_with_lhotse(cut, sample_rate)
    except AudioError as error:
        raise AudioError(f"utterance {cut.id}: {error}") from None


def _plain_file(cut: Cut) -> str | None:
    """Return the file of a cut that is a stretch of a whole recording, all channels together."""
    recording = getattr(cut, "recording", None)
    if recording is None or len(recording.sources) != 1 or recording.transforms or recording.sources[0].type != "file":
        return None
    n_channels = len(cut.channel) if isinstance(cut.channel, list) else 1
    return recording.sources[0].source if n_channels == recording.num_channels else None


def _read_with_lhotse(cut: Cut, sample_rate: int) -> np.ndarray:
    try:
        channels = cut.load_audio()
    except Exception as error:  # lhotse raises many kinds, some of its own
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise AudioError(f"cannot be read by lhotse: {reason}") from error
    if channels is None or channels.size == 0:
        raise AudioError("the cut has no recording; expected audio, not features alone")
    waveform = to_mono(np.asarray(channels, dtype=np.float32).T, "its audio")
    return resample(waveform, cut.sampling_rate, sample_rate)
