"""Hot words: likelier where they fit, and of no effect where they do not."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exhaustive import all_readings, random_log_probs, sentence_log_prob, write_arpa

from asr.config import DecodingConfig
from asr.decoding import Decoder, Hypothesis, build_decoder
from asr.decoding.builders.hot_words import read_hot_words, split_weight
from asr.errors import ConfigError
from asr.text import BpeTokenizer, CharacterTokenizer, Normaliser, Tokenizer

WIDE: dict[str, Any] = {"beam": 20000, "beam_threshold": 1e6, "n_best": 20000}
SPACED = CharacterTokenizer(" ab")
LETTERS = CharacterTokenizer(" acenot")
PIECES = BpeTokenizer(Normaliser(" ab"), ["▁a", "▁", "a", "b"])


@pytest.fixture
def arpa(tmp_path: Path) -> str:
    return str(write_arpa(tmp_path / "words.arpa"))


def build(kind: str, tokenizer: Tokenizer, **settings: Any) -> Decoder:
    return build_decoder(DecodingConfig(kind=kind, **settings), tokenizer)


def decode(decoder: Decoder, log_probs: np.ndarray) -> Hypothesis:
    return decoder.decode(torch.from_numpy(np.float32(log_probs))[None], torch.tensor([len(log_probs)]))[0]


def spoken(path: str, tokenizer: Tokenizer, second: str = "", share: float = 0.9) -> np.ndarray:
    """Log-probabilities of a path of one-letter tokens, ``-`` for blank, with a second path beside it."""
    symbols = "-" + "".join(tokenizer.token_names[1:])
    probabilities = np.full((len(path), len(symbols)), 1e-4)
    for frame, symbol in enumerate(path):
        probabilities[frame, symbols.index(symbol)] += share
        probabilities[frame, symbols.index(second[frame] if second else "-")] += 1 - share
    return np.log(probabilities / probabilities.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("seed", range(4))
def test_each_one_written_adds_its_bonus(seed: int) -> None:
    """Words and a phrase, in all texts of a small problem."""
    log_probs = random_log_probs(np.random.default_rng(seed), 5, 4)
    hot = {"ab": 1.0, "b a": 2.5}
    decoder = build("beam", SPACED, hot_words=["ab", "b a:2.5"], hot_word_score=1.5, **WIDE)
    found = {hypothesis.text: hypothesis for hypothesis in decode(decoder, log_probs).n_best}
    readings = all_readings(np.float32(log_probs).astype(float), 1)
    assert found.keys() == {SPACED.decode(tokens) for tokens in readings}
    for tokens, score in readings.items():
        text = SPACED.decode(tokens)
        bonus = 1.5 * most(text.split(), hot)
        assert found[text].score == pytest.approx(score + bonus, abs=1e-5)
        assert found[text].acoustic == pytest.approx(score, abs=1e-5)


def most(words: list[str], hot: dict[str, float]) -> float:
    """Weight of the best choice of hot words and phrases that do not overlap."""
    if not words:
        return 0.0
    choices = [most(words[1:], hot)]
    for phrase, weight in hot.items():
        parts = phrase.split()
        if words[: len(parts)] == parts:
            choices.append(weight + most(words[len(parts) :], hot))
    return max(choices)


def test_a_name_is_chosen_over_what_sounds_alike() -> None:
    log_probs = spoken("a-cat-", LETTERS, second="a-con-", share=0.6)
    assert decode(build("beam", LETTERS), log_probs).text == "a cat".replace(" ", "")
    found = decode(build("beam", LETTERS, hot_words=["acon"], hot_word_score=3.0), log_probs)
    assert found.text == "acon"
    assert found.score == pytest.approx(found.acoustic + 3.0)


def test_the_bonus_is_taken_back_where_the_word_is_left() -> None:
    log_probs = spoken("canoe--at", LETTERS)
    wide: dict[str, Any] = {"beam": 500, "beam_threshold": 100.0}
    plain = decode(build("beam", LETTERS, **wide), log_probs)
    hot = decode(build("beam", LETTERS, hot_words=["can", "canoeat e"], hot_word_score=5.0, **wide), log_probs)
    assert hot.text == plain.text == "canoeat"
    assert hot.score == pytest.approx(plain.score, abs=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_pieces_of_words(seed: int) -> None:
    log_probs = random_log_probs(np.random.default_rng(seed), 4, 5)
    settings = {**WIDE, "hot_words": ["ab"], "hot_word_score": 2.0}
    found = {hypothesis.text: hypothesis.score for hypothesis in decode(build("beam", PIECES, **settings), log_probs).n_best}
    plain = {hypothesis.text: hypothesis.score for hypothesis in decode(build("beam", PIECES, **WIDE), log_probs).n_best}
    assert found.keys() == plain.keys()
    for text in found:
        if "ab" not in text.split():
            assert found[text] == pytest.approx(plain[text], abs=1e-5)
        else:  # the bonus is that of the word as it is usually spelled
            n_times = text.split().count("ab")
            assert plain[text] - 1e-5 <= found[text] <= plain[text] + 2.0 * n_times + 1e-5
    assert found["ab"] > plain["ab"]


@pytest.mark.parametrize("seed", range(4))
def test_with_a_lexicon(arpa: str, seed: int) -> None:
    """A word of the lexicon, one that it lacks, and a phrase of both."""
    log_probs = random_log_probs(np.random.default_rng(seed), 5, 4)
    hot = {"ab": 1.0, "ba": 0.5, "a ba": 1.0}
    settings: dict[str, Any] = {"lm": arpa, "lm_weight": 0.8, "word_score": 0.3, "hot_word_score": 2.0}
    decoder = build("beam_ngram", SPACED, hot_words=[f"{text}:{weight}" for text, weight in hot.items()], **settings, **WIDE)
    found = {hypothesis.text: hypothesis for hypothesis in decode(decoder, log_probs).n_best}
    readings = all_readings(np.float32(log_probs).astype(float), 1)
    rare = float(np.median([-0.5, -0.6, -0.9])) * math.log(10)
    for tokens, acoustic in readings.items():
        words = SPACED.decode(tokens).split()
        text = " ".join(words)
        if any(word not in ("a", "b", "ab", "ba") for word in words):
            assert text not in found
            continue
        language = sentence_log_prob(words) + sum(rare - lone(words, place) for place, word in enumerate(words) if word == "ba")
        score = acoustic + 0.8 * language + 0.3 * len(words) + 2.0 * most(words, hot)
        assert found[text].score == pytest.approx(score, abs=1e-4)
        assert found[text].language == pytest.approx(language, abs=1e-4)


def lone(words: list[str], place: int) -> float:
    """What the language model says to the word at a place."""
    return (
        sentence_log_prob(words[: place + 1]) - sentence_log_prob(words[:place]) - end(words[: place + 1]) + end(words[:place])
    )


def end(words: list[str]) -> float:
    """What the language model says to the end of a sentence."""
    ngrams: dict[tuple[str, ...], float] = {("b", "</s>"): -0.9, ("a", "b", "</s>"): -0.3}
    backoffs: dict[tuple[str, ...], float] = {("a",): -0.2, ("b",): -0.25, ("ab",): -0.1, ("<s>",): -0.3}
    backoffs |= {("<s>", "a"): -0.2, ("a", "b"): -0.15, ("b", "a"): -0.05, ("ab", "ab"): -0.3, ("<s>", "ab"): -0.1}
    history: tuple[str, ...] = ("<s>", *("<unk>" if word == "ba" else word for word in words))[-2:]
    total = 0.0
    while history:
        if (*history, "</s>") in ngrams:
            return (total + ngrams[*history, "</s>"]) * math.log(10)
        total += backoffs.get(history, 0.0)
        history = history[1:]
    return (total - 0.8) * math.log(10)


def test_an_unknown_name_is_written_with_a_lexicon(arpa: str) -> None:
    log_probs = spoken("bab-a", SPACED)
    assert decode(build("beam_ngram", SPACED, lm=arpa), log_probs).text != "baba"
    assert decode(build("beam_ngram", SPACED, lm=arpa, hot_words=["baba"]), log_probs).text == "baba"


def test_weights(tmp_path: Path) -> None:
    assert split_weight("new york") == ("new york", 1.0)
    assert split_weight("lisbon:1.5") == ("lisbon", 1.5)
    for wrong in ("lisbon:", "lisbon:x", "lisbon:0", "lisbon:-1", "lisbon:inf", "lisbon:nan"):
        with pytest.raises(ConfigError, match="lisbon"):
            split_weight(wrong)
    file = tmp_path / "names.txt"
    file.write_text("\ufeff# names\n\nLisbon:2\n  new york \n", encoding="utf-8")
    assert read_hot_words(str(file)) == ["Lisbon:2", "new york"]
    assert read_hot_words("a, b:2,c d") == ["a", "b:2", "c d"]
    assert read_hot_words("AC/DC,3.5,Dr.") == ["AC/DC", "3.5", "Dr."]


@pytest.mark.parametrize("text", ["", ",", " , "])
def test_nothing_named(text: str) -> None:
    with pytest.raises(ConfigError, match="there are none"):
        read_hot_words(text)


@pytest.mark.parametrize(
    "text",
    ["namse.txt", "nowhere/names.txt", "/nothere", "./names", "names.csv", "lists/names", "NAMES.TSV", "lisbon,names.txt"],
)
def test_a_file_that_is_not_there(text: str) -> None:
    with pytest.raises(ConfigError, match="looks like the name of a file, and there is no such file"):
        read_hot_words(text)


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    file = tmp_path / "names.bin"
    file.write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(ConfigError, match=r"names\.bin"):
        read_hot_words(str(file))


def test_all_that_cannot_be_written_are_named() -> None:
    with pytest.raises(ConfigError) as caught:
        build("beam", SPACED, hot_words=["ab", "über a", "3M 4M", "ba:2", "...", "b:0"])
    first, *faults = str(caught.value).splitlines()
    assert first.startswith("4 of 6 hot words cannot be used")
    assert [any(fault.count(part) for fault in faults) for part in ("'über'", "'3m', '4m'", "'...'", "'b:0'")] == [True] * 4
    assert len(faults) == 4


@pytest.mark.parametrize(
    ("kind", "word", "message"),
    [("greedy", "ab", "decoding.kind=beam"), ("beam", "xyz", "cannot write 'xyz'"), ("beam", "...", "nothing of it is left")],
)
def test_what_cannot_be(kind: str, word: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(kind, SPACED, hot_words=[word])
