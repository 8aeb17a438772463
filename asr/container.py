"""Audio in containers that libsndfile cannot read (m4a, mp4, webm, ...), decoded through PyAV."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np

from asr.errors import AudioError

# PyAV may open only real containers: playlist formats could make it read other files or addresses.
_CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2",
    "matroska,webm",
    *("aac", "ac3", "aiff", "amr", "ape", "asf", "au", "avi", "caf", "eac3", "flac", "flv", "mp3"),
    *("mpeg", "mpegts", "ogg", "tta", "w64", "wav", "wv"),
)
# Their headers have no room for a length: FFmpeg guesses it from the bit rate of the first frames.
_WITHOUT_LENGTH = ("aac", "ac3", "amr", "eac3", "mp3", "mpeg", "mpegts")
_TRUNCATED_SHARE = 0.01


class GuardedFile:
    """A binary file for a C library, through which no exception of reading or seeking may pass.

    To seek where nothing can be, as a corrupt header may ask for, gives the -1 that a library expects. What cannot be read
    looks like the end of the file; :meth:`check` tells the two apart.

    Parameters
    ----------
    stream
        Where the bytes come from.
    name
        What to call it in an error; FFmpeg looks at its ending.
    """

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self.name = name
        self._stream = stream
        self._error: Exception | None = None

    def read(self, size: int = -1) -> bytes:
        """Return up to so many bytes; none where reading fails."""
        try:
            return self._stream.read(size)
        except Exception as error:  # a file object may be anybody's, and raise anything
            self._error = self._error or error
            return b""

    def seek(self, position: int, whence: int = os.SEEK_SET) -> int:
        """Go to a position; -1 if there is no such one."""
        try:
            return self._stream.seek(position, whence)
        except (OSError, OverflowError, ValueError):
            return -1

    def tell(self) -> int:
        """Return the position."""
        return self._stream.tell()

    def check(self) -> None:
        """Refuse what was read if it is not all that was asked for.

        Raises
        ------
        AudioError
            A read failed.
        """
        if self._error is not None:
            what = getattr(self._error, "strerror", None) or repr(self._error)
            raise AudioError(f"{self.name}: cannot be read: {what}; is its disk or connection at fault?")


def probe_container(file: GuardedFile, why: str) -> tuple[int, int, int]:
    """Return sample rate (Hz), samples in each channel and channels; what has no length in its header is decoded.

    Parameters
    ----------
    file
        At its start.
    why
        What libsndfile said against it.

    Raises
    ------
    AudioError
        PyAV cannot read it either, or it holds no audio.
    """
    with _opened(file, why) as (container, audio):
        rate, n_channels = int(audio.rate), int(audio.channels)
        n_samples = _n_promised(container, audio) or sum(frame.samples for frame in container.decode(audio))
        file.check()
        return rate, n_samples, n_channels


def container_rate(file: GuardedFile, why: str) -> int:
    """Return the sample rate (Hz), decoding nothing; parameters and errors as for :func:`probe_container`."""
    with _opened(file, why) as (_, audio):
        return int(audio.rate)


def container_blocks(file: GuardedFile, why: str) -> Iterator[np.ndarray]:
    """Yield all audio as ``(sample, channel)`` float32 blocks; parameters and errors as for :func:`probe_container`."""
    with _opened(file, why) as (container, audio):
        n_read = 0
        for block in _decoded(container, audio):
            file.check()
            n_read += len(block)
            yield block
        file.check()
        check_length(n_read, _n_promised(container, audio), int(audio.rate), file.name)


def check_length(n_read: int, n_promised: int, sample_rate: int, name: str) -> None:
    """Refuse a file that ended before its header says, but for the little by which headers may err.

    Raises
    ------
    AudioError
        More than 1 % and more than 0.1 s of the promised samples are not there.
    """
    if n_read < n_promised * (1 - _TRUNCATED_SHARE) and n_promised - n_read > 0.1 * sample_rate:
        raise AudioError(
            f"{name}: is truncated: {n_read / sample_rate:.2f} s could be read, "
            f"its header promises {n_promised / sample_rate:.2f} s"
        )


@contextmanager
def _opened(file: GuardedFile, why: str) -> Iterator[tuple[Any, Any]]:
    """Open the first audio stream of a container; every error of PyAV becomes an :class:`AudioError`."""
    import av

    options = {"format_whitelist": ",".join(_CONTAINERS), "protocol_whitelist": "file"}
    try:
        with av.open(file, mode="r", options=options, metadata_errors="ignore") as container:
            file.check()
            if not container.streams.audio:
                raise AudioError(f"{file.name}: holds no audio stream; it may be truncated")
            audio = container.streams.audio[0]
            if audio.codec_context is None:
                raise AudioError(f"{file.name}: its audio is coded in a way that is not known; it may be corrupt")
            yield container, audio
    except (av.error.FFmpegError, ValueError) as error:
        file.check()
        raise AudioError(f"{file.name}: is truncated, corrupt or no audio file ({why.rstrip('. ')}; PyAV: {error})") from None


def _n_promised(container: Any, audio: Any) -> int:
    """Return the samples that the header promises; 0 where it says nothing."""
    if container.format.name in _WITHOUT_LENGTH:
        return 0
    if audio.duration is not None and audio.time_base is not None:
        return round(audio.duration * audio.time_base * audio.rate)
    return round((container.duration or 0) / 1e6 * audio.rate)


def _decoded(container: Any, audio: Any) -> Iterator[np.ndarray]:
    """Yield ``(sample, channel)`` float32 arrays, whatever the codec's own sample format."""
    import av

    converter = av.AudioResampler(format="fltp", layout=audio.layout, rate=audio.rate)
    for frame in container.decode(audio):
        for converted in converter.resample(frame):
            yield converted.to_ndarray().T
    for converted in converter.resample(None):
        yield converted.to_ndarray().T
