"""Where sound lies in time: which time stamps are believed."""

from __future__ import annotations

import pytest

from asr.formats.timeline import Timeline


def silences(stamps_s: list[float | None], duration_s: float = 0.0, *, may_jump: bool = False) -> dict[int, object]:
    """Return the silence before each of some pieces of a second each, where there is any (s)."""
    timeline = Timeline(duration_s, may_jump=may_jump)
    pairs = zip(stamps_s, [*stamps_s[1:], None], strict=True)
    found = {n: timeline.silence_before(stamp, 1.0, after) for n, (stamp, after) in enumerate(pairs)}
    assert timeline.position_s == pytest.approx(len(stamps_s) + sum(found.values()))
    return {n: pytest.approx(silence) for n, silence in found.items() if silence}


def test_stamps_that_are_a_little_off_or_absent_leave_no_gap() -> None:
    assert not silences([0.0, 1.05, 1.98, None, 4.0, 4.95])


def test_late_beginning_and_gaps() -> None:
    assert silences([2.0, 3.0, 7.5, 8.5, 9.5]) == {0: 2.0, 2: 3.5}


def test_small_gaps_add_up() -> None:
    assert silences([0.0, 1.08, 2.16, 3.24]) == {2: 0.16}


def test_a_single_stamp_that_goes_with_no_other_is_not_believed() -> None:
    assert not silences([0.0, 1.0, 900.0, 3.0, 4.0])


def test_stamps_beyond_the_end_of_the_file_are_not_believed() -> None:
    stamps: list[float | None] = [0.0, 1.0, 500.0, 501.0, 502.0]
    assert silences(stamps) == {2: 498.0}
    assert silences(stamps, 503.0) == {2: 498.0}
    assert not silences(stamps, 10.0)
    assert not silences(stamps, 503.0, may_jump=True)


def test_stamps_that_begin_anew_go_on_from_there() -> None:
    assert silences([0.0, 1.0, 2.0, 0.0, 1.0, 5.0, 6.0]) == {5: 3.0}
