"""The frames of FLAC (RFC 9639) as far as it takes to find the last one, and what its header says of their number."""

from __future__ import annotations

import re
from dataclasses import dataclass

from asr.formats.file import GuardedFile

_START = b"fLaC\0\0\0\x22"
_WINDOW = 1 << 15  # bytes in which a frame is looked for
_LONGEST_FRAME = 1 << 16  # bytes, where the header does not say
_SEARCHED_AT_ONCE = 1 << 20
_SAMPLED = (0.31, 0.5, 0.62, 0.83)  # of the bytes: files of one length, joined, are not in order there, however many
_SYNC = re.compile(rb"\xff[\xf8\xf9]")
_HEADER = 16  # bytes
_BLOCKS = {1: 192, **{code: 576 << code - 2 for code in range(2, 6)}, **{code: 256 << code - 8 for code in range(8, 16)}}


@dataclass(frozen=True)
class StreamInfo:
    """What the header says.

    Attributes
    ----------
    n_samples
        Of each channel; 0 where that is not known.
    n_block
        Samples of a frame, where all have the same.
    longest
        Bytes of the longest frame.
    """

    n_samples: int
    n_block: int
    longest: int


def read_info(file: GuardedFile, begin: int) -> StreamInfo:
    """Return what the header of a recording says that begins at a byte."""
    head = file.read_at(begin, 42)
    n_samples = int.from_bytes(head[21:26], "big") & (1 << 36) - 1
    return StreamInfo(n_samples, int.from_bytes(head[8:10], "big"), int.from_bytes(head[15:18], "big") or _LONGEST_FRAME)


def find_start(file: GuardedFile, position: int, size: int) -> int | None:
    """Return where another recording begins, at a position or behind; None if none does."""
    while position < size:
        content = file.read_at(position, _SEARCHED_AT_ONCE + len(_START))
        found = content.find(_START)
        if found >= 0:
            return position + found
        if not content:
            return None
        position += _SEARCHED_AT_ONCE
    return None


def in_order(file: GuardedFile, begin: int, size: int, info: StreamInfo) -> bool:
    """Whether the frames of a long file are counted on from one to the next in places all over it."""
    if size - begin <= _SEARCHED_AT_ONCE:
        return False
    places = [_place(file, begin + int(share * (size - begin)), size, info.n_block) for share in _SAMPLED]
    return places == sorted(places)


def _place(file: GuardedFile, position: int, size: int, n_block: int) -> int:
    """Return the number of the sample behind the first frame that begins at a position or behind; 0 if none is found."""
    content = file.read_at(position, min(_WINDOW, size - position))
    for match in _SYNC.finditer(content):
        if (found := _read_frame(content[match.start() : match.start() + _HEADER], n_block)) is not None:
            return found
    return 0


def last_frame(file: GuardedFile, begin: int, end: int, info: StreamInfo) -> tuple[int | None, int]:
    """Return the samples up to the end of the last frame, as its header counts them, and its place; None if none is found."""
    for n_bytes in (_WINDOW, 16 * _WINDOW):
        at = max(begin, end - n_bytes)
        tail = file.read_at(at, end - at)
        for match in reversed(list(_SYNC.finditer(tail))):
            if (found := _read_frame(tail[match.start() : match.start() + _HEADER], info.n_block)) is not None:
                return found, at + match.start()
    return None, begin


def find_end(file: GuardedFile, begin: int, size: int, info: StreamInfo) -> int | None:
    """Return where the frame begins with which the stated samples are complete; None if there is none."""
    while info.n_samples and begin < size:
        content = file.read_at(begin, _SEARCHED_AT_ONCE + _HEADER)
        for match in _SYNC.finditer(content):
            if _read_frame(content[match.start() : match.start() + _HEADER], info.n_block) == info.n_samples:
                return begin + match.start()
        begin += _SEARCHED_AT_ONCE
    return None


def _read_frame(head: bytes, n_block: int) -> int | None:
    """Return the number of the sample behind a frame, from its header (section 9.1); None where there is no frame."""
    if len(head) < 6 or head[1] not in (0xF8, 0xF9) or head[3] & 1:
        return None
    code, rate_code = head[2] >> 4, head[2] & 15
    n_more = next((n for n in range(7) if not head[4] << n & 0x80), 7)  # leading ones of a number as in UTF-8
    number = head[4] & (0x7F >> n_more)
    n_more = max(0, n_more - 1)
    for byte in head[5 : 5 + n_more]:
        number = number << 6 | byte & 0x3F
    position = 5 + n_more
    n_size = {6: 1, 7: 2}.get(code, 0)
    n_samples = int.from_bytes(head[position : position + n_size], "big") + 1 if n_size else _BLOCKS.get(code, 0)
    position += n_size + {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    if not n_samples or position >= len(head) or _crc8(head[:position]) != head[position]:
        return None
    return (number if head[1] & 1 else number * n_block) + n_samples


def _crc8(content: bytes) -> int:
    value = 0
    for byte in content:
        value ^= byte
        for _ in range(8):
            value = value << 1 ^ (0x107 if value & 0x80 else 0)
    return value
