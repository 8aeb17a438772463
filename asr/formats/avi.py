"""The time of sound in an AVI, which has no time stamps: each chunk lasts as long as the others, empty ones too."""

from __future__ import annotations

from typing import Any

import numpy as np

from asr.formats.file import GuardedFile

_ENTRY = np.dtype([("name", "S4"), ("flags", "<u4"), ("offset", "<u4"), ("size", "<u4")])
_UNIT_ERR = 0.01
_MOST_CHUNKS = 1000  # beside each other at the top; a header has a few


class ChunkClock:
    """Gives packets the time of their chunks; FFmpeg passes over empty ones, which put sound off, and counts long ones twice.

    Parameters
    ----------
    file
        It stays where it is.
    track
        The track that is read, open in PyAV.
    """

    def __init__(self, file: GuardedFile, track: Any) -> None:
        self._first: int | None = None
        self._last = -1
        self._numbers = iter(_full_chunks(file, track))

    def set(self, packet: Any) -> None:
        """Set the time stamp of the next packet of the track."""
        if not packet.size:
            return
        if self._first is None:
            self._first = packet.pts or 0  # a track may say that it begins late
        self._last = next(self._numbers, self._last + 1)
        packet.pts = packet.dts = self._first + self._last


def has_chunk_clock(track: Any) -> bool:
    """Say whether a track of an AVI has one frame in each chunk; others are timed by their bytes, which FFmpeg does well."""
    length_s = track.codec_context.frame_size / track.rate
    return bool(length_s) and abs(float(track.time_base) / length_s - 1) < _UNIT_ERR


def _full_chunks(file: GuardedFile, track: Any) -> list[int]:
    """Return which of a track's chunks hold something, by the index at the end; none where that is not of the whole."""
    place = file.tell()
    index = _index(file)
    file.seek(place)
    entries = np.frombuffer(index, _ENTRY, len(index) // _ENTRY.itemsize)
    sizes = entries["size"][entries["name"] == b"%02dwb" % track.index]
    return [int(number) for number in np.flatnonzero(sizes)] if len(sizes) == track.frames else []


def _index(file: GuardedFile) -> bytes:
    place, size = 12, file.size
    for _ in range(_MOST_CHUNKS):
        head = file.read_at(place, 8)
        n_bytes = int.from_bytes(head[4:], "little")
        if len(head) < 8 or place + 8 + n_bytes > size:
            return b""
        if head[:4] == b"idx1":
            return file.read(n_bytes)
        place += 8 + n_bytes + n_bytes % 2
    return b""
