"""The frames of MPEG audio (mp1, mp2, mp3) as far as it takes to find them and what is said of their number."""

from __future__ import annotations

from dataclasses import dataclass

from asr.formats.file import GuardedFile

# Bits in thousands a second by version 1 or later, layer, and code.
_BIT_RATES = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES_HZ = (44100, 48000, 32000)
_SAMPLES = {(1, 1): 384, (2, 1): 384, (1, 2): 1152, (2, 2): 1152, (1, 3): 1152, (2, 3): 576}
_IN_A_ROW = 3  # frames that make sure of the first
_SEARCHED_AT_ONCE = 1 << 16
_FOLLOWED_AT_ONCE = 1 << 20

_Kind = tuple[int, int, int]
"""Version (1; 2; 3 for 2.5), layer, and sample rate (Hz)."""


def read_header(head: bytes) -> tuple[_Kind, int] | None:
    """Return what a frame is and how many bytes it has, from its first four; None if it is none."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = {0: 3, 2: 2, 3: 1}.get(head[1] >> 3 & 3), 4 - (head[1] >> 1 & 3)
    rate_code, bits_code = head[2] >> 2 & 3, head[2] >> 4
    if version is None or layer == 4 or rate_code == 3 or not 0 < bits_code < 15:
        return None
    generation = min(version, 2)
    rate = _RATES_HZ[rate_code] >> version - 1
    padding = head[2] >> 1 & 1
    n_bits = 1000 * _BIT_RATES[generation, layer][bits_code - 1]
    unit = 4 if layer == 1 else 1
    return (version, layer, rate), (_SAMPLES[generation, layer] // 8 // unit * n_bits // rate + padding) * unit


def find_frames(file: GuardedFile, start: int, stop: int, size: int) -> int | None:
    """Return where the first of several frames in a row begins; None if there are none.

    Parameters
    ----------
    file
        Where to look.
    start, stop
        The first frame begins here or behind, and before.
    size
        Bytes of the file.
    """
    while start < stop:
        content = file.read_at(start, min(_SEARCHED_AT_ONCE, stop - start) + 1)
        place = -1
        while (place := content.find(b"\xff", place + 1)) >= 0 and start + place < stop:
            if place + 1 < len(content) and content[place + 1] >= 0xE0 and _are_frames(file, start + place, size):
                return start + place
        if len(content) < 2:
            return None
        start += len(content) - 1
    return None


def _are_frames(file: GuardedFile, position: int, size: int) -> bool:
    kind = None
    for n_found in range(_IN_A_ROW):
        if n_found > 1 and position >= size:
            return True
        found = read_header(file.read_at(position, 4))
        if found is None or (kind is not None and found[0] != kind):
            return False
        kind, n_bytes = found
        position += n_bytes
    return True


@dataclass(frozen=True)
class Followed:
    """Frames in a row.

    Attributes
    ----------
    end
        Behind the last one (bytes), which may not be there as a whole.
    constant
        Whether all have the same bit rate, so that the length follows from the bytes.
    n_frames
        How many they are.
    """

    end: int
    constant: bool
    n_frames: int


def follow_frames(file: GuardedFile, position: int, size: int) -> Followed:
    """Go from frame to frame.

    Parameters
    ----------
    file
        Where they are.
    position
        Where the first one begins.
    size
        The last frame begins before (byte).
    """
    kind: _Kind | None = None
    n_bytes: dict[int, int] = {}  # of the frames whose second and third byte have this value; a dictionary, for speed
    rates: set[int] = set()
    n_frames = 0
    while position < size:
        content = file.read_at(position, min(_FOLLOWED_AT_ONCE, size - position + 3))  # the last header may go on behind
        place = 0
        while place + 4 <= len(content):
            word = content[place + 1] << 8 | content[place + 2]
            step = n_bytes.get(word)
            if step is None or content[place] != 0xFF:
                found = read_header(content[place : place + 4])
                if found is None or found[0] != (kind or found[0]):
                    return Followed(position + place, len(rates) < 2, n_frames)
                kind, step = found
                n_bytes[word] = step
                rates.add(word & 0xF0)
            place += step
            n_frames += 1
        if not place:
            break
        position += place
    return Followed(position, len(rates) < 2, n_frames)


@dataclass(frozen=True)
class FrameCounts:
    """What a first frame, which is silent, says of the others.

    Attributes
    ----------
    n_frames, n_bytes
        How many they are, and how many bytes they have with the first; None where it does not say.
    frame
        Bytes of the first.
    """

    n_frames: int | None
    n_bytes: int | None
    frame: int


def read_counts(file: GuardedFile, position: int) -> FrameCounts | None:
    """Return what Xing's or Fraunhofer's header says in a frame that begins at a position; None if there is none."""
    head = file.read_at(position, 192)
    found = read_header(head[:4])
    if found is None:
        return None
    for name in (b"Xing", b"Info"):
        at = head.find(name, 4, 64)
        if at >= 0:
            has_frames, has_bytes = head[at + 7] & 1, head[at + 7] & 2
            n_frames = int.from_bytes(head[at + 8 : at + 12], "big") if has_frames else None
            at += 12 if has_frames else 8
            return FrameCounts(n_frames, int.from_bytes(head[at : at + 4], "big") if has_bytes else None, found[1])
    if head[36:40] == b"VBRI":
        return FrameCounts(int.from_bytes(head[50:54], "big"), int.from_bytes(head[46:50], "big"), found[1])
    return None


def tags_end(file: GuardedFile, position: int) -> int:
    """Return what lies behind the tags (ID3, APE) at a position."""
    while True:
        head = file.read_at(position, 32)
        if head.startswith(b"ID3") and len(head) >= 10:
            n_bytes = sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
            position += 10 + n_bytes + (10 if head[5] & 0x10 else 0)
        elif head.startswith(b"TAG"):
            position += 128
        elif head.startswith(b"APETAGEX") and len(head) == 32:
            # A size without the footer is false, and one of 0 would never end.
            position += max(32, int.from_bytes(head[12:16], "little") + (32 if head[23] & 0x80 else 0))
        else:
            return position
