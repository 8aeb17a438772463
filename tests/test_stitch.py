"""Joining the words of windows that share audio."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.decoding.hypothesis import Word
from asr.transcription.stitch import after, before, seam


def spell(*items: tuple[str, float, float]) -> tuple[Word, ...]:
    return tuple(Word(text, start_s, end_s, 0.5) for text, start_s, end_s in items)


def joined(left: tuple[Word, ...], right: tuple[Word, ...], start_s: float, end_s: float) -> list[str]:
    cut_s = seam(left, right, start_s, end_s)
    assert start_s <= cut_s <= end_s
    words = (*before(left, cut_s), *after(right, cut_s))
    times = [time for word in words for time in (word.start_s, word.end_s)]
    assert times == sorted(times)
    return [word.text for word in words]


def test_the_broken_words_at_both_edges_are_lost_and_the_others_are_not() -> None:
    left = spell(("one", 25, 26), ("two", 26.5, 27), ("three", 27.5, 28.6), ("fo", 29.8, 30))
    right = spell(("ee", 26, 26.1), ("two", 26.5, 27), ("three", 27.5, 28.6), ("four", 29.8, 30.3), ("five", 31, 32))
    assert joined(left, right, 26, 30) == ["one", "two", "three", "four", "five"]


def test_a_word_in_the_middle_is_said_once_whatever_side_it_is_taken_from() -> None:
    for shift in (-0.06, 0.0, 0.06):
        left = spell(("a", 26.5, 27), ("middle", 27.4, 28.6), ("b", 29, 29.5))
        right = spell(("a", 26.5, 27), ("middle", 27.4 + shift, 28.6 + shift), ("b", 29, 29.5))
        assert joined(left, right, 26, 30) == ["a", "middle", "b"]


def test_words_that_were_said_twice_stay_two() -> None:
    words = spell(("very", 26.5, 27.9), ("very", 28.1, 29.5))
    assert joined(words, words, 26, 30) == ["very", "very"]


def test_readings_that_split_words_differently() -> None:
    left = spell(("in", 27.6, 27.9), ("side", 27.9, 28.4), ("out", 28.6, 29))
    right = spell(("inside", 27.6, 28.4), ("out", 28.6, 29))
    assert joined(left, right, 26, 30) in (["in", "side", "out"], ["inside", "out"])


def test_without_words_the_middle_is_cut() -> None:
    assert seam((), (), 26.0, 30.0) == 28.0
    assert joined((), spell(("a", 29, 31)), 26, 30) == ["a"]
    assert joined(spell(("a", 25, 27)), (), 26, 30) == ["a"]


def test_no_word_reaches_over_the_cut() -> None:
    (word,) = before(spell(("a", 1.0, 3.0)), 2.5)
    assert (word.start_s, word.end_s) == (1.0, 2.5)
    (word,) = after(spell(("a", 1.0, 3.0)), 1.5)
    assert (word.start_s, word.end_s) == (1.5, 3.0)
    assert before(spell(("a", 1.0, 3.0)), 2.0) == ()  # each word is on one side, and on one alone
    assert len(after(spell(("a", 1.0, 3.0)), 2.0)) == 1


@given(seed=st.integers(0, 10**6), jitter_s=st.floats(0, 0.05), density=st.floats(0.05, 1.0))
def test_nothing_is_lost_or_doubled_where_both_read_the_same(seed: int, jitter_s: float, density: float) -> None:
    """Speech as it is: words of 0.15 to 0.8 s, mostly without pauses, whose times two windows see a little differently."""
    rng = random.Random(seed)
    words: list[tuple[str, float, float]] = []
    time = 20.0
    while time < 36.0:
        end = time + rng.uniform(0.15, 0.8)
        words.append((f"w{len(words)}", time, end))
        time = end + (rng.uniform(0.0, 0.5) if rng.random() > density else 0.0)

    def seen(start_s: float, end_s: float) -> tuple[Word, ...]:
        inside = [(text, max(a, start_s), min(b, end_s)) for text, a, b in words if b > start_s and a < end_s]
        edges = [(text, a + rng.uniform(-jitter_s, jitter_s), b + rng.uniform(-jitter_s, jitter_s)) for text, a, b in inside]
        ordered = sorted(time for _, a, b in edges for time in (a, b))
        return spell(*((text, a, b) for (text, _, _), a, b in zip(edges, ordered[::2], ordered[1::2], strict=True)))

    left, right = seen(20.0, 30.0), seen(26.0, 36.0)
    assert joined(left, right, 26.0, 30.0) == [text for text, _, _ in words]


@pytest.mark.parametrize("inside_s", [0.01, 0.3])
def test_a_gap_near_the_middle_is_better_than_the_middle_of_a_word(inside_s: float) -> None:
    words = spell(("a", 26.2, 28 + inside_s), ("b", 28 + inside_s + 0.1, 29.8))
    assert 28 + inside_s <= seam(words, words, 26.0, 30.0) <= 28.1 + inside_s
