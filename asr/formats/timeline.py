"""Where sound lies in time: gaps between time stamps are silence, where the stamps can be believed."""

from __future__ import annotations

_LEAST_GAP_S = 0.1  # stamps are rounded, and packets come a little early or late
_RESET_S = 1.0
_LONGEST_JUMP_S = 10.0  # as FFmpeg has it for streams whose stamps may begin anew, such as joined broadcasts
_LONGEST_GAP_S = 3600.0
_MARGIN_S = 1.0


class Timeline:
    """Follows sound that arrives in pieces with time stamps.

    Parameters
    ----------
    duration_s
        Length of the whole file, beyond which no stamp is believed; 0 where it is not known.
    may_jump
        Whether stamps may begin anew in the middle.

    Attributes
    ----------
    position_s
        Seconds of sound and silence so far.
    gaps
        Begin and length of each silence behind the first sound (s).
    start_s
        Silence before the first sound (s).
    """

    def __init__(self, duration_s: float = 0.0, *, may_jump: bool = False) -> None:
        self.position_s = 0.0
        self.start_s = 0.0
        self.gaps: list[tuple[float, float]] = []
        self._duration_s = duration_s
        self._may_jump = may_jump
        self._shift_s = 0.0
        self._begun = False

    def silence_before(self, stamp_s: float | None, length_s: float, following_s: float | None) -> float:
        """Take a piece of sound, and return the silence that comes before it (s).

        Parameters
        ----------
        stamp_s
            Its time stamp, counted from the beginning of the file; None where it has none.
        length_s
            How long it is.
        following_s
            The stamp of the next piece. A single one that does not go with its neighbours is not believed.
        """
        silence_s = 0.0 if stamp_s is None else self._gap(stamp_s, length_s, following_s)
        if silence_s and self._begun:
            self.gaps.append((self.position_s, silence_s))
        elif silence_s:
            self.start_s = silence_s
        self._begun = True
        self.position_s += silence_s + length_s
        return silence_s

    def _gap(self, stamp_s: float, length_s: float, following_s: float | None) -> float:
        ahead_s = stamp_s + self._shift_s - self.position_s
        if ahead_s < -_RESET_S:
            self._shift_s -= ahead_s
            return 0.0
        if ahead_s <= _LEAST_GAP_S or (self._begun and not _goes_on(stamp_s + length_s, following_s)):
            return 0.0
        if ahead_s > self._longest_s():
            self._shift_s -= ahead_s
            return 0.0
        return ahead_s

    def _longest_s(self) -> float:
        """Return the longest gap that is believed here (s)."""
        if self._may_jump and self._begun:
            return _LONGEST_JUMP_S
        return self._duration_s - self.position_s + _MARGIN_S if self._duration_s else _LONGEST_GAP_S


def _goes_on(end_s: float, following_s: float | None) -> bool:
    return following_s is not None and abs(following_s - end_s) <= _LEAST_GAP_S
