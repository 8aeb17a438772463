"""Where a recording ends in files made of chunks, whose sizes are stated, and what kinds of recordings begin with."""

from __future__ import annotations

import re
from collections.abc import Callable

from asr.formats.file import GuardedFile
from asr.formats.mpeg import find_frames, tags_end

_START = re.compile(
    rb"(?:RIFF|RF64|BW64)....(?:WAVE|AVI )|FORM....AIF[FC]|caff\0\x01|\.snd\0\0\0|fLaC\0\0\0\x22|OggS\0[\x02\x03\x06\x07]|TTA1"
    rb"|Creative Voice File\x1a|wvpk|....ftyp|\x30\x26\xb2\x75\x8e\x66\xcf\x11|\x1a\x45\xdf\xa3|riff\x2e\x91\xcf\x11|FLV\x01",
    re.DOTALL,
)
_HEAD = 20  # bytes in which a kind shows
_UNKNOWN = (0, 0x7FFFFFFF, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)
_ASF = b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"
_ASF_DATA_HEADER = 50
_TTA_FRAME_S = 256 / 245


def is_start(file: GuardedFile, position: int, size: int) -> bool:
    """Whether a recording of a known kind begins at a byte, behind its tags if it has some."""
    begin = tags_end(file, position)
    return bool(_START.match(file.read_at(begin, _HEAD))) or find_frames(file, begin, begin + 1, size) == begin


def find_start(file: GuardedFile, start: int, stop: int, size: int) -> int | None:
    """Return where a recording of a known kind begins, at a byte or behind and before another; None if none does."""
    content = file.read_at(start, stop - start + _HEAD)
    places = (start + match.start() for match in re.finditer(rb"ID3|" + _START.pattern, content, re.DOTALL))
    known = next((place for place in places if place < stop and is_start(file, place, size)), stop)
    frames = find_frames(file, start, known, size)
    return frames if frames is not None else known if known < stop else None


def padding_end(file: GuardedFile, position: int, size: int) -> int:
    """Return what lies behind tags and zeros at a byte."""
    before = -1
    while before != position < size:
        before = position
        position = zeros_end(file, min(size, tags_end(file, position)), size)
    return min(size, position)


def zeros_end(file: GuardedFile, position: int, size: int) -> int:
    """Return what lies behind zeros at a byte."""
    while position < size:
        content = file.read_at(position, 1 << 16)
        rest = content.lstrip(b"\0")
        position += len(content) - len(rest)
        if rest or not content:
            break
    return position


def stated_end(file: GuardedFile, start: int, size: int) -> int | None:
    """Return where a recording ends as its header says (byte), which may lie behind the file; None where it does not."""
    head = file.read_at(start, _HEAD)
    return next((find(file, start, size) for mark, find in _KINDS.items() if re.match(mark, head, re.DOTALL)), None)


def _number(file: GuardedFile, position: int, n_bytes: int, order: str = "little") -> int:
    return int.from_bytes(file.read_at(position, n_bytes), "big" if order == "big" else "little")


def _aiff(file: GuardedFile, start: int, size: int) -> int | None:
    """Go from chunk to chunk: what the first says of all is not always so."""
    position = start + 12
    while position + 8 <= size and not is_start(file, position, size):
        head = file.read_at(position, 8)
        n_bytes = int.from_bytes(head[4:], "big")
        if not all(0x20 <= letter < 0x7F for letter in head[:4]):
            break
        if n_bytes >= _UNKNOWN[1] or (n_bytes == 0 and head[:4] == b"SSND"):
            return None
        position += 8 + n_bytes + n_bytes % 2
    return position


def _rf64(file: GuardedFile, start: int, size: int) -> int | None:
    n_bytes = _number(file, start + 20, 8) if file.read_at(start + 12, 4) == b"ds64" else 0
    return start + 8 + n_bytes + n_bytes % 2 if n_bytes not in _UNKNOWN else None


def _w64(file: GuardedFile, start: int, size: int) -> int | None:
    n_bytes = _number(file, start + 16, 8)
    return start + -(-n_bytes // 8) * 8 if 40 < n_bytes < 1 << 62 else None


def _au(file: GuardedFile, start: int, size: int) -> int | None:
    n_header, n_bytes = _number(file, start + 4, 4, "big"), _number(file, start + 8, 4, "big")
    return start + n_header + n_bytes if n_bytes not in _UNKNOWN else None


def _caf(file: GuardedFile, start: int, size: int) -> int | None:
    position = start + 8
    while position + 12 <= size and not is_start(file, position, size):
        head = file.read_at(position, 12)
        if not (head[:4].isascii() and head[:1].isalpha()):
            break
        n_bytes = int.from_bytes(head[4:], "big")
        if n_bytes >= 1 << 62:
            return None
        position += 12 + n_bytes
    return position


def _voc(file: GuardedFile, start: int, size: int) -> int | None:
    position = start + _number(file, start + 20, 2)
    while position < size:
        kind, n_bytes = _number(file, position, 1), _number(file, position + 1, 3)
        if kind == 0:
            return position + 1
        if kind > 9:
            return None
        position += 4 + n_bytes
    return None


def _tta(file: GuardedFile, start: int, size: int) -> int | None:
    rate, n_samples = _number(file, start + 10, 4), _number(file, start + 14, 4)
    n_frame = int(_TTA_FRAME_S * rate)
    if not n_frame or n_samples in _UNKNOWN:
        return None
    n_frames = -(-n_samples // n_frame)
    table = file.read_at(start + 22, 4 * n_frames)
    sizes = [int.from_bytes(table[place : place + 4], "little") for place in range(0, len(table), 4)]
    return start + 22 + 4 * n_frames + 4 + sum(sizes)


def _mp4(file: GuardedFile, start: int, size: int) -> int | None:
    """Go from box to box; another recording begins where files are joined, with another box ``ftyp``."""
    position, seen = start, set[bytes]()
    while position + 8 <= size:
        head = file.read_at(position, 16)
        n_bytes, name = int.from_bytes(head[:4], "big"), head[4:8]
        if not all(0x20 <= letter < 0x7F for letter in name) or (name == b"ftyp" and b"moov" in seen):
            return position
        if n_bytes == 1:
            n_bytes = int.from_bytes(head[8:], "big")
        if n_bytes < 8:  # to the end of the file
            return None
        seen.add(name)
        position += n_bytes
    return position


def _asf(file: GuardedFile, start: int, size: int) -> int | None:
    """Go from object to object; that of the packets may not know its size."""
    position = start
    while position + 24 <= size and (position == start or not is_start(file, position, size)):
        n_bytes = _number(file, position + 16, 8)
        if n_bytes < 24 or (n_bytes == _ASF_DATA_HEADER and position > start):
            return None
        position += n_bytes
    return position


def _flv(file: GuardedFile, start: int, size: int) -> int | None:
    """Go from tag to tag; each is followed by its size."""
    position = start + _number(file, start + 5, 4, "big") + 4
    while position + 15 <= size:
        head = file.read_at(position, 4)
        if head[:1] not in (b"\x08", b"\x09", b"\x12"):
            return position
        position += 11 + int.from_bytes(head[1:], "big") + 4
    return position


def _wavpack(file: GuardedFile, start: int, size: int) -> int | None:
    """Go from block to block, to where the first sample comes again."""
    position, begun = start, False
    while position + 32 <= size:
        head = file.read_at(position, 32)
        index, n_samples = int.from_bytes(head[16:20], "little"), int.from_bytes(head[20:24], "little")
        if not head.startswith(b"wvpk") or (begun and n_samples and not index):
            return position
        begun = begun or index > 0
        position += 8 + int.from_bytes(head[4:8], "little")
    return position


_KINDS: dict[bytes, Callable[[GuardedFile, int, int], int | None]] = {
    rb"FORM....AIF[FC]": _aiff,
    rb"(?:RF64|BW64)....WAVE": _rf64,
    rb"riff\x2e\x91\xcf\x11": _w64,
    rb"\.snd": _au,
    rb"caff": _caf,
    rb"Creative Voice File\x1a": _voc,
    rb"TTA1": _tta,
    rb"....ftyp": _mp4,
    _ASF: _asf,
    rb"FLV\x01": _flv,
    rb"wvpk": _wavpack,
}
