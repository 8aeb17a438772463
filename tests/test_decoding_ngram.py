"""Beam search with n-gram models and lexicons, against all alignments and all word sequences tried one by one."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exhaustive import TRIGRAMS, Tokens, all_readings, cut, join, random_log_probs, sentence_log_prob, ways, write_arpa

from asr.config import DecodingConfig
from asr.decoding import Decoder, Hypothesis, build_decoder
from asr.errors import AsrError, ConfigError
from asr.text import BpeTokenizer, CharacterTokenizer, Normaliser, Tokenizer

WIDE: dict[str, Any] = {"beam": 20000, "beam_threshold": 1e6, "n_best": 20000}
WEIGHTS: dict[str, Any] = {"lm_weight": 1.3, "word_score": 0.7}
SPACED = CharacterTokenizer(" ab")  # blank 0, space 1, a 2, b 3
PIECES = BpeTokenizer(Normaliser(" ab"), ["▁a", "▁", "a", "b"])
WORDS = ("a", "b", "ab")
CHARACTERS = {n: {key: value for key, value in entries.items() if "ab" not in key.split()} for n, entries in TRIGRAMS.items()}


@pytest.fixture
def arpa(tmp_path: Path) -> str:
    return str(write_arpa(tmp_path / "words.arpa"))


@pytest.fixture
def character_arpa(tmp_path: Path) -> str:
    return str(write_arpa(tmp_path / "characters.arpa", CHARACTERS))


def write_lexicon(path: Path, lines: Sequence[str]) -> str:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def build(tokenizer: Tokenizer, lm: str, **settings: Any) -> Decoder:
    return build_decoder(DecodingConfig(kind="beam_ngram", lm=lm, **{**WEIGHTS, **settings}), tokenizer)


def decode(decoder: Decoder, *utterances: np.ndarray) -> list[Hypothesis]:
    n_frames = torch.tensor([len(utterance) for utterance in utterances])
    tensors = [torch.from_numpy(np.asarray(utterance, dtype=np.float32)) for utterance in utterances]
    return decoder.decode(torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=math.nan), n_frames)


def sentences(
    log_probs: np.ndarray,
    lexicon: Mapping[str, Sequence[Tokens]],
    boundary: int | None,
    *,
    optional: bool = False,
    log_add: bool = True,
) -> dict[str, tuple[float, float]]:
    """Return the acoustic and the language model's score of every sentence of the lexicon's words."""
    acoustic: dict[tuple[str, ...], list[float]] = {}
    for tokens, score in all_readings(np.float32(log_probs).astype(float), boundary, log_add=log_add).items():
        for words in ways(tokens, lexicon, boundary, optional=optional):
            acoustic.setdefault(words, []).append(score)
    return {" ".join(words): (join(scores, log_add=log_add), sentence_log_prob(words)) for words, scores in acoustic.items()}


def check(found: Hypothesis, expected: Mapping[str, tuple[float, float]], bonus: Mapping[str, float] | None = None) -> None:
    """Compare an n-best list with what all sentences are worth: the same texts, scores and order."""
    scores = {
        text: acoustic + 1.3 * language + 0.7 * len(text.split()) + (bonus or {}).get(text, 0.0)
        for text, (acoustic, language) in expected.items()
    }
    best = sorted(scores.values(), reverse=True)
    assert {hypothesis.text for hypothesis in found.n_best} == scores.keys()
    for hypothesis, score in zip(found.n_best, best, strict=True):
        assert hypothesis.score == pytest.approx(score, abs=1e-4)
        assert hypothesis.score == pytest.approx(scores[hypothesis.text], abs=1e-4)
        assert hypothesis.acoustic == pytest.approx(expected[hypothesis.text][0], abs=1e-4)
        assert hypothesis.language == pytest.approx(expected[hypothesis.text][1], abs=1e-4)


def spelled(tokenizer: Tokenizer) -> dict[str, list[Tokens]]:
    return tokenizer.spell_many(WORDS)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("log_add", [True, False], ids=["sum", "best"])
def test_lexicon_with_boundary(arpa: str, log_add: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    log_probs = random_log_probs(rng, int(rng.integers(1, 6)), 4)
    (found,) = decode(build(SPACED, arpa, log_add=log_add, **WIDE), log_probs)
    check(found, sentences(log_probs, spelled(SPACED), 1, log_add=log_add))


def test_last_token_of_a_word_may_last(arpa: str) -> None:
    """Two frames of a word's last token count as they are, with the word at the end of the utterance and inside it."""
    path = "aabb  a"
    log_probs = np.full((len(path), 4), math.log(0.02))
    log_probs[np.arange(len(path)), ["- ab".index(symbol) for symbol in path]] = math.log(0.94)
    (found,) = decode(build(SPACED, arpa, log_add=False, lm_weight=0.0, word_score=0.0), log_probs)
    assert found.text == "ab a"
    assert found.score == pytest.approx(7 * math.log(0.94), abs=1e-5)
    assert (found.tokens, found.frames) == ((2, 3, 1, 2), (0, 2, 4, 6))


def test_only_the_likeliest_tokens_of_a_frame_are_tried(arpa: str) -> None:
    log_probs = np.log([[0.3, 0.1, 0.4, 0.2]])  # blank, space, a, b
    for n_tokens, texts in ((0, {"", "a", "b"}), (1, {"", "a"}), (2, {"", "a", "b"}), (50, {"", "a", "b"})):
        (found,) = decode(build(SPACED, arpa, beam_tokens=n_tokens, **WIDE), log_probs)
        assert {hypothesis.text for hypothesis in found.n_best} == texts


@pytest.mark.parametrize("settings", [{}, {"optional_boundary": True}])
def test_the_blank_is_never_among_the_tokens_that_are_tried(arpa: str, settings: dict[str, Any]) -> None:
    for blank, place in ((0.5, "first"), (0.25, "among them"), (0.06, "behind them")):
        log_probs = np.log([[blank, 0.05, 0.3, 0.2, 0.1]])  # blank, space, a, b, c
        for n_tokens, texts in ((1, {"", "a"}), (2, {"", "a", "b"}), (3, {"", "a", "b"}), (4, {"", "a", "b"})):
            (found,) = decode(build(CharacterTokenizer(" abc"), arpa, beam_tokens=n_tokens, **settings, **WIDE), log_probs)
            assert {hypothesis.text for hypothesis in found.n_best} == texts, (place, n_tokens)


def test_a_token_goes_on_where_others_are_likelier(arpa: str) -> None:
    log_probs = np.log([[0.01, 0.01, 0.88, 0.1], [0.02, 0.08, 0.4, 0.5], [0.02, 0.03, 0.45, 0.5]])
    decoder = build(SPACED, arpa, beam_tokens=1, lm_weight=0.0, word_score=0.0, log_add=False, **WIDE)
    scores = {hypothesis.text: hypothesis.score for hypothesis in decode(decoder, log_probs)[0].n_best}
    assert scores["a"] == pytest.approx(math.log(0.88 * 0.4 * 0.45), abs=1e-5)
    assert scores["ab"] == pytest.approx(math.log(0.88 * 0.5 * 0.5), abs=1e-5)


@pytest.mark.parametrize("path", [" a", "a ", " a  b ", "a -  b", "a - b- ", "--a-- --b--"])
def test_boundaries_that_say_nothing(arpa: str, path: str) -> None:
    log_probs = np.full((len(path), 4), math.log(0.001))
    log_probs[np.arange(len(path)), ["- ab".index(symbol) for symbol in path]] = math.log(0.997)
    (found,) = decode(build(SPACED, arpa), log_probs)
    assert found.text == " ".join(path.replace("-", "").split())
    assert len(found.tokens) == len(found.frames)
    parts = cut(found.tokens, 1)
    assert all(parts[:-1])  # no boundary first, none twice


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("log_add", [True, False], ids=["sum", "best"])
def test_boundary_may_be_left_out(arpa: str, log_add: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    log_probs = random_log_probs(rng, int(rng.integers(1, 6)), 4)
    (found,) = decode(build(SPACED, arpa, optional_boundary=True, log_add=log_add, **WIDE), log_probs)
    check(found, sentences(log_probs, spelled(SPACED), 1, optional=True, log_add=log_add))


def test_ends_of_words_without_boundary(arpa: str) -> None:
    path = "a-bab "
    log_probs = np.full((len(path), 4), math.log(0.001))
    log_probs[np.arange(len(path)), ["- ab".index(symbol) for symbol in path]] = math.log(0.997)
    (found,) = decode(build(SPACED, arpa, optional_boundary=True, word_score=-3.0), log_probs)
    assert (found.text, found.tokens) == ("ab ab", (2, 3, 2, 3, 1))
    assert found.word_ends == (2, 5)
    assert found.frames == (0, 2, 3, 4, 5)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("log_add", [True, False], ids=["sum", "best"])
def test_pieces_of_words(arpa: str, log_add: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    log_probs = random_log_probs(rng, int(rng.integers(1, 6)), 5)
    (found,) = decode(build(PIECES, arpa, log_add=log_add, **WIDE), log_probs)
    check(found, sentences(log_probs, spelled(PIECES), None, log_add=log_add))


@pytest.mark.parametrize("settings", [{}, {"optional_boundary": True}])
@pytest.mark.parametrize("seed", range(4))
def test_homophones_and_variants(arpa: str, tmp_path: Path, settings: dict[str, Any], seed: int) -> None:
    """Words with the same spelling, a word with several, and one that is the beginning of another."""
    lexicon: dict[str, list[tuple[int, ...]]] = {"a": [(2,), (2, 3)], "b": [(2,)], "ab": [(3, 3), (2, 3, 2)]}
    file = write_lexicon(tmp_path / "lexicon.tsv", ["a\ta", "a\ta b", "b\ta", "ab\tb b", "ab\ta b a"])
    log_probs = random_log_probs(np.random.default_rng(seed), 5, 4)
    (found,) = decode(build(SPACED, arpa, lexicon_file=file, **settings, **WIDE), log_probs)
    check(found, sentences(log_probs, lexicon, 1, optional=bool(settings)))


@pytest.mark.parametrize("seed", range(5))
def test_without_lexicon_other_words_are_unknown_ones(arpa: str, seed: int) -> None:
    log_probs = random_log_probs(np.random.default_rng(seed), 5, 4)
    (found,) = decode(build(SPACED, arpa, lexicon=False, unknown_score=-2.5, **WIDE), log_probs)
    texts = {SPACED.decode(tokens): score for tokens, score in all_readings(np.float32(log_probs).astype(float), 1).items()}
    expected = {text: (score, sentence_log_prob(text.split())) for text, score in texts.items()}
    unknown = {text: -2.5 * sum(word not in WORDS for word in text.split()) for text in texts}
    assert any(unknown.values())
    check(found, expected, unknown)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("log_add", [True, False], ids=["sum", "best"])
def test_model_over_characters(character_arpa: str, log_add: bool, seed: int) -> None:
    log_probs = random_log_probs(np.random.default_rng(seed), 5, 4)
    decoder = build(SPACED, character_arpa, lexicon=False, word_score=0.0, log_add=log_add, **WIDE)
    (found,) = decode(decoder, log_probs)
    expected = {}
    for tokens, score in all_readings(np.float32(log_probs).astype(float), 1, log_add=log_add).items():
        text = SPACED.decode(tokens)
        language = sentence_log_prob(list(text.replace(" ", "|")), CHARACTERS)
        expected[text] = (score, language)
    check(found, expected, {text: -0.7 * len(text.split()) for text in expected})


def test_model_over_characters_with_lexicon(character_arpa: str, tmp_path: Path) -> None:
    file = write_lexicon(tmp_path / "lexicon.tsv", ["ab\ta b", "ba\tb a"])
    log_probs = random_log_probs(np.random.default_rng(0), 5, 4)
    (found,) = decode(build(SPACED, character_arpa, lexicon_file=file, **WIDE), log_probs)
    lexicon = {"ab": [(2, 3)], "ba": [(3, 2)]}
    expected = {
        text: (acoustic, sentence_log_prob(list(text.replace(" ", "|")), CHARACTERS))
        for text, (acoustic, _) in sentences(log_probs, lexicon, 1).items()
    }
    check(found, expected)


@pytest.mark.parametrize("settings", [{}, {"optional_boundary": True}, {"lexicon": False}])
def test_batches_and_narrow_beams(arpa: str, settings: dict[str, Any]) -> None:
    """Company changes nothing, and no hypothesis is worth more than its words and all its alignments are."""
    rng = np.random.default_rng(7)
    utterances = [random_log_probs(rng, n, 4) for n in (6, 3, 5, 1, 6, 2, 4)]
    decoder = build(SPACED, arpa, beam=3, beam_threshold=4.0, **settings)
    together = decode(decoder, *utterances)
    for log_probs, hypothesis in zip(utterances, together, strict=True):
        (alone,) = decode(decoder, log_probs)
        assert (alone.text, alone.tokens) == (hypothesis.text, hypothesis.tokens)
        assert alone.score == pytest.approx(hypothesis.score, abs=1e-9)
        readings = all_readings(np.float32(log_probs).astype(float), None if "optional_boundary" in settings else 1)
        acoustic = [
            score
            for tokens, score in readings.items()
            if "".join(SPACED.decode(tokens).split()) == "".join(hypothesis.text.split())
        ]
        words = hypothesis.text.split()
        assert hypothesis.acoustic <= join(acoustic) + 1e-5
        assert hypothesis.language == pytest.approx(sentence_log_prob(words), abs=1e-4)
        bonus = 0.7 * len(words) - 15.0 * sum(word not in WORDS for word in words)
        assert hypothesis.score == pytest.approx(hypothesis.acoustic + 1.3 * hypothesis.language + bonus, abs=1e-4)


@pytest.mark.parametrize("n_frames", [1, 3])
def test_tokens_of_the_company_are_not_tried(arpa: str, n_frames: int) -> None:
    """Beside one that is sure of c, which no word has, tokens beyond the threshold stay so, whatever the others try."""
    sure = np.log([[0.01, 0.01, 0.96, 0.01, 0.01], [1e-7, 1e-9, 1e-7, 5e-6, 1.0], [0.01, 0.96, 0.01, 0.01, 0.01]])
    unsure = np.log(np.full((n_frames, 5), 0.2))  # blank, space, a, b, c
    decoder = build(CharacterTokenizer(" abc"), arpa, optional_boundary=True, n_best=10)
    (alone,), (together, _) = decode(decoder, sure), decode(decoder, sure, unsure)
    expected = {hypothesis.text: hypothesis.score for hypothesis in alone.n_best}
    assert {hypothesis.text: hypothesis.score for hypothesis in together.n_best} == pytest.approx(expected, abs=1e-9)


def test_weight_zero_never_scores_below_the_best_path_that_the_lexicon_has(arpa: str) -> None:
    rng = np.random.default_rng(8)
    for _ in range(20):
        log_probs = random_log_probs(rng, 12, 4)
        (greedy,) = decode(build_decoder(DecodingConfig(), SPACED), log_probs)
        (found,) = decode(
            build(SPACED, arpa, lexicon=False, lm_weight=0.0, word_score=0.0, unknown_score=0.0, beam=500), log_probs
        )
        assert found.score >= greedy.score - 1e-4


def test_only_the_most_frequent_of_many_homophones(tmp_path: Path) -> None:
    """Flashlight's trie has room for six: the six that come first, and the rest is counted."""
    words = [letter * 2 for letter in "cdefghij"]
    unigrams = {"<unk>": (-2.0, 0.0), "<s>": (-99.0, 0.0), "</s>": (-1.0, 0.0)}
    unigrams |= {word: (-1.0 - 0.1 * place, 0.0) for place, word in enumerate(words)}
    arpa = str(write_arpa(tmp_path / "u.arpa", {1: unigrams, 2: {"<s> cc": (-0.5, 0.0)}}))
    file = write_lexicon(tmp_path / "lexicon.tsv", [f"{word}\ta" for word in words])
    log_probs = random_log_probs(np.random.default_rng(0), 4, 12)
    tokenizer = CharacterTokenizer(" abcdefghij")
    (found,) = decode(build(tokenizer, arpa, lexicon_file=file, n_best=100, beam=1000, beam_threshold=1e6), log_probs)
    single = {hypothesis.text for hypothesis in found.n_best if len(hypothesis.text.split()) == 1}
    assert single == set(words[:6])
    (found,) = decode(
        build(tokenizer, arpa, lexicon_file=file, n_best=1000, beam=5000, beam_threshold=1e6, optional_boundary=True), log_probs
    )
    assert {hypothesis.text for hypothesis in found.n_best if len(hypothesis.text.split()) == 1} == set(words)


def test_upper_case_models_are_understood(tmp_path: Path) -> None:
    """LibriSpeech's own language models are in capitals."""
    upper = {
        n: {re.sub(r"\b[ab]+\b", lambda word: word[0].upper(), key): value for key, value in entries.items()}
        for n, entries in TRIGRAMS.items()
    }
    arpa = str(write_arpa(tmp_path / "upper.arpa", upper))
    log_probs = random_log_probs(np.random.default_rng(1), 5, 4)
    (found,) = decode(build(SPACED, arpa, **WIDE), log_probs)
    check(found, sentences(log_probs, spelled(SPACED), 1))


def test_the_words_that_can_be_written_are_known(arpa: str) -> None:
    assert build(SPACED, arpa).vocabulary == frozenset({"a", "b", "ab"})
    assert build(SPACED, arpa, lexicon=False).vocabulary is None


def test_relative_paths_are_looked_up_in_the_package(arpa: str, tmp_path: Path) -> None:
    config = DecodingConfig(kind="beam_ngram", lm="words.arpa")
    assert build_decoder(config, SPACED, tmp_path).writes_words
    with pytest.raises(AsrError, match=r"words\.arpa"):
        build_decoder(config, SPACED, tmp_path / "elsewhere")


def test_processes_that_search_a_lexicon_do_without_torch() -> None:
    code = "import sys, asr.decoding.search.process_pool, asr.decoding.search.lexicon_search; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


@pytest.mark.slow
def test_processes_find_the_same(arpa: str) -> None:
    rng = np.random.default_rng(4)
    utterances = [random_log_probs(rng, n, 4) for n in (30, 3, 17, 1, 55)]
    for settings in ({}, {"lexicon": False}):
        one = decode(build(SPACED, arpa, **settings), *utterances)
        assert decode(build(SPACED, arpa, jobs=2, **settings), *utterances) == one


@pytest.mark.parametrize(
    ("tokenizer", "settings", "message"),
    [
        (SPACED, {"lm": None}, "needs decoding.lm"),
        (SPACED, {"lm": "nowhere"}, "nowhere"),
        (PIECES, {"lexicon": False}, "only a lexicon says where the words"),
        (CharacterTokenizer("ab"), {"lexicon": False}, "only a lexicon says where the words"),
        (CharacterTokenizer(" xyz"), {}, "no word in common"),
        (SPACED, {"lexicon_file": "nowhere.tsv"}, r"nowhere\.tsv"),
    ],
)
def test_what_cannot_be(arpa: str, tokenizer: Tokenizer, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(AsrError, match=message):
        build(tokenizer, **{"lm": arpa, **settings})


def test_model_over_characters_has_no_words(character_arpa: str) -> None:
    with pytest.raises(ConfigError, match=r"decoding\.lexicon=false"):
        build(SPACED, character_arpa)


def test_signature_names_the_model_and_the_weights(arpa: str, character_arpa: str) -> None:
    settings: list[dict[str, Any]] = [
        {"lm": arpa},
        {"lm": character_arpa, "lexicon": False},
        {"lm": arpa, "lm_weight": 0.4},
        {"lm": arpa, "word_score": 0.4},
        {"lm": arpa, "lexicon": False},
        {"lm": arpa, "lexicon": False, "unknown_score": -3.0},
        {"lm": arpa, "optional_boundary": True},
    ]
    signatures = [build(SPACED, **each).signature for each in settings]
    assert len(set(signatures)) == len(signatures)
    assert signatures[0].startswith("beam_ngram:lm=ngram3-word-")
