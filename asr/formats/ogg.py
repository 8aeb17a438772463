"""The pages of Ogg (RFC 3533) as far as it takes to find where a recording ends and what is missing of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from asr.formats.file import GuardedFile

_MAGIC = b"OggS"
_HEADER = 27  # bytes of a page before its table of segments
_GAP_S = 0.1
_OPUS_RATE = 48000  # of granule positions, whatever the rate of the sound
_SEARCHED_AT_ONCE = 1 << 20


@dataclass
class Pages:
    """What the pages of a recording tell.

    Attributes
    ----------
    end
        Behind the last page (byte), or where one should be and something else is.
    numbers
        The number of the last page of each stream.
    late
        Whether pages are missing before the first sound, as in what is taken down from a broadcast.
    hole
        Where pages are missing in the middle (byte).
    gap
        Whether time stamps go further than the sound between them.
    missing
        Bytes that the last page lacks.
    ended
        Whether a page says that it is the last.
    """

    end: int
    numbers: dict[bytes, int] = field(default_factory=dict)
    late: bool = False
    hole: int | None = None
    gap: bool = False
    missing: int = 0
    ended: bool = False
    _sounding: bool = False
    _clocks: dict[bytes, _Clock] = field(default_factory=dict)

    def follow(self, file: GuardedFile, size: int) -> None:
        """Go from page to page to where there is none, or a recording ends: its others have begun and a first page follows.

        Parameters
        ----------
        file
            Where they are.
        size
            Bytes of the file.
        """
        while self.end + _HEADER <= size:
            page = file.read_at(self.end, _HEADER + 255)
            if page[:4] != _MAGIC or len(page) < _HEADER:
                return
            is_first, serial, number = bool(page[5] & 2), page[14:18], int.from_bytes(page[18:22], "little")
            if is_first and any(self.numbers.values()):
                return
            segments = page[_HEADER : _HEADER + page[26]]
            body = self.end + _HEADER + len(segments)
            granule = int.from_bytes(page[6:14], "little", signed=True)
            if is_first:
                self._clocks[serial] = _Clock(file.read_at(body, 32))
            elif number != self.numbers.get(serial, -1) + 1:
                self.late = self.late or not self._sounding
                self.hole = self.end if self._sounding and self.hole is None else self.hole
            clock = self._clocks.get(serial)
            if clock is not None and clock.jumps(granule, segments, file.read_at(body, sum(segments)) if clock.reads else b""):
                self.gap = True
            self._sounding = self._sounding or granule > 0
            self.numbers[serial] = number
            self.ended = self.ended or bool(page[5] & 4)
            self.end = body + sum(segments)
            if self.end > size:
                self.missing, self.end = self.end - size, size
        if 0 < size - self.end < _HEADER and file.read_at(self.end, 4) == _MAGIC[: size - self.end]:
            self.missing, self.end = _HEADER - (size - self.end), size


def find_page(file: GuardedFile, start: int, size: int) -> int | None:
    """Return where a page begins, at a position or behind; None if there is none."""
    while start < size:
        content = file.read_at(start, _SEARCHED_AT_ONCE + len(_MAGIC))
        found = content.find(_MAGIC)
        if found >= 0:
            return start + found
        if not content:
            return None
        start += _SEARCHED_AT_ONCE
    return None


class _Clock:
    """Compares the granule positions of a stream with the most that its packets can hold.

    Opus packets tell how long they are; of Vorbis it is known what the longest may be.

    Parameters
    ----------
    head
        How its first packet begins.
    """

    def __init__(self, head: bytes) -> None:
        self.reads = head.startswith(b"OpusHead")
        self._rate, self._longest = _OPUS_RATE, 0
        if head.startswith(b"\x01vorbis") and len(head) > 28:
            self._rate, self._longest = int.from_bytes(head[12:16], "little"), (1 << (head[28] >> 4)) // 2
        self._last: int | None = None
        self._begun = 0  # samples of a packet that goes on in the next page

    def jumps(self, granule: int, segments: bytes, body: bytes) -> bool:
        """Whether there is a gap before the end of a page, which is -1 where no packet ends in it."""
        if not (self.reads or self._longest):
            return False
        n_samples = self._opus(segments, body) if self.reads else sum(n < 255 for n in segments) * self._longest
        if granule < 0:
            return False
        last, self._last = self._last, granule
        return bool(last) and granule - (last or 0) - n_samples > _GAP_S * self._rate

    def _opus(self, segments: bytes, body: bytes) -> int:
        """Return the samples of the packets that end in a page."""
        n_samples, place, begins = 0, 0, not self._begun
        for n_bytes in segments:
            if begins:
                self._begun = opus_samples(body[place : place + 2])
            place += n_bytes
            begins = n_bytes < 255
            if begins:
                n_samples += self._begun
                self._begun = 0
        return n_samples


def opus_samples(head: bytes) -> int:
    """Return how long an Opus packet is (samples at 48 kHz), from its first two bytes (RFC 6716, section 3.1)."""
    if not head:
        return 0
    kind, code = head[0] >> 3, head[0] & 3
    if kind < 12:
        frame = (480, 960, 1920, 2880)[kind & 3]
    else:
        frame = (480, 960)[kind & 1] if kind < 16 else (120, 240, 480, 960)[kind & 3]
    return frame * ((head[1] & 63 if len(head) > 1 else 0) if code == 3 else (1, 2, 2)[code])
