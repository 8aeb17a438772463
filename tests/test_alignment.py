"""Forced alignment and word times, against exhaustive search and cases worked out by hand."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exhaustive import write_arpa

from asr.config import CnnConfig, DecodingConfig, FrontendConfig, ModelConfig, RecurrentConfig, TokensConfig
from asr.decoding import build_decoder
from asr.decoding.hypothesis import Hypothesis, Word
from asr.decoding.words.alignment import FrameSpan, align
from asr.decoding.words.confidence import Calibration
from asr.decoding.words.timed_words import align_text, evidence_of, word_positions, words_of
from asr.decoding.words.word_edges import loudness, word_edges
from asr.errors import DataError, TextError
from asr.model.acoustic import SpeechModel
from asr.text import CharacterTokenizer, Normaliser, Tokenizer, build_tokenizer
from asr.text.bpe import BpeTokenizer

RATE = 16000
FRAME_S = 0.04


def random_log_probs(n_frames: int, n_tokens: int, seed: int) -> torch.Tensor:
    return torch.randn(n_frames, n_tokens, generator=torch.Generator().manual_seed(seed)).mul(2).log_softmax(1)


def collapsed(path: tuple[int, ...]) -> list[int]:
    return [token for token, _ in itertools.groupby(path) if token != 0]


def spelled(path: str, symbols: str, peak: float = 0.999) -> torch.Tensor:
    """Log-probabilities ``(frame, token)`` whose best path is written with one symbol a frame, ``-`` for blank."""
    probabilities = torch.full((len(path), len(symbols)), (1 - peak) / (len(symbols) - 1))
    for frame, symbol in enumerate(path):
        probabilities[frame, symbols.index(symbol)] = peak
    return probabilities.log()


class TestAlign:
    @pytest.mark.parametrize("seed", range(40))
    def test_agrees_with_exhaustive_search(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        tokens = rng.integers(1, 3, size=rng.integers(1, 4)).tolist()
        n_frames = int(rng.integers(5, 8))
        log_probs = random_log_probs(n_frames, 3, seed)
        paths = [path for path in itertools.product(range(3), repeat=n_frames) if collapsed(path) == tokens]
        best = max(paths, key=lambda path: sum(float(log_probs[frame, token]) for frame, token in enumerate(path)))
        runs = [(token, list(frames)) for token, frames in itertools.groupby(range(n_frames), key=lambda frame: best[frame])]
        assert align(log_probs, tokens) == [FrameSpan(frames[0], frames[-1] + 1) for token, frames in runs if token != 0]

    def test_no_more_frames_than_needed(self) -> None:
        assert align(random_log_probs(3, 4, 0), [1, 2, 3]) == [FrameSpan(0, 1), FrameSpan(1, 2), FrameSpan(2, 3)]
        assert align(random_log_probs(3, 4, 0), [2, 2]) == [FrameSpan(0, 1), FrameSpan(2, 3)]
        assert align(random_log_probs(1, 4, 0), [3]) == [FrameSpan(0, 1)]

    def test_nothing_to_align(self) -> None:
        assert align(random_log_probs(4, 3, 0), []) == []
        assert align(random_log_probs(0, 3, 0), []) == []

    @pytest.mark.parametrize(("n_frames", "tokens", "needed"), [(2, [1, 1], 3), (2, [1, 2, 1], 3), (0, [1], 1)])
    def test_audio_too_short(self, n_frames: int, tokens: list[int], needed: int) -> None:
        with pytest.raises(DataError, match=f"need {needed} frames at least.* but the audio gives {n_frames}"):
            align(random_log_probs(n_frames, 3, 0), tokens)

    @pytest.mark.parametrize("value", [-math.inf, math.nan])
    def test_impossible_text(self, value: float) -> None:
        log_probs = random_log_probs(4, 3, 0)
        log_probs[:, 2] = value
        with pytest.raises(DataError, match="probability of zero or NaN"):
            align(log_probs, [1, 2])


def test_loudness_by_hand() -> None:
    # A constant c has the power c^2: 0.1 is -20 dB, 0.001 is -60 dB; the step is smoothed over three frames.
    waveform = np.concatenate([np.full(800, 0.1), np.full(800, 0.001), np.full(50, 1.0)]).astype(np.float32)
    levels = loudness(waveform, RATE)
    assert levels.shape == (10,)  # the last 50 samples fill no frame
    np.testing.assert_allclose(levels[[0, 3, 6, 9]], [-20, -20, -60, -60], atol=0.01)
    np.testing.assert_allclose(levels[[4, 5]], [-20 - 40 / 3, -20 - 80 / 3], atol=0.01)
    assert loudness(np.zeros(100, np.float32), RATE).shape == (0,)


def levels_of(*parts: tuple[float, float]) -> np.ndarray:
    """Loudness (dB, a value each 10 ms) from pairs of duration (s) and level (dB)."""
    return np.concatenate([np.full(round(seconds * 100), level) for seconds, level in parts])


class TestWordEdges:
    def test_without_loudness_words_meet_half_way(self) -> None:
        # Frame k is centred on 0.04 k: frames 5..8 last from 0.18 to 0.34 s, frames 14..14 from 0.54 to 0.58 s.
        edges = word_edges([FrameSpan(5, 9), FrameSpan(14, 15)], FRAME_S, 1.0)
        np.testing.assert_allclose(edges, [(0.18, 0.44), (0.44, 0.58)])

    def test_words_stay_inside_the_audio(self) -> None:
        edges = word_edges([FrameSpan(0, 2), FrameSpan(4, 6)], FRAME_S, 0.2)
        np.testing.assert_allclose(edges, [(0.0, 0.1), (0.1, 0.2)])

    def test_a_pause_is_nobodys(self) -> None:
        # The tokens of the second word fire 0.1 s before it sounds, as those of real networks do.
        levels = levels_of((0.2, -70), (0.6, -20), (0.5, -70), (0.5, -20), (0.2, -70))
        edges = word_edges([FrameSpan(7, 19), FrameSpan(30, 43)], FRAME_S, 2.0, levels)
        np.testing.assert_allclose(edges, [(0.2, 0.8), (1.3, 1.8)])

    def test_a_pause_beyond_reach_is_not_taken(self) -> None:
        # 0.5 s of silence inside the second word's tokens: more than 0.3 s after its first token nothing is moved.
        levels = levels_of((0.1, -70), (0.9, -20), (0.7, -70), (0.4, -20))
        ((_, end), (start, _)) = word_edges([FrameSpan(3, 20), FrameSpan(28, 50)], FRAME_S, 2.1, levels)
        assert (end, start) == pytest.approx((1.0, 1.1 + 0.3), abs=0.021)

    def test_a_closure_is_no_pause(self) -> None:
        # Quiet for 0.05 s inside the gap: the words meet there.
        levels = levels_of((0.2, -70), (0.6, -20), (0.05, -70), (0.6, -20), (0.2, -70))
        ((_, end), (start, _)) = word_edges([FrameSpan(6, 19), FrameSpan(24, 35)], FRAME_S, 1.65, levels)
        assert end == start == pytest.approx(0.805)

    def test_noise_has_no_pauses(self) -> None:
        # The same as above with 10 dB between background and speech instead of 50.
        levels = levels_of((0.2, -30), (0.6, -20), (0.5, -30), (0.5, -20), (0.2, -30))
        spans = [FrameSpan(7, 19), FrameSpan(30, 43)]
        np.testing.assert_allclose(word_edges(spans, FRAME_S, 2.0, levels), word_edges(spans, FRAME_S, 2.0))

    @pytest.mark.parametrize("seed", range(30))
    def test_times_are_ordered_whatever_the_audio(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        cuts = np.sort(rng.choice(60, size=2 * int(rng.integers(1, 12)), replace=False))
        spans = [FrameSpan(int(start), int(end)) for start, end in cuts.reshape(-1, 2)]
        levels = np.repeat(rng.uniform(-80, 0, 60), rng.integers(1, 9, 60))
        duration_s = 59 * FRAME_S
        for loudness_db in (levels, None, levels[:7], np.zeros(0)):
            flat = [time for word in word_edges(spans, FRAME_S, duration_s, loudness_db) for time in word]
            assert flat == sorted(flat)
            assert flat[0] >= 0.0
            assert flat[-1] <= duration_s
            assert len(flat) == 2 * len(spans)

    def test_no_words(self) -> None:
        assert word_edges([], FRAME_S, 1.0, levels_of((1.0, -20))) == []


@pytest.mark.parametrize(
    ("kernels", "strides"), [([3, 3], [2, 2]), ([5, 3, 3], [2, 2, 1]), ([3], [4]), ([7, 1], [1, 3])], ids=str
)
def test_output_frame_is_centred_on_its_time(kernels: list[int], strides: list[int]) -> None:
    """The samples on which output frame k of the convolutions depends lie symmetrically round k * frame_s."""
    n_layers = len(kernels)
    cnn = CnnConfig([4] * n_layers, kernels, [3] * n_layers, strides, [2] * n_layers, norm="none", activation="silu")
    frontend = FrontendConfig(n_mels=20, normalisation="none", dynamic_range_db=None)
    torch.manual_seed(0)
    model = SpeechModel(frontend, ModelConfig(cnn, RecurrentConfig(layers=1, hidden_size=4)), n_tokens=3).eval()
    waveform = torch.randn(1, RATE, generator=torch.Generator().manual_seed(1)).mul(0.1).requires_grad_()
    output, _ = model.acoustic.cnn(*model.features(waveform, torch.tensor([RATE])))
    frame = output.shape[1] // 2
    output[0, frame].sum().backward()
    assert waveform.grad is not None
    (touched,) = waveform.grad[0].nonzero(as_tuple=True)
    middle = (int(touched[0]) + int(touched[-1])) / 2
    assert middle / RATE == pytest.approx(frame * model.frame_s, abs=1 / RATE)


class TestWordPositions:
    def test_characters(self) -> None:
        tokenizer = CharacterTokenizer(" ab")  # space 1, a 2, b 3
        assert word_positions([2, 3, 1, 2], tokenizer, 2) == [range(0, 2), range(3, 4)]
        assert word_positions([1, 1, 2, 1, 1, 3, 3, 1], tokenizer, 2) == [range(2, 3), range(5, 7)]
        assert word_positions([1, 1], tokenizer, 0) == []

    def test_pieces(self) -> None:
        tokenizer = BpeTokenizer(Normaliser(" abc"), ["▁ab", "▁", "a", "b", "c"])
        tokens = [1, 5, 2, 3, 2, 1]  # "▁ab c ▁ a ▁ ▁ab": a mark with nothing after it writes nothing
        assert tokenizer.decode(tokens) == "abc a ab"
        assert word_positions(tokens, tokenizer, 3) == [range(0, 2), range(2, 4), range(5, 6)]
        assert word_positions([5, 1], tokenizer, 2) == [range(0, 1), range(1, 2)]  # the first need not have a mark

    def test_writing_without_spaces_is_one_word(self) -> None:
        assert word_positions([1, 2, 1], CharacterTokenizer("ab"), 1) == [range(0, 3)]
        pieces = BpeTokenizer(Normaliser("ab"), ["▁ab", "▁", "a", "b"])
        assert pieces.decode([1, 3, 1]) == "abaab"
        assert word_positions([1, 3, 1], pieces, 1) == [range(0, 3)]

    def test_words_without_boundaries_between_them(self) -> None:
        tokenizer = CharacterTokenizer(" ab")
        assert word_positions([2, 3, 3, 1, 2, 2], tokenizer, 4, ends=[2, 4, 5]) == [
            *(range(0, 2), range(2, 3), range(4, 5), range(5, 6))
        ]

    def test_a_word_in_which_the_audio_breaks_off_is_not_there(self) -> None:
        assert word_positions([2, 1, 3, 2], CharacterTokenizer(" ab"), 1) == [range(0, 1)]

    def test_another_number_of_words_is_refused(self) -> None:
        with pytest.raises(ValueError, match="the text has 3 words, its tokens 2"):
            word_positions([2, 1, 2], CharacterTokenizer(" ab"), 3)
        with pytest.raises(ValueError, match="the text has 1 words, its tokens 3"):
            word_positions([2, 1, 2, 1, 2], CharacterTokenizer(" ab"), 1)


SPACED = CharacterTokenizer(" ab")
PIECES = BpeTokenizer(Normaliser(" ab"), ["▁a", "▁", "a", "b"])


@pytest.mark.parametrize(
    ("tokenizer", "settings"),
    [
        (SPACED, {"kind": "greedy"}),
        (SPACED, {"kind": "beam"}),
        (SPACED, {"kind": "beam_ngram"}),
        (SPACED, {"kind": "beam_ngram", "lexicon": False}),
        (SPACED, {"kind": "beam_ngram", "optional_boundary": True}),
        (SPACED, {"kind": "beam_ngram", "hot_words": ["bb a"]}),
        (SPACED, {"kind": "beam_ngram", "hot_words": ["bb a"], "optional_boundary": True}),
        (PIECES, {"kind": "greedy"}),
        (PIECES, {"kind": "beam", "hot_words": ["bb a"]}),
        (PIECES, {"kind": "beam_ngram"}),
    ],
    ids=lambda value: value.kind if isinstance(value, Tokenizer) else str(value),
)
def test_every_decoder_says_which_tokens_are_which_word(tokenizer: Tokenizer, settings: dict[str, Any], tmp_path: Path) -> None:
    if settings["kind"] == "beam_ngram":
        settings = {**settings, "lm": str(write_arpa(tmp_path / "words.arpa"))}
    decoder = build_decoder(DecodingConfig(beam=20, n_best=1, **settings), tokenizer)
    utterances = [random_log_probs(12, len(tokenizer), seed) for seed in range(60)]
    n_words = 0
    for hypothesis, log_probs in zip(decoder.decode(torch.stack(utterances), torch.tensor([12] * 60)), utterances, strict=True):
        texts = hypothesis.text.split()
        words = word_positions(hypothesis.tokens, tokenizer, len(texts), hypothesis.word_ends)
        assert [tokenizer.decode([hypothesis.tokens[k] for k in word]) for word in words] == texts
        assert evidence_of(hypothesis, log_probs, tokenizer).shape == (len(texts), 2)
        n_words += len(texts)
    assert n_words > 60


def found(
    text: str, path: str, waveform: np.ndarray, tokenizer: Tokenizer, calibration: Calibration | None = None
) -> list[Word]:
    """Words of a hypothesis that is written frame by frame in the characters " ab"."""
    tokens = ["- ab".index(symbol) for symbol, _ in itertools.groupby(path) if symbol != "-"]
    hypothesis = Hypothesis(text, tuple(tokens), (), 0.0, 0.0, 0.0)
    log_probs = spelled(path, "- ab")
    words = words_of(hypothesis, log_probs, tokenizer, waveform, sample_rate=RATE, frame_s=FRAME_S, calibration=calibration)
    return list(words)


class TestWordsOf:
    @pytest.fixture
    def tokenizer(self) -> Tokenizer:
        return CharacterTokenizer(" ab")

    @pytest.fixture
    def waveform(self) -> np.ndarray:
        """Two seconds: sound from 0.3 to 0.8 and from 1.1 to 1.7 s."""
        rng = np.random.default_rng(0)
        level = np.full(2 * RATE, 1e-4)
        level[int(0.3 * RATE) : int(0.8 * RATE)] = level[int(1.1 * RATE) : int(1.7 * RATE)] = 0.1
        return (level * rng.standard_normal(2 * RATE)).astype(np.float32)

    def test_times_and_texts(self, tokenizer: Tokenizer, waveform: np.ndarray) -> None:
        path = "---------a---b--------- --b----a-------------------"
        words = found("ab ba", path, waveform, tokenizer)
        assert [word.text for word in words] == ["ab", "ba"]
        np.testing.assert_allclose(
            [(word.start_s, word.end_s) for word in words], [(0.3, 0.8), (1.1, 1.7)], atol=0.0151
        )  # the loudness is smoothed over 30 ms
        assert all(0.5 < word.confidence < 1 for word in words)

    def test_doubt_lowers_the_word_it_is_in(self, tokenizer: Tokenizer, waveform: np.ndarray) -> None:
        path = "---------a---b--------- --b----a-------------------"
        log_probs = spelled(path, "- ab")
        log_probs[26] = torch.tensor([0.1, 0.1, 0.4, 0.4]).log()  # a or b?
        hypothesis = Hypothesis("ab ba", (2, 3, 1, 3, 2), (), 0.0, 0.0, 0.0)
        first, second = words_of(hypothesis, log_probs, tokenizer, waveform, sample_rate=RATE, frame_s=FRAME_S)
        sure, unsure = found("ab ba", path, waveform, tokenizer)
        assert first.confidence == sure.confidence
        assert second.confidence < 0.6 * unsure.confidence

    def test_calibration_is_applied(self, tokenizer: Tokenizer, waveform: np.ndarray) -> None:
        path = "---------a---b---------"
        (plain,) = found("ab", path, waveform, tokenizer)
        (mapped,) = found("ab", path, waveform, tokenizer, Calibration(0.5, 0.1, -1.2))
        logit = math.log(plain.confidence / (1 - plain.confidence))
        assert mapped.confidence == pytest.approx(1 / (1 + math.exp(-(0.5 * logit - 1.0))))
        assert (mapped.start_s, mapped.end_s) == (plain.start_s, plain.end_s)

    def test_no_words(self, tokenizer: Tokenizer, waveform: np.ndarray) -> None:
        assert found("", "------ ----", waveform, tokenizer) == []
        assert found("", "", waveform[:0], tokenizer) == []

    def test_digital_silence_and_a_single_frame(self, tokenizer: Tokenizer) -> None:
        (word,) = found("a", "a", np.zeros(300, np.float32), tokenizer)
        assert (word.start_s, word.end_s) == (0.0, 300 / RATE)

    def test_known_text(self, tokenizer: Tokenizer, waveform: np.ndarray) -> None:
        path = "---------a---b--------- --b----a-------------------"
        aligned = align_text("AB,  ba!", spelled(path, "- ab"), tokenizer, waveform, sample_rate=RATE, frame_s=FRAME_S)
        assert list(aligned) == found("ab ba", path, waveform, tokenizer)
        with pytest.raises(TextError, match="c"):
            align_text("abc", spelled(path, "- ab"), tokenizer, waveform, sample_rate=RATE, frame_s=FRAME_S)
        with pytest.raises(DataError, match="tokens need"):
            align_text("ab" * 40, spelled(path, "- ab"), tokenizer, waveform, sample_rate=RATE, frame_s=FRAME_S)

    def test_phones_have_the_words_of_the_text(self, waveform: np.ndarray) -> None:
        tokenizer = build_tokenizer(TokensConfig(kind="phones"), lambda: ["one two three", "four five six seven"])
        tokens = tokenizer.encode("two five")
        log_probs = random_log_probs(50, len(tokenizer), 0)
        aligned = align_text("two five", log_probs, tokenizer, waveform, sample_rate=RATE, frame_s=FRAME_S)
        assert [word.text for word in aligned] == ["two", "five"]
        spans = align(log_probs, tokens)
        boundary = tokens.index(1)
        assert spans[boundary - 1].end <= spans[boundary].start
        assert aligned[0].end_s <= aligned[1].start_s
