"""Confidence intervals and tests of significance: by hand, and by simulation."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest

from asr.scoring.intervals import ResamplingUnits, bootstrap_difference, bootstrap_interval, choose_units, sign_flip_test
from asr.scoring.pairs import align_words
from asr.scoring.significance import MIN_SEGMENTS, holm, mapsswe, segments

TRIALS = 300  # `scripts/bench intervals` makes two thousand


def draw_speakers(rng: np.random.Generator, n_speakers: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Draw utterances of speakers who make errors differently often, a fifth of all words on average."""
    n_utterances = rng.integers(5, 40, n_speakers)
    speaker = np.repeat(np.arange(n_speakers), n_utterances)
    words = rng.integers(3, 30, len(speaker))
    rates = np.clip(rng.normal(rng.beta(2, 8, n_speakers)[speaker], 0.05), 0, 1)
    return rng.binomial(words, rates), words, [f"s{one}" for one in speaker]


def test_interval_equals_the_exact_bootstrap_of_three_utterances() -> None:
    errors, references = np.array([0, 3, 1]), np.array([10, 5, 4])
    draws = [list(draw) for draw in itertools.product(range(3), repeat=3)]  # all 27 resamples
    rates = sorted(errors[draw].sum() / references[draw].sum() for draw in draws)
    found = bootstrap_interval(errors, references)
    assert (found.low, found.high) == pytest.approx((rates[0], rates[-1]))  # each has 1/27 > 2.5 %
    assert (found.unit, found.n_units) == ("utterance", 3)


def test_interval_narrows_as_the_corpus_grows_and_repeats_exactly() -> None:
    errors, references = np.array([1, 0, 2, 1]), np.array([10, 8, 9, 12])
    widths = []
    for times in (25, 2500):
        found = bootstrap_interval(np.tile(errors, times), np.tile(references, times))
        assert found == bootstrap_interval(np.tile(errors, times), np.tile(references, times))
        assert found.low < errors.sum() / references.sum() < found.high
        widths.append(found.high - found.low)
    # The standard error goes with the square root: a hundred times the utterances, a tenth of the width.
    assert widths[1] == pytest.approx(widths[0] / 10, rel=0.15)


def test_intervals_over_speakers_hold_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(1)
    many, words, _ = draw_speakers(rng, 40_000)
    truth = many.sum() / words.sum()
    held = {"speaker": 0, "utterance": 0}
    for _ in range(TRIALS):
        errors, references, speakers = draw_speakers(rng, 12)
        for units in (choose_units(len(errors), speakers), choose_units(len(errors))):
            found = bootstrap_interval(errors, references, units)
            held[found.unit] += found.low <= truth <= found.high
    assert 0.91 <= held["speaker"] / TRIALS <= 0.98
    assert held["utterance"] / TRIALS < 0.85  # so it is not in vain


def test_intervals_over_utterances_hold_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(2)
    held = 0
    for _ in range(TRIALS):
        words = rng.integers(1, 25, 100)
        found = bootstrap_interval(rng.binomial(words, rng.beta(1, 5, 100)), words)
        held += found.low <= 1 / 6 <= found.high
    assert 0.91 <= held / TRIALS <= 0.98


def test_without_any_error_and_without_any_word() -> None:
    none = bootstrap_interval(np.zeros(5, int), np.full(5, 3))
    assert none.low == 0.0
    assert none.high == pytest.approx(0.2180, abs=1e-4)  # Clopper and Pearson's of 0 in 15
    assert math.isnan(bootstrap_interval(np.ones(3, int), np.zeros(3, int)).low)
    assert math.isnan(bootstrap_interval(np.array([1]), np.array([4])).low)  # one utterance does not vary


def test_speakers_are_taken_where_all_are_known_and_there_are_enough() -> None:
    twelve = [f"s{index % 12}" for index in range(24)]
    assert choose_units(24, twelve).name == "speaker"
    assert choose_units(24, [*twelve[:-1], None]).name == "utterance"
    few = choose_units(24, [f"s{index % 9}" for index in range(24)])
    assert (few.name, few.n_speakers) == ("utterance", 9)
    assert "these 9 speakers, fewer than 10" in (few.caution or "")
    assert choose_units(24).caution is choose_units(24, twelve).caution is None


def test_sums_over_speakers() -> None:
    units = ResamplingUnits("speaker", np.array([1, 0, 1]), 2, 2)
    assert units.sums(np.array([1, 2, 3])).tolist() == [2, 4]


def test_difference_of_two_systems() -> None:
    rng = np.random.default_rng(3)
    words = rng.integers(3, 25, 200)
    errors = rng.binomial(words, 0.3)
    better = rng.binomial(errors, 0.8)
    interval = bootstrap_difference(errors, better, words)
    difference = (better.sum() - errors.sum()) / words.sum()
    assert interval.low < difference < interval.high < 0
    assert sign_flip_test(better - errors) < 0.001
    same = bootstrap_difference(errors, errors, words)
    assert (same.low, same.high, sign_flip_test(errors - errors)) == (0.0, 0.0, 1.0)


def test_of_few_differences_little_is_said() -> None:
    assert sign_flip_test(np.array([5])) == 1.0
    assert sign_flip_test(np.array([5, 1, 1])) == 0.25  # all signs alike, of eight ways
    assert sign_flip_test(np.array([5, 0, -1])) == 1.0
    assert sign_flip_test(np.full(15, 2)) == pytest.approx(2 / 2**15, abs=3e-4)  # drawn


def test_equal_systems_that_speakers_prefer_differ_as_often_as_is_said() -> None:
    rng = np.random.default_rng(7)
    found = [sign_flip_test(rng.normal(0, 20, 12).round().astype(int)) for _ in range(400)]
    assert 0.02 < np.mean(np.array(found) < 0.05) < 0.08


def segmented(reference: str, first: str, second: str) -> list[tuple[int, int]]:
    return list(segments(align_words([reference], [first])[0], align_words([reference], [second])[0]))


def test_segments_are_cut_where_both_have_two_words_right() -> None:
    assert segmented("a b c d e f", "a b c d e f", "a b c d e f") == []
    assert segmented("a b c d e f", "x b c d e f", "a b c d e y") == [(1, 0), (0, 1)]
    assert segmented("a b c d", "x b c d", "a b c y") == [(1, 0), (0, 1)]  # b and c
    assert segmented("a b c", "x b c", "a b y") == [(1, 1)]  # b alone
    assert segmented("a b c d", "a b z c d", "a b c d") == [(1, 0)]  # inserted
    assert segmented("a b c d e", "a z b c d e", "a b c d z e") == [(1, 0), (0, 1)]
    assert segmented("a b", "", "a b") == [(2, 0)]
    assert segmented("", "x y", "") == [(2, 0)]


def test_other_references_are_no_comparison() -> None:
    with pytest.raises(ValueError, match="not compared with the same words"):
        list(segments(align_words(["a b"], ["a b"])[0], align_words(["a c"], ["a c"])[0]))


def spoiled(words: list[str], rate: float, rng: random.Random) -> str:
    out: list[str] = []
    for word in words:
        luck = rng.random() / rate
        out += [word] if luck >= 1 else [] if luck < 0.2 else [word, "more"] if luck < 0.4 else ["other"]
    return " ".join(out)


def p_value(rng: random.Random, rates: tuple[float, float]) -> float:
    said = [[f"w{rng.randrange(500)}" for _ in range(rng.randint(4, 25))] for _ in range(60)]
    texts = [" ".join(words) for words in said]
    return mapsswe(*(align_words(texts, [spoiled(words, rate, rng) for words in said]) for rate in rates)).p


def test_equal_systems_have_every_probability_alike_often() -> None:
    rng = random.Random(5)
    found = np.sort([p_value(rng, (0.2, 0.2)) for _ in range(200)])
    # Kolmogorov and Smirnov's bound at 1 %.
    assert np.abs(found - np.linspace(0, 1, 200)).max() < 1.63 / math.sqrt(200)


def test_systems_that_differ_are_found_out() -> None:
    rng = random.Random(6)
    assert np.median([p_value(rng, (0.2, 0.3)) for _ in range(20)]) < 0.01


def test_too_few_segments_are_no_test() -> None:
    text = " ".join("abcdefgh")
    one = align_words([text] * (MIN_SEGMENTS - 1), [text.replace("a", "x")] * (MIN_SEGMENTS - 1))
    other = align_words([text] * (MIN_SEGMENTS - 1), [text] * (MIN_SEGMENTS - 1))
    found = mapsswe(one, other)
    assert (found.n_segments, found.mean, math.isnan(found.p)) == (MIN_SEGMENTS - 1, -1.0, True)
    assert mapsswe([*one, *one], [*other, *other]).p == 0.0  # all alike


def test_many_comparisons() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    adjusted = holm([math.nan, 0.02])
    assert adjusted == pytest.approx([math.nan, 0.02], nan_ok=True)
