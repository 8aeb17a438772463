"""Subtitles: what every transcript's must keep to, and what readable ones look like."""

from __future__ import annotations

import math
from itertools import combinations, pairwise, zip_longest

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from asr.decoding.hypothesis import Word
from asr.errors import ConfigError
from asr.transcription.subtitles import Cue, SubtitleLayout, best_breaks, break_lines, make_cues

LAYOUTS = st.builds(
    SubtitleLayout,
    max_line_length=st.integers(10, 60),
    max_lines=st.integers(1, 4),
    reading_speed=st.floats(5, 40),
    min_duration_s=st.floats(0.2, 2.0),
    max_duration_s=st.floats(2.5, 10.0),
    gap_s=st.floats(0.0, 0.3),
)


@st.composite
def spoken(draw: st.DrawFn, least_s: float = 0.0) -> list[Word]:
    """Words of any length at any speed, with and without pauses."""
    words, time_s = [], draw(st.floats(0, 5))
    for _ in range(draw(st.integers(0, 60))):
        text = draw(st.sampled_from(["a", "of", "the", "sea", "whale", "harpooneer", "unaccountable", "x" * 70]))
        end_s = time_s + draw(st.floats(least_s, 1.0) | st.just(least_s) | st.just(9.0))
        words.append(Word(text, time_s, end_s, 1.0))
        time_s = end_s + draw(st.just(0.0) | st.floats(0.0, 0.3) | st.floats(0.5, 4.0))
    return words


def say(text: str, *, pauses: dict[str, float] | None = None, word_s: float = 0.35) -> list[Word]:
    """Words of a sentence, each of one length, with a pause (s) behind some of them."""
    words, time_s = [], 0.0
    for item in text.split():
        words.append(Word(item, time_s, time_s + word_s, 1.0))
        time_s += word_s + (pauses or {}).get(item, 0.0)
    return words


def lines_of(text: str, max_line_length: int) -> tuple[str, ...]:
    return break_lines(text.split(), SubtitleLayout(max_line_length=max_line_length))


def texts(cues: list[Cue]) -> list[str]:
    return [" / ".join(cue.lines) for cue in cues]


def words_of(cue: Cue) -> list[str]:
    return " ".join(cue.lines).split()


@given(spoken(), LAYOUTS)
def test_no_word_is_lost_or_doubled_and_all_lines_fit(words: list[Word], layout: SubtitleLayout) -> None:
    cues = make_cues(words, layout)
    assert [word for cue in cues for word in words_of(cue)] == [word.text for word in words]
    for cue in cues:
        assert 1 <= len(cue.lines) <= layout.max_lines
        assert all(len(line) <= layout.max_line_length or " " not in line for line in cue.lines)


@given(spoken(), LAYOUTS)
def test_cues_never_overlap(words: list[Word], layout: SubtitleLayout) -> None:
    cues = make_cues(words, layout)
    assert all(0 <= cue.start_ms < cue.end_ms for cue in cues)
    assert all(before.end_ms <= after.start_ms for before, after in pairwise(cues))


@given(spoken(least_s=0.05), LAYOUTS)
def test_durations(words: list[Word], layout: SubtitleLayout) -> None:
    """As long as it takes to say and to read, but for the longest time allowed and the start of the next cue."""
    cues = make_cues(words, layout)
    position = 0
    for cue, after in zip_longest(cues, cues[1:]):
        shown = words[position : position + len(words_of(cue))]
        position += len(shown)
        start_s, duration_s = cue.start_ms / 1000, (cue.end_ms - cue.start_ms) / 1000
        assert start_s == pytest.approx(shown[0].start_s, abs=0.0011)
        assert duration_s <= layout.max_duration_s + 0.0011
        reading_s = len(" ".join(cue.lines)) / layout.reading_speed
        wanted_s = min(max(reading_s, layout.min_duration_s, shown[-1].end_s - start_s), layout.max_duration_s)
        room_s = math.inf if after is None else after.start_ms / 1000 - start_s
        gap_s = min(layout.gap_s, room_s / 2)
        assert duration_s >= min(wanted_s, room_s - gap_s) - 0.0021
        assert room_s - duration_s >= gap_s - 0.0021


@given(spoken())
@example([Word("a", 0.0, 0.0, 1.0), Word("a", 3.1, 3.1, 1.0), Word("a", 3.1, 12.0, 1.0)])
def test_a_pause_of_three_seconds_ends_a_cue(words: list[Word]) -> None:
    position = 0
    for cue in make_cues(words, SubtitleLayout()):
        shown = words[position : position + len(words_of(cue))]
        position += len(shown)
        assert all(after.start_s - before.end_s < 3.0001 for before, after in pairwise(shown))


@settings(max_examples=30)
@given(st.integers(1, 9), st.randoms(use_true_random=False), st.integers(1, 9))
def test_best_breaks_are_the_best_of_all(n: int, random: object, longest: int) -> None:
    assert hasattr(random, "random")
    costs = {
        (start, end): random.random() if end - start <= longest else math.inf
        for start in range(n)
        for end in range(start + 1, n + 1)
    }

    def total(ends: tuple[int, ...]) -> float:
        return sum(costs[pair] for pair in pairwise((0, *ends)))

    every = [(*inner, n) for k in range(n) for inner in combinations(range(1, n), k)]
    found = tuple(best_breaks(n, lambda start, end: costs[start, end]))
    assert total(found) == pytest.approx(min(map(total, every)))


def test_nothing_said() -> None:
    assert make_cues([], SubtitleLayout()) == []


def test_a_short_sentence_is_one_line() -> None:
    assert texts(make_cues(say("call me ishmael"), SubtitleLayout())) == ["call me ishmael"]


def test_cues_end_at_pauses() -> None:
    words = say(
        "some years ago never mind how long precisely i thought i would sail about", pauses={"ago": 0.7, "precisely": 0.9}
    )
    layout = SubtitleLayout(max_lines=1)
    assert texts(make_cues(words, layout)) == [
        "some years ago",
        "never mind how long precisely",
        "i thought i would sail about",
    ]


def test_no_line_ends_in_an_article_or_preposition() -> None:
    lines = lines_of("having little money in the purse of a sailor", max_line_length=25)
    assert lines == ("having little money", "in the purse of a sailor")
    # Behind "under", the parts would be of more equal length.
    cues = make_cues(say("whales swim under the ice floes", word_s=0.7), SubtitleLayout(max_line_length=20, max_lines=1))
    assert texts(cues) == ["whales swim", "under the ice floes"]


def test_no_short_word_is_left_alone() -> None:
    assert lines_of("when it is a damp day", max_line_length=20) == ("when it is", "a damp day")
    for n in range(4, 30):
        cues = make_cues(say("whale " * n), SubtitleLayout(max_line_length=20))
        assert all(len(words_of(cue)) > 1 for cue in cues)
        assert all(" " in line for cue in cues for line in cue.lines)


def test_a_word_between_long_pauses_stands_alone() -> None:
    words = say("sail ho yes there she blows", pauses={"ho": 3.0, "yes": 3.0})
    assert texts(make_cues(words, SubtitleLayout())) == ["sail ho", "yes", "there she blows"]


def test_a_pause_divides_the_more_the_longer_it_is() -> None:
    for pause_s, expected in ((0.6, ["sail ho there she blows"]), (1.5, ["sail ho", "there she blows"])):
        assert texts(make_cues(say("sail ho there she blows", pauses={"ho": pause_s}), SubtitleLayout())) == expected
    for pause_s, expected in ((1.2, ["yes there she blows"]), (2.5, ["yes", "there she blows"])):
        assert texts(make_cues(say("yes there she blows", pauses={"yes": pause_s}), SubtitleLayout())) == expected


def test_cues_are_of_about_the_same_length() -> None:
    cues = make_cues(say("whale " * 9, word_s=0.7), SubtitleLayout(max_line_length=41, max_lines=1))
    assert sorted(len(words_of(cue)) for cue in cues) == [4, 5]


def test_words_spoken_slowly_are_shown_as_long_as_they_are_spoken() -> None:
    cues = make_cues(say("whale " * 6, word_s=2.0), SubtitleLayout(gap_s=0.0))
    assert [(cue.start_ms, cue.end_ms, len(words_of(cue))) for cue in cues] == [(0, 6000, 3), (6000, 12000, 3)]


def test_words_spoken_fast_share_a_cue() -> None:
    times = [(0.0, 0.2), (0.2, 0.4), (0.4, 0.6), (0.6, 3.0)]
    words = [Word("straight", start_s, end_s, 1.0) for start_s, end_s in times]
    cues = make_cues(words, SubtitleLayout(max_line_length=26, max_lines=1))
    assert [len(words_of(cue)) for cue in cues] == [3, 1]


def test_lines_are_of_about_the_same_length() -> None:
    lines = lines_of("wherever you go you carry some of the old salt home", max_line_length=42)
    assert len(lines) == 2
    assert abs(len(lines[0]) - len(lines[1])) <= 6


def test_short_gaps_are_closed_and_long_ones_kept() -> None:
    words = [Word("unaccountable", 0.0, 2.0, 1.0), Word("harpooneers", 5.0, 6.5, 1.0), Word("everywhere", 8.8, 9.8, 1.0)]
    first, second, third = make_cues(words, SubtitleLayout(max_line_length=15, max_lines=1))
    assert (first.start_ms, first.end_ms) == (0, 2000)
    assert (second.start_ms, second.end_ms) == (5000, 6500)
    assert (third.start_ms, third.end_ms) == (8800, 9800)
    closer = [*words[:2], Word("everywhere", 6.9, 8.0, 1.0)]
    assert make_cues(closer, SubtitleLayout(max_line_length=15, max_lines=1))[1].end_ms == 6900 - 80


def test_fast_speech_is_shown_longer_where_there_is_room() -> None:
    words = say("thirty characters in one second", word_s=0.2)
    (cue,) = make_cues(words, SubtitleLayout(reading_speed=10))
    assert cue.end_ms == 3100


def test_a_word_held_for_very_long_is_not() -> None:
    (cue,) = make_cues([Word("aaah", 1.0, 30.0, 1.0)], SubtitleLayout())
    assert (cue.start_ms, cue.end_ms) == (1000, 8000)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("max_line_length", 9, "max_line_length=9: subtitles need 10 to 200"),
        ("max_lines", 0, "max_lines=0: subtitles need 1 to 10"),
        ("reading_speed", 4.5, "reading_speed=4.5: subtitles need 5 to 100"),
        ("reading_speed", math.nan, "reading_speed=nan"),
        ("gap_s", -0.1, "gap_s=-0.1"),
        ("min_duration_s", 8.0, "min_duration_s=8, max_duration_s=7"),
        ("max_duration_s", math.inf, "max_duration_s=inf"),
    ],
)
def test_layouts_that_cannot_be(name: str, value: float, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SubtitleLayout(**{name: value})  # type: ignore[arg-type]
