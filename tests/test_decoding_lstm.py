"""Rescoring and fusion with LSTM language models, against all alignments and all word sequences tried one by one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exhaustive import TRIGRAMS, Tokens, all_readings, join, random_log_probs, sentence_log_prob, ways, write_arpa
from tiny_lstm import write_tiny_lstm

from asr.config import DecodingConfig
from asr.decoding import Decoder, Hypothesis, build_decoder
from asr.decoding.decoders import rescoring
from asr.decoding.decoders.rescoring import SentenceScores
from asr.decoding.scorers.loading import load_lstm
from asr.decoding.scorers.lstm import LstmReader, LstmWords
from asr.decoding.search import prefix_search
from asr.errors import AsrError
from asr.language.units import Characters, Pieces, Units
from asr.text import BpeTokenizer, CharacterTokenizer, Normaliser, PhoneTokenizer, Tokenizer
from asr.text.dictionary import Dictionary

WIDE: dict[str, Any] = {"beam": 20000, "beam_threshold": 1e6, "n_best": 20000, "rescore_n": 10000}
WEIGHTS = {"lm_weight": 1.3, "word_score": 0.7, "lstm_weight": 0.9}
FORM = Normaliser(" ab")
SPACED = CharacterTokenizer(" ab")  # blank 0, space 1, a 2, b 3
PIECES = BpeTokenizer(FORM, ["▁a", "▁", "a", "b"])
PHONES = PhoneTokenizer(FORM, ["a"], Dictionary("tiny", {"a": [("a",)]}))
WORDS = ("a", "b", "ab")

WriteLstm = Callable[..., str]


@pytest.fixture
def arpa(tmp_path: Path) -> str:
    return str(write_arpa(tmp_path / "words.arpa"))


@pytest.fixture
def write(tmp_path: Path) -> WriteLstm:
    """Return a function that writes the package of a random LSTM and returns its folder."""

    def write_package(units: Units | None = None, words: Sequence[str] = WORDS, form: Normaliser = FORM, seed: int = 4) -> str:
        name = f"lstm-{units.name if units else 'word'}-{len(words)}-{seed}"
        return write_tiny_lstm(tmp_path / name, form, words, units, seed)

    return write_package


def build(kind: str, tokenizer: Tokenizer, lstm: str, **settings: Any) -> Decoder:
    return build_decoder(DecodingConfig(kind=kind, lstm=lstm, **{**WEIGHTS, **settings}), tokenizer)


def decode(decoder: Decoder, *utterances: np.ndarray) -> list[Hypothesis]:
    n_frames = torch.tensor([len(utterance) for utterance in utterances])
    tensors = [torch.from_numpy(np.asarray(utterance, dtype=np.float32)) for utterance in utterances]
    return decoder.decode(torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=math.nan), n_frames)


def lstm_log_prob(folder: str, text: str) -> float:
    """By the model's own scores; a word that it does not know is one of as many as it knows."""
    model = load_lstm(Path(folder))
    (score,) = model.score([model.normalise(text)])
    return score.log_prob - score.n_unknown * math.log(len(model.words))


def sentences(
    log_probs: np.ndarray, lexicon: Mapping[str, Sequence[Tokens]], boundary: int | None, **options: Any
) -> dict[str, float]:
    """Return the acoustic score of every sentence of the lexicon's words."""
    acoustic: dict[str, list[float]] = {}
    for tokens, score in all_readings(np.float32(log_probs).astype(float), boundary).items():
        for words in ways(tokens, lexicon, boundary, **options):
            acoustic.setdefault(" ".join(words), []).append(score)
    return {text: join(scores) for text, scores in acoustic.items()}


def check(
    found: Hypothesis,
    acoustic: Mapping[str, float],
    lstm: str,
    *,
    ngram: Callable[[str], float] | None = None,
    bonus: Callable[[str], float] = lambda text: 0.0,
) -> None:
    """Compare an n-best list with what all texts are worth: the same texts, scores and order."""
    scores = {}
    for text, value in acoustic.items():
        scores[text] = value + 0.9 * lstm_log_prob(lstm, text) + 0.7 * len(text.split()) + bonus(text)
        scores[text] += 1.3 * ngram(text) if ngram else 0.0
    assert {hypothesis.text for hypothesis in found.n_best} == scores.keys()
    assert len(scores) > 1
    for hypothesis, score in zip(found.n_best, sorted(scores.values(), reverse=True), strict=True):
        assert hypothesis.score == pytest.approx(score, abs=1e-4)
        assert hypothesis.score == pytest.approx(scores[hypothesis.text], abs=1e-4)
        assert hypothesis.acoustic == pytest.approx(acoustic[hypothesis.text], abs=1e-4)
        assert hypothesis.lstm == pytest.approx(lstm_log_prob(lstm, hypothesis.text), abs=1e-4)
        assert hypothesis.language == pytest.approx(ngram(hypothesis.text) if ngram else 0.0, abs=1e-4)


def ngram_log_prob(text: str) -> float:
    return sentence_log_prob(text.split())


def test_a_self_normalised_model_is_not_summed_over(tmp_path: Path) -> None:
    """Its logits are the log-probabilities."""
    folder = Path(write_tiny_lstm(tmp_path / "lm", FORM, WORDS, self_normalised=True))
    model = load_lstm(folder)
    indices = torch.tensor([[model.begin, model.index("a"), model.index("ab")]])
    hidden, _ = model.network(indices, None)
    logits = hidden[0] @ model.network.embedding.weight.T + model.network.bias
    expected = logits[0, model.index("a")] + logits[1, model.index("ab")] + logits[2, model.end]
    assert SentenceScores(model)(["a ab"])["a ab"] == pytest.approx(float(expected), abs=1e-5)


# --- fusion


@pytest.mark.parametrize("with_ngram", [False, True])
@pytest.mark.parametrize("optional", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_fusion_finds_every_sentence(arpa: str, write: WriteLstm, with_ngram: bool, optional: bool, seed: int) -> None:
    lstm, rng = write(), np.random.default_rng(seed)
    log_probs = random_log_probs(rng, int(rng.integers(2, 6)), 4)
    settings = {"lm": arpa if with_ngram else None, "optional_boundary": optional}
    (found,) = decode(build("fusion", SPACED, lstm, **settings, **WIDE), log_probs)
    acoustic = sentences(log_probs, SPACED.spell_many(WORDS), 1, optional=optional)
    check(found, acoustic, lstm, ngram=ngram_log_prob if with_ngram else None)


def test_fusion_with_pieces_of_words(write: WriteLstm) -> None:
    lstm = write()
    log_probs = random_log_probs(np.random.default_rng(1), 5, 5)
    (found,) = decode(build("fusion", PIECES, lstm, **WIDE), log_probs)
    check(found, sentences(log_probs, PIECES.spell_many(WORDS), None), lstm)


def test_words_that_the_lstm_does_not_know(arpa: str, write: WriteLstm) -> None:
    """Those of the n-gram model, hot words and phrases, words of no lexicon: each has its share of the unknown word."""
    lstm = write(words=("a", "aa"))
    log_probs = random_log_probs(np.random.default_rng(2), 5, 4)
    acoustic = sentences(log_probs, SPACED.spell_many([*WORDS, "ba"]), 1)
    hot = {"hot_words": ["ba"], "hot_word_score": 1.5}
    (found,) = decode(build("fusion", SPACED, lstm, lm=arpa, **hot, **WIDE), log_probs)
    for hypothesis in found.n_best:
        assert hypothesis.lstm == pytest.approx(lstm_log_prob(lstm, hypothesis.text), abs=1e-4)
    assert {hypothesis.text for hypothesis in found.n_best} == acoustic.keys()
    (found,) = decode(build("fusion", SPACED, lstm, lexicon=False, unknown_score=-2.5, **WIDE), log_probs)
    readings = all_readings(np.float32(log_probs).astype(float), 1)
    free = {SPACED.decode(tokens): score for tokens, score in readings.items()}
    check(found, free, lstm, bonus=lambda text: -2.5 * sum(word not in ("a", "aa") for word in text.split()))


def test_hot_phrases_are_read_word_by_word(write: WriteLstm) -> None:
    lstm = write()
    path = "a  b  a"
    log_probs = np.full((len(path), 4), math.log(0.02))
    log_probs[np.arange(len(path)), ["- ab".index(symbol) for symbol in path]] = math.log(0.94)
    (found,) = decode(build("fusion", SPACED, lstm, hot_words=["a b"], hot_word_score=9.0), log_probs)
    (plain,) = decode(build("fusion", SPACED, lstm), log_probs)
    assert (found.text, plain.text) == ("a b a", "a b a")
    assert found.lstm == pytest.approx(plain.lstm, abs=1e-5)
    assert found.lstm == pytest.approx(lstm_log_prob(lstm, "a b a"), abs=1e-4)
    assert found.score == pytest.approx(plain.score + 9.0, abs=1e-3)


def test_lstm_words_beside_a_model_over_characters(tmp_path: Path, write: WriteLstm) -> None:
    ngrams = {n: {key: value for key, value in entries.items() if "ab" not in key.split()} for n, entries in TRIGRAMS.items()}
    characters, lstm = str(write_arpa(tmp_path / "characters.arpa", ngrams)), write()
    log_probs = random_log_probs(np.random.default_rng(3), 5, 4)
    (found,) = decode(build("fusion", SPACED, lstm, lm=characters, **WIDE), log_probs)
    acoustic = sentences(log_probs, SPACED.spell_many(WORDS), 1)
    check(found, acoustic, lstm, ngram=lambda text: sentence_log_prob(list(text.replace(" ", "|")), ngrams))


def test_an_lstm_in_another_letter_case(write: WriteLstm) -> None:
    lstm = write(words=("A", "B", "AB"), form=Normaliser(" AB", case="upper"))
    log_probs = random_log_probs(np.random.default_rng(1), 5, 4)
    for kind in ("fusion", "rescore"):
        (found,) = decode(build(kind, SPACED, lstm, **WIDE), log_probs)
        texts = [hypothesis.text for hypothesis in found.n_best]
        assert "ab" in texts
        assert not any(text.isupper() for text in texts)
        for hypothesis in found.n_best:
            assert hypothesis.lstm == pytest.approx(lstm_log_prob(lstm, hypothesis.text), abs=1e-4)


@pytest.mark.parametrize("with_ngram", [False, True])
def test_forgetting_changes_nothing(arpa: str, write: WriteLstm, with_ngram: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    lstm, rng = write(), np.random.default_rng(5)
    utterances = [random_log_probs(rng, n, 4) for n in (60, 3, 41, 1, 75)]
    settings = {"lm": arpa if with_ngram else None, "beam": 12, "n_best": 12}
    found = []
    for every in (1, 7, 10**9):
        monkeypatch.setattr(prefix_search, "_FRAMES_REMEMBERED", every)
        found.append(decode(build("fusion", SPACED, lstm, **settings), *utterances))
    for other in found[1:]:
        for first, second in zip(found[0], other, strict=True):
            assert [each.text for each in first.n_best] == [each.text for each in second.n_best]
            assert [each.score for each in first.n_best] == pytest.approx([each.score for each in second.n_best], abs=1e-4)
    for hypothesis in found[0]:
        assert hypothesis.lstm == pytest.approx(lstm_log_prob(lstm, hypothesis.text), abs=1e-3)


def test_what_is_forgotten_takes_no_memory(write: WriteLstm, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    retain = LstmReader.retain

    def counted(self: LstmReader, contexts: Any) -> None:
        retain(self, contexts)
        rows.append(len(self._table))

    monkeypatch.setattr(LstmReader, "retain", counted)
    log_probs = random_log_probs(np.random.default_rng(6), 600, 4)
    decode(build("fusion", SPACED, write(), beam=10), log_probs)
    assert len(rows) > 10
    assert max(rows[len(rows) // 2 :]) <= 2 * max(rows[: len(rows) // 2])


@pytest.mark.parametrize("kind", ["fusion", "rescore"])
def test_company_changes_nothing(arpa: str, write: WriteLstm, kind: str) -> None:
    lstm, rng = write(), np.random.default_rng(7)
    utterances = [random_log_probs(rng, n, 4) for n in (30, 3, 17, 1, 45, 8)]
    for lm in (None, arpa):
        decoder = build(kind, SPACED, lstm, lm=lm, beam=10, n_best=3)
        together = decode(decoder, *utterances)
        for log_probs, hypothesis in zip(utterances, together, strict=True):
            (alone,) = decode(build(kind, SPACED, lstm, lm=lm, beam=10, n_best=3), log_probs)
            assert [each.text for each in alone.n_best] == [each.text for each in hypothesis.n_best]
            assert [each.score for each in alone.n_best] == pytest.approx([each.score for each in hypothesis.n_best], abs=1e-4)


@pytest.mark.slow
def test_processes_find_the_same(arpa: str, write: WriteLstm) -> None:
    lstm, rng = write(), np.random.default_rng(4)
    utterances = [random_log_probs(rng, n, 4) for n in (30, 3, 17, 1, 55)]
    one = decode(build("fusion", SPACED, lstm, lm=arpa), *utterances)
    two = decode(build("fusion", SPACED, lstm, lm=arpa, jobs=2), *utterances)
    assert [each.text for each in one] == [each.text for each in two]
    assert [each.score for each in one] == pytest.approx([each.score for each in two], abs=1e-4)


# --- rescoring


@pytest.mark.parametrize("with_ngram", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_rescoring_adds_up(arpa: str, write: WriteLstm, with_ngram: bool, seed: int) -> None:
    lstm = write()
    log_probs = random_log_probs(np.random.default_rng(seed), 5, 4)
    (found,) = decode(build("rescore", SPACED, lstm, lm=arpa if with_ngram else None, **WIDE), log_probs)
    if with_ngram:
        check(found, sentences(log_probs, SPACED.spell_many(WORDS), 1), lstm, ngram=ngram_log_prob)
    else:
        readings = all_readings(np.float32(log_probs).astype(float), 1)
        check(found, {SPACED.decode(tokens): score for tokens, score in readings.items()}, lstm)


@pytest.mark.parametrize("scale", [0.0, 0.4])
def test_the_lstm_takes_the_place_of_the_ngram_model(arpa: str, write: WriteLstm, scale: float) -> None:
    lstm = write()
    log_probs = random_log_probs(np.random.default_rng(2), 5, 4)
    (found,) = decode(build("rescore", SPACED, lstm, lm=arpa, rescore_lm_scale=scale, **WIDE), log_probs)
    acoustic = sentences(log_probs, SPACED.spell_many(WORDS), 1)
    check(found, acoustic, lstm, ngram=ngram_log_prob, bonus=lambda text: (scale - 1.0) * 1.3 * ngram_log_prob(text))


@pytest.mark.parametrize(
    ("units", "words"), [(Characters(), ("a", "b", "|")), (Pieces(PIECES), ("a", "▁a", "b", "▁"))], ids=["characters", "pieces"]
)
def test_rescoring_by_any_units(write: WriteLstm, units: Units, words: Sequence[str]) -> None:
    lstm = write(units, words)
    log_probs = random_log_probs(np.random.default_rng(1), 5, 4)
    (found,) = decode(build("rescore", SPACED, lstm, **WIDE), log_probs)
    readings = all_readings(np.float32(log_probs).astype(float), 1)
    check(found, {SPACED.decode(tokens): score for tokens, score in readings.items()}, lstm)


def test_rescoring_among_the_words_of_a_file(write: WriteLstm, tmp_path: Path) -> None:
    (tmp_path / "lexicon.tsv").write_text("ab\ta b\nba\tb\n")
    lstm = write()
    log_probs = random_log_probs(np.random.default_rng(0), 5, 4)
    (found,) = decode(build("rescore", SPACED, lstm, lexicon_file=str(tmp_path / "lexicon.tsv"), **WIDE), log_probs)
    check(found, sentences(log_probs, {"ab": [(2, 3)], "ba": [(3,)]}, 1), lstm)


@pytest.mark.parametrize("with_ngram", [False, True])
def test_without_weight_the_first_search_decides(arpa: str, write: WriteLstm, with_ngram: bool) -> None:
    rng = np.random.default_rng(9)
    utterances = [random_log_probs(rng, 25, 4) for _ in range(12)]
    lm, lstm = arpa if with_ngram else None, write()
    plain: dict[str, Any] = {"beam": 20, "lstm_weight": 0.0}
    plain |= {} if with_ngram else {"word_score": 0.0}
    first = build_decoder(DecodingConfig(kind="beam_ngram" if with_ngram else "beam", lm=lm, **{**WEIGHTS, **plain}), SPACED)
    expected = [hypothesis.text for hypothesis in decode(first, *utterances)]
    rescored = decode(build("rescore", SPACED, lstm, lm=lm, **plain), *utterances)
    assert [hypothesis.text for hypothesis in rescored] == expected
    heavy = decode(build("rescore", SPACED, lstm, lm=lm, **{**plain, "lstm_weight": 5.0}), *utterances)
    assert [hypothesis.text for hypothesis in heavy] != expected


def test_the_length_of_the_list(write: WriteLstm) -> None:
    log_probs = random_log_probs(np.random.default_rng(3), 6, 4)
    lstm = write()
    (first,) = decode(build_decoder(DecodingConfig(kind="beam", n_best=3), SPACED), log_probs)
    (found,) = decode(build("rescore", SPACED, lstm, rescore_n=3, n_best=50), log_probs)
    assert {each.text for each in found.n_best} == {each.text for each in first.n_best}
    (found,) = decode(build("rescore", SPACED, lstm, rescore_n=50, n_best=2), log_probs)
    assert len(found.n_best) == 2


def test_texts_are_read_once_and_not_all_are_remembered(write: WriteLstm, monkeypatch: pytest.MonkeyPatch) -> None:
    lstm = write()
    scores = SentenceScores(load_lstm(Path(lstm)))
    read: list[str] = []
    score = SentenceScores._score

    def counted(self: SentenceScores, texts: Sequence[str]) -> list[float]:
        read.extend(texts)
        return score(self, texts)

    monkeypatch.setattr(SentenceScores, "_score", counted)
    monkeypatch.setattr(rescoring, "_MAX_REMEMBERED", 3)
    monkeypatch.setattr(rescoring, "_TEXTS", 2)
    texts = ["a b", "b", "", "ab b a", "b"]
    found = scores(texts)
    assert read == ["", "a b", "ab b a", "b"]
    for text in texts:
        assert found[text] == pytest.approx(lstm_log_prob(lstm, text), abs=1e-5)
    assert scores(["b", "ab b a"]) == {text: found[text] for text in ("b", "ab b a")}
    assert len(read) == 4
    scores(["a"])  # in place of the empty text
    scores(["b", "ab b a", "a"])
    assert len(read) == 5
    scores([""])
    assert read[5:] == [""]


def test_texts_that_another_thread_forgets_first(write: WriteLstm, monkeypatch: pytest.MonkeyPatch) -> None:
    class Shared(dict[str, float]):
        def __iter__(self) -> Iterator[str]:
            for text in list(self.keys()):
                del self[text]  # as another thread does once this one has chosen the text
                yield text

    scores = SentenceScores(load_lstm(Path(write())))
    monkeypatch.setattr(scores, "_known", Shared())
    monkeypatch.setattr(rescoring, "_MAX_REMEMBERED", 1)
    assert scores(["a", "b", "ab"]).keys() == {"a", "b", "ab"}
    assert scores._known.keys() == {"ab"}


def test_first_words_are_potentials_and_models_travel_by_path(write: WriteLstm) -> None:
    lstm = LstmWords(Path(write()), [["a"], ["b", "ab"], ["zebra"], []])
    a, b, ab, stranger = (math.log(count / 11) for count in (4, 3, 2, 1))
    assert lstm.unigrams() == pytest.approx([stranger, a, b + ab, stranger, stranger])
    kind, arguments = lstm.__reduce__()
    assert kind(*arguments).units == lstm.units


# --- what cannot be


@pytest.mark.parametrize(
    ("kind", "tokenizer", "settings", "message"),
    [
        ("rescore", SPACED, {"lstm": None}, "needs decoding.lstm"),
        ("fusion", SPACED, {"lstm": None}, "needs decoding.lstm"),
        ("rescore", SPACED, {"lstm": "nowhere"}, "nowhere"),
        ("fusion", SPACED, {"lstm": "ARPA"}, "expected an LSTM"),
        ("rescore", SPACED, {"lm": "LSTM"}, "expected an n-gram model"),
        ("fusion", SPACED, {"lstm": "CHARACTERS"}, "decoding.kind=rescore"),
        ("fusion", PIECES, {"lexicon": False}, "only a lexicon says where the words"),
        ("fusion", CharacterTokenizer(" xyz"), {}, "no word in common"),
        ("rescore", PHONES, {}, "decoding.lexicon_file"),
    ],
)
def test_what_cannot_be(
    arpa: str, write: WriteLstm, kind: str, tokenizer: Tokenizer, settings: dict[str, Any], message: str
) -> None:
    places = {"ARPA": arpa, "LSTM": write(), "CHARACTERS": write(Characters(), ("a", "b", "|"))}
    named = {name: places.get(value, value) for name, value in settings.items()}
    with pytest.raises(AsrError, match=message):
        build(kind, tokenizer, **{"lstm": places["LSTM"], **named})


def test_signatures_tell_settings_apart(arpa: str, write: WriteLstm) -> None:
    settings: list[dict[str, Any]] = [
        {},
        {"lm": arpa},
        {"lm": arpa, "lm_weight": 0.4},
        {"lm": arpa, "rescore_lm_scale": 0.4},
        {"lstm_weight": 0.3},
        {"word_score": 0.3},
        {"rescore_n": 7},
        {"lstm": write(seed=5)},
    ]
    for kind in ("rescore", "fusion"):
        signatures = [build(kind, SPACED, **{"lstm": write(), **each}).signature for each in settings]
        assert len(set(signatures)) == len(signatures) - 2 * (kind == "fusion")  # which makes no list
        assert all(signature.startswith(f"{kind}:") and " " not in signature for signature in signatures)
        assert all(signature.count("word_score=") == 1 for signature in signatures)
        assert all("lstm=lstm2x5-word-3-" in signature for signature in signatures)
