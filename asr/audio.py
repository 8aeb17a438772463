"""Audio files and bytes to float32 mono waveforms at the model's sample rate.

libsndfile (through ``soundfile``) reads wav, flac, ogg, opus, mp3, aiff and more; PyAV reads what it cannot: m4a, mp4, webm.
Both come as wheels, so no program has to be installed beside Python.
"""

from __future__ import annotations

import io
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import numpy as np

from asr.container import GuardedFile, check_length, container_blocks, container_rate, probe_container
from asr.errors import AudioError
from asr.mixing import Tell, mix_blocks, to_mono
from asr.resampling import resample, resample_blocks
from asr.waveform import check_rate

Source = str | Path | bytes | BinaryIO

_UNKNOWN_RIFF_SIZES = (1 << 31, 1 << 32)  # a program that cannot know a size writes one just below or above
_UNKNOWN_RIFF_MARGIN = 1 << 16
_UNKNOWN_FRAMES = 1 << 62  # libsndfile reports more where a header gives no length
_READ_AT_ONCE = 1 << 22  # samples of each channel


@dataclass(frozen=True)
class AudioInfo:
    """What an audio file's header says.

    Attributes
    ----------
    sample_rate
        Samples a second (Hz).
    n_samples
        Samples in each channel.
    n_channels
        Channels.
    """

    sample_rate: int
    n_samples: int
    n_channels: int

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.n_samples / self.sample_rate


def load_audio(
    source: Source,
    sample_rate: int,
    *,
    offset_s: float = 0.0,
    duration_s: float | None = None,
    channel: int | None = None,
    tell: Tell | None = None,
) -> np.ndarray:
    """Read audio as one channel at a given sample rate.

    Parameters
    ----------
    source
        A path, the bytes of a file, or a binary file object that can seek.
    sample_rate
        Rate of the result (Hz).
    offset_s, duration_s
        The part to read, in seconds; ``None`` reads to the end.
    channel, tell
        As for :func:`asr.mixing.mix_blocks`.

    Returns
    -------
    numpy.ndarray
        ``(sample,)`` float32, nominally in [-1, 1]; at least one sample.

    Raises
    ------
    AudioError
        There is no such file, or it cannot be read, is empty, truncated, corrupt, no audio at all, without such a channel,
        or holds values that are no numbers.

    Examples
    --------
    >>> load_audio("speech.mp3", 16000, offset_s=1.5, duration_s=2.0).shape  # doctest: +SKIP
    (32000,)
    """
    name = _name(source)
    if offset_s < 0 or (duration_s is not None and duration_s <= 0):
        raise AudioError(f"{name}: cannot read {duration_s} s from {offset_s} s on; expected an offset >= 0 and a duration > 0")
    samples, source_rate = _decode(source, name, offset_s, duration_s)
    if len(samples) == 0:
        where = f" from {offset_s:g} s on" if offset_s else ""
        raise AudioError(f"{name}: holds no audio samples{where}")
    return resample(to_mono(samples, name, channel, tell), source_rate, sample_rate)


def probe_audio(source: Source) -> AudioInfo:
    """Read sample rate, length and channels, from the header alone where the format allows it.

    Raises
    ------
    AudioError
        The file is missing, empty or no audio, or its header promises more than it holds.
    """
    name = _name(source)
    with _opened(source, name) as file:
        audio, why = _soundfile(file)
        if audio is None:
            info = AudioInfo(*probe_container(file, why))
        else:
            with audio:
                info = AudioInfo(audio.samplerate, audio.frames, audio.channels)
    check_rate(info.sample_rate, name)
    if info.n_samples <= 0:
        raise AudioError(f"{name}: holds no audio samples")
    return info


def stream_audio(
    source: Source, sample_rate: int, block_s: float = 30.0, *, channel: int | None = None, tell: Tell | None = None
) -> Iterator[np.ndarray]:
    """Read audio of any length in blocks, so that memory use does not grow with it.

    Parameters
    ----------
    source, sample_rate, channel, tell
        As for :func:`load_audio`.
    block_s
        Seconds in a block; the last one is shorter.

    Yields
    ------
    numpy.ndarray
        ``(sample,)`` float32 mono; the blocks joined equal what :func:`load_audio` returns.
    """
    name = _name(source)
    with _opened(source, name) as file:
        source_rate, blocks = _blocks(file, block_s)
        waveforms = mix_blocks(blocks, name, channel, tell)
        yield from resample_blocks(waveforms, source_rate, sample_rate, name)


def _name(source: Source) -> str:
    if isinstance(source, (str, Path)):
        return str(source)
    return str(getattr(source, "name", None) or "audio bytes")


@contextmanager
def _opened(source: Source, name: str) -> Iterator[GuardedFile]:
    """Open a source for reading."""
    if isinstance(source, (str, Path)):
        try:
            mode = os.stat(source).st_mode
            if stat.S_ISDIR(mode):
                raise AudioError(f"{name}: is a folder, expected an audio file")
            if not stat.S_ISREG(mode):  # opening a pipe could wait for ever
                raise AudioError(f"{name}: is a pipe or a device, expected an audio file; save its content to a file first")
            stream: BinaryIO = open(source, "rb")  # noqa: SIM115 - closed below
        except FileNotFoundError:
            raise AudioError(f"{name}: no such audio file") from None
        except (OSError, ValueError) as error:
            raise AudioError(f"{name}: cannot be opened: {getattr(error, 'strerror', None) or error}") from None
        owned = True
    else:
        stream, owned = (io.BytesIO(source), True) if isinstance(source, bytes) else (source, False)
    file = GuardedFile(stream, name)
    try:
        if isinstance(file.read(0), str):
            raise AudioError(f"{name}: is open as text, expected a binary file object; open it with the mode 'rb'")
        file.check()
        try:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(0)
        except OSError as error:
            raise AudioError(f"{name}: cannot seek in it ({error}); save its content to a file first") from None
        if size == 0:
            raise AudioError(f"{name}: is empty (0 bytes), expected an audio file")
        yield file
    finally:
        if owned:
            stream.close()


def _decode(source: Source, name: str, offset_s: float, duration_s: float | None) -> tuple[np.ndarray, int]:
    """Decode to ``(sample, channel)`` float32 and the source's own sample rate."""
    import soundfile

    with _opened(source, name) as file:
        audio, why = _soundfile(file)
        if audio is None:
            return _decode_container(file, offset_s, duration_s, why)
        with audio:
            check_rate(audio.samplerate, name)
            start = round(offset_s * audio.samplerate)
            n_wanted = audio.frames - start
            if duration_s is not None:
                n_wanted = min(n_wanted, round(duration_s * audio.samplerate))
            if n_wanted <= 0:
                return np.zeros((0, 1), np.float32), audio.samplerate
            try:
                if start:
                    audio.seek(start)
            except soundfile.LibsndfileError as error:
                file.check()
                raise AudioError(f"{name}: is truncated or corrupt: {error}") from None
            # By blocks, since the memory for what a header promises may be more than there is.
            blocks = list(_soundfile_blocks(audio, file, n_wanted, _READ_AT_ONCE))
            return blocks[0] if len(blocks) == 1 else np.concatenate(blocks), audio.samplerate


def _soundfile(file: GuardedFile) -> tuple[Any, str]:
    """Open with libsndfile; ``None`` and the reason for what PyAV has to read, the file at its start again."""
    import soundfile

    try:
        # What is in the file counts, not its name: one that ends in .raw would be taken for bare samples.
        audio = soundfile.SoundFile(SimpleNamespace(read=file.read, seek=file.seek, tell=file.tell))
    except soundfile.LibsndfileError as error:
        why = error.error_string
    else:
        file.check()
        _check_wav_size(audio, file.name)
        if audio.frames < _UNKNOWN_FRAMES and not _is_unfinished_wav(audio, file):
            return audio, ""
        audio.close()
        why = "its header gives no length"
    file.check()
    file.seek(0)
    return None, why


def _decode_container(file: GuardedFile, offset_s: float, duration_s: float | None, why: str) -> tuple[np.ndarray, int]:
    rate, blocks = _container_blocks(file, why)
    start = round(offset_s * rate)
    end = sys.maxsize if duration_s is None else start + round(duration_s * rate)
    wanted = list(_part(blocks, start, end))
    return np.concatenate(wanted) if wanted else np.zeros((0, 1), np.float32), rate


def _part(blocks: Iterator[np.ndarray], start: int, end: int) -> Iterator[np.ndarray]:
    """Yield the samples from ``start`` on and before ``end``; what follows is not decoded.

    What precedes is, although containers can seek: most codecs (AAC, Opus, AC-3, MP2) carry a state from frame to frame, and
    after a seek the samples would not be those of the whole.
    """
    position = 0
    for block in blocks:
        part = block[max(0, start - position) : end - position]
        if len(part):
            yield part
        position += len(block)
        if position >= end:
            return


def _container_blocks(file: GuardedFile, why: str) -> tuple[int, Iterator[np.ndarray]]:
    rate = container_rate(file, why)
    check_rate(rate, file.name)
    file.seek(0)
    return rate, container_blocks(file, why)


def _check_wav_size(audio: Any, name: str) -> None:
    """Refuse a wav whose data chunk is shorter than its header says: libsndfile alone corrects that in silence."""
    if audio.format not in ("WAV", "WAVEX"):
        return
    for line in audio.extra_info.splitlines():
        declared, found, actual = line.partition(" (should be ")
        if found and declared.strip().startswith("data"):
            promised, present = int(declared.split(":")[1]), int(actual.rstrip(")"))
            if promised > present and not _is_unknown(promised):
                raise AudioError(f"{name}: is truncated: its header promises {promised} bytes of audio, {present} are there")


def _is_unfinished_wav(audio: Any, file: GuardedFile) -> bool:
    """Whether a wav without samples holds some, since its recorder was stopped before it wrote their number into the header."""
    if audio.format not in ("WAV", "WAVEX") or audio.frames:
        return False
    file.seek(0)
    header = file.read(1 << 16)
    data, riff_size = header.find(b"data"), int.from_bytes(header[4:8], "little")
    # Where the whole file has a true size, that of the data is true as well.
    return header.startswith(b"RIFF") and len(header) > data + 8 and (riff_size <= data or _is_unknown(riff_size))


def _is_unknown(size: int) -> bool:
    """Whether a size in a RIFF header (bytes) is what a program writes that cannot know it."""
    return size == 0 or any(abs(size - limit) <= _UNKNOWN_RIFF_MARGIN for limit in _UNKNOWN_RIFF_SIZES)


def _blocks(file: GuardedFile, block_s: float) -> tuple[int, Iterator[np.ndarray]]:
    """Return the source's sample rate and ``(sample, channel)`` blocks of it."""
    audio, why = _soundfile(file)
    if audio is None:
        return _container_blocks(file, why)
    check_rate(audio.samplerate, file.name)
    return audio.samplerate, _soundfile_blocks(audio, file, audio.frames, max(1, round(block_s * audio.samplerate)))


def _soundfile_blocks(audio: Any, file: GuardedFile, n_wanted: int, n_block: int) -> Iterator[np.ndarray]:
    import soundfile

    n_read = 0
    with audio:
        while n_read < n_wanted:
            try:
                block = audio.read(min(n_block, n_wanted - n_read), dtype="float32", always_2d=True)
            except soundfile.LibsndfileError as error:
                file.check()
                read_s = n_read / audio.samplerate
                raise AudioError(f"{file.name}: is truncated or corrupt after {read_s:.2f} s: {error}") from None
            file.check()
            if len(block) == 0:
                break
            n_read += len(block)
            yield block
        check_length(n_read, n_wanted, audio.samplerate, file.name)
