"""What a container's packets tell beside their sound: where the tracks end, and where bytes between them were passed over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_LEAST_JUMP_S = 0.1
_LEAST_HOLE = 256  # bytes; headers of packets and of clusters are smaller
_USUAL = 2  # holes are larger than what was between packets before, by as much: indexes and padding
_HOLE_SHARE = 0.25  # of the bytes that the time of a jump would have taken
_NEAR_S = 1.0  # packets may be put together from several places


class PacketLog:
    """Follows the packets of all tracks as they come.

    A demuxer that meets damage looks for the next packet that it knows, and says nothing. So a jump of the sound's time stamps
    is damage where bytes were passed over, and silence where none were.

    Parameters
    ----------
    in_order
        Whether packets come as they stand in the file, with little between them.
    is_whole
        Says of the bytes from one packet of the sound to the next whether nothing is damaged there, for files that are in no
        such order.
    """

    def __init__(self, *, in_order: bool, is_whole: Callable[[int, int], bool] | None = None) -> None:
        self._in_order = in_order
        self._is_whole = is_whole
        self._sound_byte: int | None = None
        self._ends: dict[int, tuple[float, float]] = {}  # the last stamp of each track, and the longest step (s)
        self._units_s: dict[int, float] = {}
        self._end_byte: int | None = None
        self._usual = 0
        self._n_bytes = 0
        self._sound_s = 0.0
        self._sound_end_s: float | None = None
        self._hole: tuple[int, float] | None = None  # its bytes, and the sound's time when it was met
        self._jump: tuple[float, float] | None = None  # from, to (s)

    def add(self, packet: Any, *, is_sound: bool) -> str | None:
        """Take a packet, and say what was passed over before it, if it was.

        Parameters
        ----------
        packet
            Of PyAV.
        is_sound
            Whether it is of the track that is read.
        """
        stamp, index = packet.pts if packet.pts is not None else packet.dts, packet.stream.index
        unit_s = self._units_s.get(index)
        if unit_s is None:
            unit_s = self._units_s[index] = float(packet.stream.time_base or 0)
        if stamp is not None and unit_s:
            stamp_s, length_s = stamp * unit_s, (packet.duration or 0) * unit_s
            last_s, step_s = self._ends.get(index, (stamp_s, 0.0))
            self._ends[index] = max(stamp_s, last_s), max(stamp_s - last_s, step_s, length_s)
            if is_sound:
                self._hear(stamp_s, length_s)
        if self._is_whole is not None and is_sound and packet.pos is not None:
            return self._looked_at(packet.pos)
        if not self._in_order or (place := packet.pos) is None or not (size := packet.size):
            return None
        self._pass_over(0 if self._end_byte is None else place - self._end_byte)
        self._end_byte = place + size
        self._n_bytes += size
        return self._found()

    def end_s(self) -> tuple[float, float]:
        """Return the last time stamp of any track (s), and where that ends; a picture need not say how long it is shown."""
        ends = list(self._ends.values()) or [(0.0, 0.0)]
        return max(last for last, _ in ends), max(last + step for last, step in ends)

    def _hear(self, stamp_s: float, length_s: float) -> None:
        end_s = stamp_s if self._sound_end_s is None else self._sound_end_s
        if stamp_s - end_s >= _LEAST_JUMP_S:
            self._jump = end_s, stamp_s
        self._sound_s += length_s
        self._sound_end_s = max(end_s, stamp_s + length_s)

    def _looked_at(self, place: int) -> str | None:
        """Look at what a jump passed over."""
        start, self._sound_byte = self._sound_byte, place
        jump, self._jump = self._jump, None
        if jump is None or start is None or start >= place or self._is_whole is None or self._is_whole(start, place):
            return None
        return f"something is missing from byte {start} to {place}, where time stamps jump by {jump[1] - jump[0]:.2f} s"

    def _pass_over(self, n_bytes: int) -> None:
        if n_bytes > max(_LEAST_HOLE, _USUAL * self._usual) and self._hole is not None:
            self._usual = max(self._usual, self._hole[0])  # no sound was missing at that one
        if n_bytes > max(_LEAST_HOLE, _USUAL * self._usual):
            self._hole = n_bytes, self._sound_end_s or 0.0
        else:
            self._usual = max(self._usual, n_bytes)

    def _found(self) -> str | None:
        if self._hole is None or self._jump is None:
            return None
        (n_bytes, heard_s), (from_s, to_s) = self._hole, self._jump
        bytes_per_s = self._n_bytes / self._sound_s if self._sound_s else 0.0
        if not from_s - _NEAR_S <= heard_s <= to_s + _NEAR_S or n_bytes < _HOLE_SHARE * (to_s - from_s) * bytes_per_s:
            return None
        self._hole = self._jump = None
        return f"{n_bytes} bytes hold nothing that can be read, where time stamps jump by {to_s - from_s:.2f} s"
