"""Whether a stretch of an MPEG transport stream is whole: FFmpeg looks for the next packet behind damage, and says nothing."""

from __future__ import annotations

import numpy as np

from asr.formats.file import GuardedFile

_SYNC = 0x47
_SHORTEST = 188
_SIZES = (_SHORTEST, 192, 204)  # bytes of a packet: plain, with a time before it as cameras and discs write it, with a checksum
_MOST_BYTES = 1 << 24


def is_in_step(file: GuardedFile, start: int, end: int) -> bool:
    """Say whether every packet of a stretch begins as it should.

    Parameters
    ----------
    file
        It stays where it is.
    start, end
        The stretch, from one packet to another as FFmpeg gives their positions: of those with something before or behind
        them as early as if all of it came before (byte).
    """
    place = file.tell()
    content = np.frombuffer(file.read_at(start, min(end - start, _MOST_BYTES)), np.uint8)
    file.seek(place)
    return any((end - start) % size == 0 and bool((content[size - _SHORTEST :: size] == _SYNC).all()) for size in _SIZES)
