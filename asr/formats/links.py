"""Where recordings begin and end in a file that may hold several, one after the other, and what their stated lengths are worth.

Files are put one behind the other (``cat a.mp3 b.mp3``), written into pipes, where no header can tell the length, or carry tags
that a decoder's guess takes for sound. Only what a header really states, and the file bears out, is taken for a length.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal

from asr.formats.file import GuardedFile
from asr.formats.mpeg import find_frames, follow_frames, stated_end, tags_end

_UNKNOWN_SIZES = (1 << 31, 1 << 32, 1 << 63, 1 << 64)  # a program that cannot know a size writes one just below or above
_UNKNOWN_MARGIN = 1 << 16
_ROUND_SIZES = (1_000_000_000, 2_000_000_000, 0x7FF00000, 0x7F000000)
_HEADER = 128  # bytes by which the sizes of the file and of its sound may differ
_FLAC_WINDOW = 1 << 15  # bytes in which a frame is looked for
_FLAC_SAMPLED = (0.31, 0.5, 0.62, 0.83)  # of the bytes: files of one length, joined, are not in order there, however many
_FLAC_SYNC = re.compile(rb"\xff[\xf8\xf9]")
_FLAC_START = b"fLaC\0\0\0\x22"
_FLAC_BLOCKS = {1: 192, **{code: 576 << code - 2 for code in range(2, 6)}, **{code: 256 << code - 8 for code in range(8, 16)}}
_GUESSED_SHARE = 0.005  # by which the bytes of tags may lengthen what is guessed of an mp3
_JUNK = 2048  # bytes before the first frame
_OTHERS = (b"RIFF", b"RF64", b"FORM", b"caff", b".snd", b"\x1a\x45\xdf\xa3", b"FLV", b"\x30\x26\xb2\x75", b"\0\0\0", b"riff")
_SEARCHED_AT_ONCE = 1 << 20
_KEPT = 4096


@dataclass(frozen=True)
class Link:
    """A recording in a file.

    Attributes
    ----------
    start, end
        Its bytes.
    length
        ``stated``: the header's length can be believed. ``counted``: libsndfile has to count the frames. ``unknown``: only
        reading to the end tells it.
    hole
        Where something is missing (byte), if that is known.
    wrong_size
        Where four bytes state a size that is not true, which leads astray.
    """

    start: int
    end: int
    length: Literal["stated", "counted", "unknown"] = "stated"
    hole: int | None = None
    wrong_size: int | None = None


_Found = tuple[Link, int | None]
"""A recording, and where the next one begins, if there is one."""

_links: OrderedDict[tuple[object, ...], list[Link]] = OrderedDict()
"""Of files looked at lately: training comes back to a long one for each of its utterances."""


def find_links(file: GuardedFile) -> list[Link]:
    """Return the recordings in a file, in order; nearly always one, which is the whole. The file is at its start then."""
    key = file.key
    found = _links.get(key) if key else None
    if found is None:
        found, start, size = [], 0, file.size
        at: int | None = start
        while at is not None:
            link, at = _first(file, at, size)
            found.append(link)
        if key:
            _links[key] = found
            while len(_links) > _KEPT:
                _links.popitem(last=False)
    file.seek(0)
    return found


def is_placeholder(size: int) -> bool:
    """Whether a size in a header (bytes) is what a program writes that cannot know it."""
    margins = ((_UNKNOWN_SIZES, _UNKNOWN_MARGIN), (_ROUND_SIZES, _HEADER))
    return size == 0 or any(abs(size - limit) <= margin for limits, margin in margins for limit in limits)


def _first(file: GuardedFile, start: int, size: int) -> _Found:
    head = file.read_at(start, 12)
    if head.startswith(b"OggS"):
        return _ogg(file, start, size)
    if head.startswith(b"RIFF") and head.endswith(b"WAVE"):
        return _wav(file, start, size)
    if head.startswith(b"RF64") and head.endswith(b"WAVE"):
        unfinished = file.read_at(start + 12, 4) == b"ds64" and file.read_at(start + 28, 8) == bytes(8)
        return Link(start, size, "unknown" if unfinished else "stated"), None
    begin = tags_end(file, start)
    head = file.read_at(begin, 4)
    if head == b"fLaC":
        return _flac(file, start, begin, size)
    if not head.startswith(_OTHERS):
        first = find_frames(file, begin, min(begin + _JUNK, size), size)
        if first is not None:
            return _mpeg(file, start, first, size)
    return Link(start, size), None


def _ogg(file: GuardedFile, start: int, size: int) -> _Found:
    """Go from page to page: a recording ends where its others have begun and a first page follows; pages are numbered."""
    position, numbers, sounding, hole, late = start, dict[bytes, int](), False, None, False
    while position + 27 <= size:
        page = file.read_at(position, 27 + 255)
        if page[:4] != b"OggS" or len(page) < 27:
            again = _find(file, b"OggS", position + 1, size)
            if again is None:
                break
            position = again
            continue
        is_first, serial, number = bool(page[5] & 2), page[14:18], int.from_bytes(page[18:22], "little")
        if is_first and len(numbers) and not all(number == 0 for number in numbers.values()):
            return Link(start, position, _one(numbers, late), hole), position
        if number != numbers.get(serial, -1) + 1 and not is_first:
            late = late or not sounding  # taken down from a broadcast
            hole = position if sounding and hole is None else hole
        sounding = sounding or int.from_bytes(page[6:14], "little", signed=True) > 0
        numbers[serial] = number
        position += 27 + page[26] + sum(page[27 : 27 + page[26]])
    return Link(start, size, _one(numbers, late), hole), None


def _one(numbers: dict[bytes, int], late: bool) -> Literal["stated", "unknown"]:
    """Sound beside pictures is beyond libsndfile, and so is a clock that does not begin at 0."""
    return "stated" if len(numbers) == 1 and not late else "unknown"


def _wav(file: GuardedFile, start: int, size: int) -> _Found:
    riff_size = int.from_bytes(file.read_at(start + 4, 4), "little")
    data, data_size = start + 12, 0
    while data + 8 <= size:
        header = file.read_at(data, 8)
        data_size = int.from_bytes(header[4:], "little")
        data += 8
        if header[:4] == b"data":
            break
        data += data_size + data_size % 2
    else:
        return Link(start, size), None
    if data_size == 0:
        # Where the whole file has a true size, that of the data is true as well.
        unfinished = riff_size <= data - start or is_placeholder(riff_size)
        return Link(start, size, "unknown" if unfinished and data < size else "stated"), None
    data_end, riff_end = data + data_size + data_size % 2, start + 8 + riff_size + riff_size % 2
    for end in (riff_end, data_end):
        if data_end <= end < size and _is_wav(file.read_at(end, 12)):
            return Link(start, end), end
    if data_end >= size or _are_chunks(file, data_end, size):
        return Link(start, size), None
    # A true header may be followed by junk, but not by more of it than there is sound.
    believed = abs(riff_end - data_end) <= 1 and size - data_end <= data_size
    return (Link(start, size) if believed else Link(start, size, "unknown", wrong_size=data - 4)), None


def _is_wav(head: bytes) -> bool:
    return head.startswith(b"RIFF") and head.endswith(b"WAVE")


def _are_chunks(file: GuardedFile, position: int, size: int) -> bool:
    """Whether chunks fill the rest of a RIFF file."""
    while position + 8 <= size:
        header = file.read_at(position, 8)
        position += 8 + int.from_bytes(header[4:], "little")
        if not all(0x20 <= letter < 0x7F for letter in header[:4]) or position > size + 1:
            return False
        position += position % 2
    return True


def _flac(file: GuardedFile, start: int, begin: int, size: int) -> _Found:
    head = file.read_at(begin, 42)
    n_samples, n_block = int.from_bytes(head[21:26], "big") & (1 << 36) - 1, int.from_bytes(head[8:10], "big")
    end = _flac_end(file, begin, size, n_block)
    if size - begin > _SEARCHED_AT_ONCE and n_samples and end == n_samples:
        places = [_flac_place(file, begin + int(share * (size - begin)), size, n_block) for share in _FLAC_SAMPLED]
        if places == sorted(places):
            return Link(start, size), None
    other = _find(file, _FLAC_START, begin + 42, size)
    if other is not None:
        end = _flac_end(file, begin, other, n_block)
    unknown = not n_samples or (end is not None and end > n_samples)
    return Link(start, other or size, "unknown" if unknown else "stated"), other


def _flac_place(file: GuardedFile, position: int, size: int, n_block: int) -> int:
    """Return the number of the sample behind the first frame that begins at a position or behind; 0 if none is found."""
    content = file.read_at(position, min(_FLAC_WINDOW, size - position))
    for match in _FLAC_SYNC.finditer(content):
        if (found := _flac_frame(content[match.start() : match.start() + 16], n_block)) is not None:
            return found
    return 0


def _flac_end(file: GuardedFile, begin: int, end: int, n_block: int) -> int | None:
    """Return the samples up to the end of the last frame, as its header counts them; None if no frame is found."""
    for n_bytes in (_FLAC_WINDOW, 16 * _FLAC_WINDOW):
        tail = file.read_at(max(begin, end - n_bytes), min(n_bytes, end - begin))
        for match in reversed(list(_FLAC_SYNC.finditer(tail))):
            if (found := _flac_frame(tail[match.start() : match.start() + 16], n_block)) is not None:
                return found
    return None


def _flac_frame(head: bytes, n_block: int) -> int | None:
    """Return the number of the sample behind a frame, from its header (RFC 9639, section 9.1); None where there is no frame."""
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
    n_samples = int.from_bytes(head[position : position + n_size], "big") + 1 if n_size else _FLAC_BLOCKS.get(code, 0)
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


def _mpeg(file: GuardedFile, start: int, begin: int, size: int) -> _Found:
    """Believe a first frame that states the number of the others and their end, or follow them."""
    end = stated_end(file, begin)
    if end is not None:
        other = find_frames(file, tags_end(file, end), size, size) if end < size else None
        if other is None:
            return Link(start, size), None
        reached, _ = follow_frames(file, begin, end)
        return Link(start, end, hole=reached if reached < end else None), other
    end, constant = follow_frames(file, begin, size)
    behind = tags_end(file, end)
    other = find_frames(file, behind, size, size) if end < size else None
    if other is not None and other == behind:
        return Link(begin, end, "counted"), other
    hole = None if other is None else end
    guess_fits = constant and size - end < _GUESSED_SHARE * (end - begin)
    # libsndfile counts the frames where it does not know how many bytes there are, but not behind a tag.
    return (Link(start, size, hole=hole) if guess_fits else Link(begin, end if hole is None else size, "counted", hole)), None


def _find(file: GuardedFile, what: bytes, start: int, size: int) -> int | None:
    """Return where some bytes occur next; None if they do not."""
    while start < size:
        content = file.read_at(start, _SEARCHED_AT_ONCE + len(what))
        found = content.find(what)
        if found >= 0:
            return start + found
        if not content:
            return None
        start += _SEARCHED_AT_ONCE
    return None
