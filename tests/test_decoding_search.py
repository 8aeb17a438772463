"""Prefix beam search without a language model, against all alignments tried one by one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from exhaustive import all_readings, join, random_log_probs

from asr.config import DecodingConfig
from asr.decoding import Decoder, Hypothesis, build_decoder
from asr.decoding.search.beam_search import SearchOptions
from asr.decoding.search.prefix_search import PrefixSearch, _Batch
from asr.errors import ConfigError, Failure
from asr.text import CharacterTokenizer, Tokenizer

WIDE: dict[str, Any] = {"beam": 5000, "beam_threshold": 1e6, "n_best": 5000}
SPACED = CharacterTokenizer(" ab")  # blank 0, space 1, a 2, b 3
SPACELESS = CharacterTokenizer("abc")


def beam(tokenizer: Tokenizer = SPACED, **settings: Any) -> Decoder:
    return build_decoder(DecodingConfig(kind="beam", **settings), tokenizer)


def decode(decoder: Decoder, *utterances: np.ndarray) -> list[Hypothesis]:
    """Decode utterances as a padded batch; the padding is NaN."""
    n_frames = torch.tensor([len(utterance) for utterance in utterances])
    tensors = [torch.from_numpy(np.asarray(utterance, dtype=np.float32)) for utterance in utterances]
    return decoder.decode(torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=math.nan), n_frames)


def same(found: Sequence[Hypothesis], expected: Sequence[Hypothesis]) -> bool:
    """Say whether hypotheses differ by no more than rounding."""
    return len(found) == len(expected) and all(
        (one.text, one.tokens, one.frames) == (other.text, other.tokens, other.frames)
        and one.score == pytest.approx(other.score, abs=1e-9)
        and same(one.n_best, other.n_best)
        for one, other in zip(found, expected, strict=True)
    )


def texts_of(log_probs: np.ndarray, tokenizer: Tokenizer, *, log_add: bool) -> dict[str, float]:
    readings = all_readings(np.float32(log_probs).astype(float), tokenizer.boundary, log_add=log_add)
    return {tokenizer.decode(tokens): score for tokens, score in readings.items()}


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("tokenizer", [SPACED, SPACELESS], ids=["spaced", "spaceless"])
@pytest.mark.parametrize("log_add", [True, False], ids=["sum", "best"])
def test_a_wide_beam_finds_every_text_with_its_probability(tokenizer: Tokenizer, log_add: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    log_probs = random_log_probs(rng, int(rng.integers(1, 6)), 4)
    expected = texts_of(log_probs, tokenizer, log_add=log_add)
    (found,) = decode(beam(tokenizer, log_add=log_add, **WIDE), log_probs)
    assert [hypothesis.text for hypothesis in found.n_best] == sorted(expected, key=lambda text: -expected[text])
    for hypothesis in found.n_best:
        assert hypothesis.score == hypothesis.acoustic == pytest.approx(expected[hypothesis.text], abs=1e-5)
        assert hypothesis.language == 0.0
    assert found.text == found.n_best[0].text
    if log_add:
        assert join([hypothesis.score for hypothesis in found.n_best]) == pytest.approx(0.0, abs=1e-5)


def test_many_paths_beat_the_best_one() -> None:
    """Graves et al. 2006, figure 2: the best path is empty, the best text is not."""
    log_probs = np.log([[0.6, 0.4], [0.6, 0.4]])
    tokenizer = CharacterTokenizer("a")
    (greedy,) = decode(build_decoder(DecodingConfig(), tokenizer), log_probs)
    (found,) = decode(beam(tokenizer), log_probs)
    assert (greedy.text, found.text) == ("", "a")
    assert found.score == pytest.approx(math.log(0.16 + 0.24 + 0.24), abs=1e-6)


@pytest.mark.parametrize("width", [1, 3, 10])
def test_no_hypothesis_is_worth_more_than_it_is(width: int) -> None:
    """Whatever is pruned, in whatever company, scores are sums over some of a text's own alignments."""
    rng = np.random.default_rng(width)
    utterances = [random_log_probs(rng, n, 4) for n in (6, 1, 5, 6, 3, 2, 6, 4)]
    for threshold in (0.5, 3.0, 1e6):
        found = decode(beam(beam=width, beam_threshold=threshold, n_best=10), *utterances)
        for log_probs, hypothesis in zip(utterances, found, strict=True):
            expected = texts_of(log_probs, SPACED, log_add=True)
            for other in hypothesis.n_best:
                assert other.score <= expected[other.text] + 1e-5


@pytest.mark.parametrize("n_tokens", [1, 2])
def test_only_the_likeliest_tokens_of_a_frame_are_tried(n_tokens: int) -> None:
    rng = np.random.default_rng(n_tokens)
    for _ in range(20):
        log_probs = random_log_probs(rng, 6, 4)
        (found,) = decode(beam(**WIDE, beam_tokens=n_tokens), log_probs)
        unlikely = np.argsort(-log_probs[:, 1:], axis=1)[:, n_tokens:] + 1
        allowed = log_probs.copy()
        np.put_along_axis(allowed, unlikely, -1e4, axis=1)
        expected = {text: score for text, score in texts_of(allowed, SPACED, log_add=True).items() if score > -1e3}
        scores = {hypothesis.text: hypothesis.score for hypothesis in found.n_best}
        assert scores.keys() == expected.keys()
        # A token that is likely in one frame goes on in the next where it is not.
        assert all(scores[text] >= expected[text] - 1e-5 for text in scores)


def test_a_wide_beam_is_never_worse_than_the_best_path() -> None:
    rng = np.random.default_rng(5)
    utterances = [random_log_probs(rng, 40, 4) for _ in range(20)]
    greedy = decode(build_decoder(DecodingConfig(), SPACED), *utterances)
    choices: tuple[dict[str, Any], ...] = ({}, {"log_add": False})
    for settings in choices:
        found = decode(beam(beam=200, **settings), *utterances)
        assert all(a.score >= b.score - 1e-4 for a, b in zip(found, greedy, strict=True))


def test_frames_are_those_at_which_tokens_appear() -> None:
    path = "--aa-a b-"
    log_probs = np.full((len(path), 4), math.log(0.01))
    log_probs[np.arange(len(path)), ["- ab".index(symbol) for symbol in path]] = math.log(0.97)
    (found,) = decode(beam(), log_probs)
    assert found.text == "aa b"
    assert found.tokens == (2, 2, 1, 3)
    assert found.frames == (2, 5, 6, 7)


def test_order_and_padding_of_the_batch_change_nothing() -> None:
    rng = np.random.default_rng(1)
    utterances = [random_log_probs(rng, n, 4) for n in (30, 3, 17, 1, 55, 8)]
    decoder = beam(beam=20, n_best=4)
    together = decode(decoder, *utterances)
    backwards = decode(decoder, *utterances[::-1])[::-1]
    alone = [decode(decoder, utterance)[0] for utterance in utterances]
    assert same(together, alone)
    assert same(backwards, alone)


def test_padding_has_no_tokens_to_try() -> None:
    path = [2, 0, 0, 3, 0, 0]
    log_probs = np.full((len(path), 100), math.log(1e-9))
    log_probs[np.arange(len(path)), path] = 0.0
    utterances = [torch.from_numpy(log_probs), torch.from_numpy(log_probs[:2])]
    batch = _Batch(PrefixSearch(None), utterances, SearchOptions(beam=10, threshold=12.0))
    assert batch._tokens_to_try() == [1] * len(path)


def test_more_utterances_than_are_searched_together() -> None:
    rng = np.random.default_rng(2)
    utterances = [random_log_probs(rng, int(rng.integers(1, 9)), 4) for _ in range(70)]
    decoder = beam(beam=8)
    assert same(decode(decoder, *utterances), [decode(decoder, utterance)[0] for utterance in utterances])


def test_no_frames_give_empty_text() -> None:
    empty = Hypothesis("", (), (), 0.0, 0.0, 0.0)
    log_probs = torch.from_numpy(np.float32(random_log_probs(np.random.default_rng(0), 3, 4)))[None].repeat(2, 1, 1)
    first, second = beam().decode(log_probs, torch.tensor([0, 3]))
    assert first == empty
    assert second.text
    assert beam().decode(log_probs[:, :0], torch.tensor([0, 0])) == [empty, empty]
    assert beam().decode(log_probs[:0], torch.zeros(0, dtype=torch.int64)) == []
    assert beam(n_best=2).decode(log_probs[:, :0], torch.tensor([0, 0]))[0].n_best == (empty,)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_probability_is_no_text(value: float) -> None:
    log_probs = random_log_probs(np.random.default_rng(0), 3, 4)
    log_probs[1, 2] = value
    with pytest.raises(Failure, match="NaN"):
        decode(beam(), log_probs)


def test_impossible_tokens_are_borne() -> None:
    log_probs = np.full((4, 4), -math.inf)
    log_probs[np.arange(4), [2, 2, 0, 2]] = 0.0
    (found,) = decode(beam(), log_probs)
    assert found.text == "aa"
    assert found.score == pytest.approx(0.0)


def test_neighbouring_blanks_are_skipped_but_one() -> None:
    """Equal tokens on both sides of skipped frames stay apart, and frames keep their numbers."""
    path = "a----a---b-----"
    log_probs = np.full((len(path), 4), math.log(1e-5))
    log_probs[np.arange(len(path)), ["- ab".index(symbol) for symbol in path]] = math.log(1 - 3e-5)
    (whole,) = decode(beam(), log_probs)
    (skipped,) = decode(beam(blank_skip=0.999), log_probs)
    assert skipped.text == whole.text == "aab"
    assert skipped.frames == whole.frames == (0, 5, 9)
    assert skipped.score > whole.score  # what was skipped costs nothing


def test_penalty_and_priors_are_taken_from_the_log_probabilities() -> None:
    rng = np.random.default_rng(3)
    log_probs = random_log_probs(rng, 12, 4)
    priors = np.log([0.5, 0.2, 0.2, 0.1])
    settings = {"blank_penalty": 0.7, "prior_weight": 0.4, "priors": priors.tolist()}
    changed = log_probs - 0.4 * priors - np.array([0.7, 0, 0, 0])
    for kind in ("greedy", "beam"):
        plain = build_decoder(DecodingConfig(kind=kind), SPACED)
        adjusted = build_decoder(DecodingConfig(kind=kind, **settings), SPACED)
        (expected,), (found,) = decode(plain, changed), decode(adjusted, log_probs)
        assert found.text == expected.text
        assert found.score == pytest.approx(expected.score, abs=1e-4)
        assert "blank_penalty=0.7" in adjusted.signature
        assert plain.signature != adjusted.signature


def test_priors_must_fit_the_tokens() -> None:
    for priors in ([], [-1.0] * 3):
        with pytest.raises(ConfigError, match=r"expected 4, one a token"):
            beam(prior_weight=0.3, priors=priors)


@pytest.mark.slow
def test_processes_find_the_same() -> None:
    rng = np.random.default_rng(4)
    utterances = [random_log_probs(rng, n, 4) for n in (30, 3, 17, 1, 55, 8, 20)]
    assert same(decode(beam(beam=20, jobs=2), *utterances), decode(beam(beam=20), *utterances))


def test_signature_tells_settings_apart() -> None:
    signatures = {
        beam(**settings).signature
        for settings in (
            {},
            {"beam": 7},
            {"beam_threshold": 9.0},
            {"beam_tokens": 2},
            {"log_add": False},
            {"hot_words": ["a"]},
            {"blank_skip": 0.9},
        )
    }
    assert len(signatures) == 7
    assert not any(" " in signature for signature in signatures)
