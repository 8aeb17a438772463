"""Audio in containers that libsndfile cannot read (m4a, mp4, webm, ...), decoded through PyAV."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
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
_TRUNCATED_SHARE = 0.01


def probe_container(stream: BinaryIO, name: str, why: str) -> tuple[int, int, int]:
    """Return sample rate (Hz), samples in each channel and channels; what has no length in its header is decoded.

    Parameters
    ----------
    stream
        The file, from its start on.
    name
        What to call it in an error.
    why
        What libsndfile said against it.

    Raises
    ------
    AudioError
        PyAV cannot read it either, or it holds no audio.
    """
    with _opened(stream, name, why) as (container, audio):
        rate, n_channels = int(audio.rate), int(audio.channels)
        n_samples = _n_promised(container, audio)
        return rate, n_samples or sum(frame.samples for frame in container.decode(audio)), n_channels


def container_rate(stream: BinaryIO, name: str, why: str) -> int:
    """Return the sample rate (Hz), decoding nothing; parameters and errors as for :func:`probe_container`."""
    with _opened(stream, name, why) as (_, audio):
        return int(audio.rate)


def container_blocks(stream: BinaryIO, name: str, why: str) -> Iterator[np.ndarray]:
    """Yield all audio as ``(sample, channel)`` float32 blocks; parameters and errors as for :func:`probe_container`."""
    with _opened(stream, name, why) as (container, audio):
        n_read = 0
        for block in _decoded(container, audio):
            n_read += len(block)
            yield block
        check_length(n_read, _n_promised(container, audio), int(audio.rate), name)


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


def for_library(stream: BinaryIO, **attributes: str) -> SimpleNamespace:
    """Return what a C library may read from, with attributes such as a name.

    To seek where nothing can be, as a corrupt header may ask for, gives the -1 that it expects: no exception passes through it.
    """

    def seek(position: int, whence: int = os.SEEK_SET) -> int:
        try:
            return stream.seek(position, whence)
        except (OSError, OverflowError, ValueError):
            return -1

    return SimpleNamespace(read=stream.read, seek=seek, tell=stream.tell, **attributes)


@contextmanager
def _opened(stream: BinaryIO, name: str, why: str) -> Iterator[tuple[Any, Any]]:
    """Open the first audio stream of a container; every error of PyAV becomes an :class:`AudioError`."""
    import av

    options = {"format_whitelist": ",".join(_CONTAINERS), "protocol_whitelist": "file"}
    try:
        source = for_library(stream, name=str(getattr(stream, "name", "<none>")))
        with av.open(source, mode="r", options=options, metadata_errors="ignore") as container:
            if not container.streams.audio:
                raise AudioError(f"{name}: holds no audio stream; it may be truncated")
            audio = container.streams.audio[0]
            if audio.codec_context is None:
                raise AudioError(f"{name}: its audio is coded in a way that is not known; it may be corrupt")
            yield container, audio
    except (av.error.FFmpegError, ValueError) as error:
        raise AudioError(f"{name}: is truncated, corrupt or no audio file ({why.rstrip('. ')}; PyAV: {error})") from None


def _n_promised(container: Any, audio: Any) -> int:
    """Return the samples that the header promises; 0 where it says nothing."""
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
