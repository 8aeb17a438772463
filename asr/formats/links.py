"""Where recordings begin and end in a file that may hold several, one after the other, and what their stated lengths are worth.

Files are put one behind the other (``cat a.mp3 b.mp3``), written into pipes, where no header can tell the length, or carry tags
that a decoder's guess takes for sound. Only what a header really states, and the file bears out, is taken for a length.

What follows where a recording ends is read as well if it begins, at once or behind tags and zeros, as a known kind does: wav,
RF64, AIFF, W64, AU, CAF, VOC, TTA, WavPack, MPEG audio, FLAC, Ogg, mp4, asf and flv, in any order. Anything else is not: tags,
chunks, zeros and up to 1 KiB of whatever there may be are passed over, and of more than that a notice says how much it is.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal

from asr.formats import chunks, flac, ogg
from asr.formats.file import GuardedFile
from asr.formats.mpeg import Followed, find_frames, follow_frames, read_counts, tags_end

_UNKNOWN_SIZES = (1 << 31, 1 << 32, 1 << 63, 1 << 64)  # a program that cannot know a size writes one just below or above
_UNKNOWN_MARGIN = 1 << 16
_ROUND_SIZES = (1_000_000_000, 2_000_000_000, 0x7FF00000, 0x7F000000)
_HEADER = 128  # bytes by which the sizes of the file and of its sound may differ
_GUESSED_SHARE = 0.005  # by which the bytes of tags may lengthen what is guessed of an mp3
_JUNK = 2048  # bytes before the first frame
_ZEROS = 8  # bytes at the end of a frame that show that what follows it has begun within
_UNTOLD = 1024  # bytes that may lie behind the sound
_OTHERS = (b"RIFF", b"RF64", b"FORM", b"caff", b".snd", b"\x1a\x45\xdf\xa3", b"FLV", b"\x30\x26\xb2\x75", b"\0\0\0", b"riff")
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
    cut
        What is missing at its end, if that is known.
    notice
        What should be known of it.
    head
        What takes the place of its first bytes: a header that is true.
    """

    start: int
    end: int
    length: Literal["stated", "counted", "unknown"] = "stated"
    hole: int | None = None
    cut: str | None = None
    notice: str | None = None
    head: bytes = b""

    def part(self, file: GuardedFile) -> GuardedFile:
        """Return its stretch of a file."""
        return file.part(self.start, self.end, self.head, endless=self.length == "counted")


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
            link, at = _first(file, at, size, found[-1].head if found else b"")
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


def _first(file: GuardedFile, start: int, size: int, before: bytes = b"") -> _Found:
    head = file.read_at(start, 12)
    if before and head.startswith(b"data"):
        return _data(file, start + 8, size, before[:-4] + head[4:8])
    if head.startswith(b"OggS"):
        return _ogg(file, start, size)
    if head.startswith(b"RIFF") and head.endswith(b"WAVE"):
        return _wav(file, start, size)
    begin = tags_end(file, start)
    if begin > start and file.read_at(begin, 4) in (b"RIFF", b"OggS", b"FORM"):
        return _first(file, begin, size)
    if head.startswith(b"RF64") and file.read_at(start + 12, 4) == b"ds64" and file.read_at(start + 28, 8) == bytes(8):
        return Link(start, size, "unknown"), None
    if head.startswith(b".snd") and (true_head := _au_head(file, start, size)):
        return Link(start, size, head=true_head), None
    head = file.read_at(begin, 4)
    if head == b"fLaC":
        return _flac(file, start, begin, size)
    if (end := chunks.stated_end(file, start, size)) is not None:
        return _chunked(file, start, end, size)
    if not head.startswith(_OTHERS):
        first = find_frames(file, begin, min(begin + _JUNK, size), size)
        if first is not None:
            return _mpeg(file, start, first, size)
    return Link(start, size), None


def _behind(file: GuardedFile, end: int, size: int) -> tuple[int | None, str | None]:
    """Return where the next recording begins behind the end of one, and, where none does, what lies there unread."""
    if end >= size:
        return None, None
    behind = chunks.padding_end(file, end, size)
    for place in (end, behind, behind - 3):  # an mp4 begins with zeros
        if end <= place < size and chunks.is_start(file, place, size):
            return tags_end(file, place), None
    return None, _unread(file, end, size)


def _unread(file: GuardedFile, end: int, size: int, byte_rate: int = 0) -> str | None:
    """Say how much lies behind the end of a recording; None where it is little, or tags and zeros."""
    if size - chunks.padding_end(file, end, size) <= _UNTOLD:
        return None
    end = tags_end(file, end)
    what = f"{size - end} bytes behind its sound, from byte {end} on, are not read"
    if byte_rate:
        return f"{what}; if they are sound ({(size - end) / byte_rate:.2f} s), the size in its header is wrong"
    return f"{what}: no recording of a known kind begins there"


def _chunked(file: GuardedFile, start: int, end: int, size: int) -> _Found:
    """Believe the sizes of chunks that end in the file."""
    if end > size:
        is_caf = file.read_at(start, 4) == b"caff" and end - size > _HEADER
        return Link(start, size, cut=f"is truncated: its header promises {end - size} more bytes" if is_caf else None), None
    other, notice = _behind(file, end, size)
    return Link(start, size if other is None else end, notice=notice), other


def _au_head(file: GuardedFile, start: int, size: int) -> bytes:
    """Return a header with the true size where that of an AU file stands for unknown in a way that libsndfile does not know."""
    n_header, n_bytes = struct.unpack(">II", file.read_at(start + 4, 8).ljust(8, b"\0"))
    if n_bytes == 0xFFFFFFFF or not is_placeholder(n_bytes) or 0 < n_bytes <= size - start - n_header:
        return b""
    return file.read_at(start, 8) + b"\xff\xff\xff\xff"


def _ogg(file: GuardedFile, start: int, size: int) -> _Found:
    """Go from page to page, and on behind a hole; sound beside pictures is beyond libsndfile, and so are odd clocks."""
    pages = ogg.Pages(start)
    pages.follow(file, size)
    other, notice = _behind(file, pages.end, size)
    while other is None and (again := ogg.find_page(file, pages.end + 1, size)) is not None:
        pages.end = again
        pages.follow(file, size)
        other, notice = _behind(file, pages.end, size)
    cut = f"is truncated: {pages.missing} bytes are missing of its last page" if pages.missing else None
    if not pages.ended and other is None and not cut:
        notice = notice or "its last page does not say that it is the last; the end may be missing"
    plain = len(pages.numbers) == 1 and not pages.late and not pages.gap
    return Link(start, other or size, "stated" if plain else "unknown", pages.hole, cut, notice), other


def _wav(file: GuardedFile, start: int, size: int) -> _Found:
    riff_size = int.from_bytes(file.read_at(start + 4, 4), "little")
    data, data_size, byte_rate = start + 12, 0, 0
    while data + 8 <= size:
        header = file.read_at(data, 8)
        data_size = int.from_bytes(header[4:], "little")
        data += 8
        if header[:4] == b"data":
            break
        if header[:4] == b"fmt ":
            byte_rate = int.from_bytes(file.read_at(data + 8, 4), "little")
        data += data_size + data_size % 2
    else:
        return Link(start, size), None
    if data_size == 0:
        # Where the whole file has a true size, that of the data is true as well.
        unfinished = riff_size <= data - start or is_placeholder(riff_size)
        return Link(start, size, "unknown" if unfinished and data < size else "stated"), None
    data_end, riff_end = data + data_size + data_size % 2, start + 8 + riff_size + riff_size % 2
    for end in (riff_end, data_end):
        if data_end <= end < size and (other := _behind(file, end, size)[0]) is not None:
            return Link(start, end), other
    if data_end >= size or (more := _walk(file, data_end, size)) == size:
        return Link(start, size), None
    if file.read_at(more, 4) == b"data":
        return _data(file, data, size, file.read_at(start, data - start))
    # A true header may be followed by junk, but not by more of it than there is sound.
    believed = abs(riff_end - data_end) <= 1 and size - data_end <= data_size
    if believed:
        return Link(start, size, notice=_unread(file, data_end, size, byte_rate)), None
    return Link(start, size, "unknown", head=file.read_at(start, data - start - 4) + bytes(4)), None


def _walk(file: GuardedFile, position: int, size: int) -> int:
    """Return where chunks of a RIFF file end, or one begins that holds more sound; its size if they fill it."""
    while position + 8 <= size:
        header = file.read_at(position, 8)
        end = position + 8 + int.from_bytes(header[4:], "little")
        if header[:4] == b"data" or not all(0x20 <= letter < 0x7F for letter in header[:4]) or end > size + 1:
            return position
        position = end + end % 2
    return size


def _data(file: GuardedFile, data: int, size: int, head: bytes) -> _Found:
    """Return one of several stretches of sound in a wav, with a head as if it were the only one."""
    end = data + int.from_bytes(head[-4:], "little")
    more = _walk(file, end + end % 2, size) if end < size else size
    head = head[:4] + (len(head) - 8 + end - data).to_bytes(4, "little") + head[8:]
    return Link(data - len(head), min(end, size), head=head), more if file.read_at(more, 4) == b"data" else None


def _flac(file: GuardedFile, start: int, begin: int, size: int) -> _Found:
    info = flac.read_info(file, begin)
    end, last = flac.last_frame(file, begin, size, info)
    whole = end == info.n_samples and last + info.longest + _UNTOLD >= size
    if whole and info.n_samples and flac.in_order(file, begin, size, info):
        return Link(start, size), None
    other, notice = flac.find_start(file, begin + 42, size), None
    if other is None and not whole and (found := flac.find_end(file, begin, size, info)) is not None:
        stop = min(size, found + info.longest)
        other = chunks.find_start(file, found + 1, stop, size)
        notice = _unread(file, stop, size) if other is None else None
    if other is not None:
        end, _ = flac.last_frame(file, begin, other, info)
    unknown = not info.n_samples or (end is not None and end > info.n_samples)
    return Link(start, other or size, "unknown" if unknown else "stated", notice=notice), other


def _mpeg(file: GuardedFile, start: int, begin: int, size: int) -> _Found:
    """Believe a first frame that states the number of the others and their end, where these bear it out, or follow them."""
    counts = read_counts(file, begin)
    if counts is not None:
        end = begin + counts.n_bytes if counts.n_frames and counts.n_bytes else None
        followed = follow_frames(file, begin, min(end or size, size))
        if not _borne_out(counts.n_frames, followed, end, size):
            start = begin = begin + counts.frame  # what lacks the header is counted
        elif end is not None:
            return _stated_mpeg(file, start, end, size, followed.end)
    followed = follow_frames(file, begin, size)
    end = min(followed.end, size)
    other, notice = _behind(file, end, size)
    n_zeros = chunks.zeros_end(file, end, size) - end if other is not None else 0
    if other is not None and not (n_zeros and file.read_at(max(begin, end - _ZEROS), _ZEROS) == bytes(_ZEROS)):
        passed = f"{n_zeros} zeros from byte {end} on are passed over; they may stand for sound that is missing"
        return Link(begin, end, "counted", notice=passed if n_zeros else None), other
    if followed.end > size:
        notice = "its last frame is cut off; the end may be missing"
    more = find_frames(file, end, size, size) if end < size else None
    hole = None if more is None else end
    guess_fits = followed.constant and size - end < _GUESSED_SHARE * (end - begin)
    if hole is not None:
        return (Link(start, size, hole=hole) if guess_fits else Link(begin, size, "counted", hole)), None
    # libsndfile counts the frames where it does not know how many bytes there are, but not behind a tag.
    return (Link(start, size, notice=notice) if guess_fits else Link(begin, end, "counted", notice=notice)), None


def _borne_out(n_stated: int | None, followed: Followed, end: int | None, size: int) -> bool:
    """Whether frames are as many as stated, with or without the first, up to the stated end.

    They may be fewer where a file is cut off or something else is in the way.
    """
    if n_stated is None or followed.end < min(end or size, size):
        return True
    enough = followed.n_frames - 1 <= n_stated
    return enough if end is None or end > size else enough and n_stated <= followed.n_frames and followed.end == end


def _stated_mpeg(file: GuardedFile, start: int, end: int, size: int, reached: int) -> _Found:
    other, notice = _behind(file, end, size)
    if other is None and notice is not None:
        other = find_frames(file, chunks.padding_end(file, end, size), size, size)
    if other is None:
        return Link(start, size, notice=notice), None
    return Link(start, end, hole=reached if reached < end else None), other
