"""Error rates against counts made by hand."""

from __future__ import annotations

import itertools
import json
import math
import random
from importlib.metadata import version

import pytest

from asr.errors import DataError
from asr.scoring import Counts, corpus_hash, score, signature
from asr.scoring.counts import count_words


@pytest.mark.parametrize(
    ("reference", "hypothesis", "words", "characters"),
    [
        # (S, D, I, N)
        ("I", "A", (1, 0, 0, 1), (1, 0, 0, 1)),
        ("the cat sat", "the cat sat", (0, 0, 0, 3), (0, 0, 0, 11)),
        ("the cat sat", "the cat", (0, 1, 0, 3), (0, 4, 0, 11)),
        ("the cat", "the big cat", (0, 0, 1, 2), (0, 0, 4, 7)),
        ("a b c d", "a x c d e", (1, 0, 1, 4), (1, 0, 2, 7)),
        ("", "", (0, 0, 0, 0), (0, 0, 0, 0)),
        ("", "oh no", (0, 0, 2, 0), (0, 0, 5, 0)),
        ("so it goes", "", (0, 3, 0, 3), (0, 10, 0, 10)),
        ("two  spaces", " two spaces ", (0, 0, 0, 2), (0, 0, 0, 10)),
    ],
)
def test_counts_by_hand(reference: str, hypothesis: str, words: tuple[int, ...], characters: tuple[int, ...]) -> None:
    result = score({"1": reference}, {"1": hypothesis})
    assert result.wer.counts == Counts(*words)
    assert result.cer.counts == Counts(*characters)


def test_sums_and_rates() -> None:
    references = {"1": "a b", "2": "", "3": "c d e f"}
    result = score(references, {"3": "c d", "1": "a b", "2": "x"})
    assert result.wer.counts == Counts(substitutions=0, deletions=2, insertions=1, reference=6)
    assert result.wer.rate == pytest.approx(0.5)
    assert [utterance.id for utterance in result.utterances] == ["1", "2", "3"]
    assert [utterance.words.errors for utterance in result.utterances] == [0, 1, 2]
    assert result.wer.interval.low <= 0.5 <= result.wer.interval.high
    assert result.summary().startswith("WER 50.00 %  95 % CI [")
    assert result.summary().splitlines()[0].endswith("S=0 D=2 I=1 N=6")


def test_empty_references_have_no_finite_rate() -> None:
    result = score({"1": ""}, {"1": "x"})
    assert math.isinf(result.wer.rate)
    assert json.loads(json.dumps(result.wer.to_mapping(), allow_nan=False))["rate"] is None
    assert "[undefined]" in result.summary()
    assert score({"1": ""}, {"1": ""}).wer.rate == 0.0


def test_a_rate_is_above_what_its_counts_are_above() -> None:
    """7 errors in 100 words are 7 %, which 100 times the quotient is not: 7.000000000000001."""
    seven = score({"1": "a " * 100}, {"1": "a " * 93}).wer
    assert (seven.is_above(6.99), seven.is_above(7.0), seven.is_above(7.01)) == (True, False, False)
    assert score({"1": ""}, {"1": "x"}).wer.is_above(1e300)
    assert not score({"1": ""}, {"1": ""}).wer.is_above(0.0)


def test_both_sides_are_normalised() -> None:
    assert score({"1": "ONE Two"}, {"1": "one two"}).wer.counts.errors == 2
    assert score({"1": "ONE Two"}, {"1": "one TWO"}, normalise=str.lower).wer.counts.errors == 0


def test_ids_must_pair() -> None:
    with pytest.raises(DataError, match="1 without a hypothesis: b; 1 without a reference: c"):
        score({"a": "x", "b": "x"}, {"a": "x", "c": "x"})
    with pytest.raises(DataError, match="no references"):
        score({}, {})


def aligned_counts(reference: list[str], hypothesis: list[str]) -> Counts:
    """Count edits by the plain recurrence (Wagner and Fischer, 1974); of cheapest ways the one that the library takes.

    What begins and ends alike is left out; then, from the end, a deletion goes before all else, and an insertion before a
    substitution only where it leaves fewer edits.
    """
    n_reference = len(reference)
    while reference and hypothesis and reference[0] == hypothesis[0]:
        reference, hypothesis = reference[1:], hypothesis[1:]
    while reference and hypothesis and reference[-1] == hypothesis[-1]:
        reference, hypothesis = reference[:-1], hypothesis[:-1]
    cost = [[i + j for j in range(len(hypothesis) + 1)] for i in range(len(reference) + 1)]
    for i, j in itertools.product(range(1, len(reference) + 1), range(1, len(hypothesis) + 1)):
        diagonal = cost[i - 1][j - 1] + (reference[i - 1] != hypothesis[j - 1])
        cost[i][j] = min(cost[i - 1][j] + 1, cost[i][j - 1] + 1, diagonal)
    i, j, substitutions, deletions, insertions = len(reference), len(hypothesis), 0, 0, 0
    while i and j:
        if cost[i][j] == cost[i - 1][j] + 1:
            i, deletions = i - 1, deletions + 1
        elif cost[i][j - 1] < cost[i - 1][j - 1]:
            j, insertions = j - 1, insertions + 1
        else:
            i, j, substitutions = i - 1, j - 1, substitutions + (reference[i - 1] != hypothesis[j - 1])
    return Counts(substitutions, deletions + i, insertions + j, n_reference)


def test_counts_are_those_of_the_plain_recurrence() -> None:
    rng = random.Random(4)
    pairs = [[rng.choices("abcde", k=rng.randint(0, 12)) for _ in range(2)] for _ in range(10_000)]
    pairs += [[list("naïve日本"), list("naive日")], [list("aaaa"), list("aa")], [list("abab"), list("baba")]]
    found = count_words(*([" ".join(words) for words in side] for side in zip(*pairs, strict=True)))
    assert found == [aligned_counts(*pair) for pair in pairs]


def test_corpus_hash() -> None:
    assert corpus_hash({"a": "x", "b": "y"}) == corpus_hash({"b": "y", "a": "x"})
    others = [{"a": "x", "b": "z"}, {"a": "x", "c": "y"}, {"a": "xb", "": "y"}, {"a": "x"}]
    assert len({corpus_hash(other) for other in [{"a": "x", "b": "y"}, *others]}) == 5


def test_signature_names_what_the_score_depends_on() -> None:
    line = signature(checkpoint="abc", corpus=["p/q", "r"], references={"a": "x"}, decoder="greedy", normaliser="nfkc+lower")
    assert line.startswith("checkpoint:abc|corpus:p/q+r|texts:")
    assert f"|utterances:1|decoder:greedy|normaliser:nfkc+lower|scorer:jiwer-{version('jiwer')}|asr:" in line
