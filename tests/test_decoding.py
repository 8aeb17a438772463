"""Greedy decoding against cases worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from asr.config import DecodingConfig
from asr.decoding import Decoder, Hypothesis, build_decoder
from asr.errors import ConfigError, Failure
from asr.text import CharacterTokenizer

TOKENS = " ab"  # blank 0, space 1, a 2, b 3
PEAK = math.log(0.7)


@pytest.fixture
def decoder() -> Decoder:
    return build_decoder(DecodingConfig(kind="greedy"), CharacterTokenizer(TOKENS))


def log_probs_of(*paths: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities whose best paths are spelled with ``-`` for blank; padded with frames that say ``b``."""
    size = max(map(len, paths))
    probabilities = torch.full((len(paths), size, 4), 0.1)
    for row, path in enumerate(paths):
        for frame, symbol in enumerate(path.ljust(size, "b")):
            probabilities[row, frame, "- ab".index(symbol)] = 0.7
    return probabilities.log(), torch.tensor([len(path) for path in paths])


@pytest.mark.parametrize(
    ("path", "text", "frames"),
    [
        ("a", "a", (0,)),
        ("aab", "ab", (0, 2)),
        ("aa-abb", "aab", (0, 3, 4)),
        ("-a-a-", "aa", (1, 3)),
        ("----", "", ()),
        ("a b", "a b", (0, 1, 2)),
        ("a - b", "a b", (0, 1, 3, 4)),  # two spaces are one word boundary
        (" a ", "a", (0, 1, 2)),
        ("abab", "abab", (0, 1, 2, 3)),
    ],
)
def test_collapse(decoder: Decoder, path: str, text: str, frames: tuple[int, ...]) -> None:
    (hypothesis,) = decoder.decode(*log_probs_of(path))
    assert hypothesis.text == text
    assert hypothesis.frames == frames
    assert len(hypothesis.tokens) == len(frames)
    assert hypothesis.score == pytest.approx(len(path) * PEAK, rel=1e-6)


def test_padding_is_never_read(decoder: Decoder) -> None:
    alone = decoder.decode(*log_probs_of("a-a"))
    padded = decoder.decode(*log_probs_of("a-a", "bbbbbbbb"))
    assert padded[0] == alone[0]
    assert padded[1].text == "b"


def test_no_frames_give_empty_text(decoder: Decoder) -> None:
    log_probs, _ = log_probs_of("ab", "ab")
    assert decoder.decode(log_probs, torch.tensor([0, 2]))[0] == Hypothesis("", (), (), 0.0, 0.0, 0.0)
    assert decoder.decode(log_probs[:, :0], torch.tensor([0, 0])) == [Hypothesis("", (), (), 0.0, 0.0, 0.0)] * 2
    assert decoder.decode(log_probs[:0], torch.zeros(0, dtype=torch.int64)) == []


def test_bfloat16_reads_the_same(decoder: Decoder) -> None:
    log_probs, n_frames = log_probs_of("aa-ab")
    assert decoder.decode(log_probs.bfloat16(), n_frames)[0].text == "aab"


@pytest.mark.parametrize(
    ("shape", "n_frames", "message"),
    [
        ((2, 5), torch.tensor([5, 5]), r"\(batch, frame, 4\)"),
        ((2, 5, 7), torch.tensor([5, 5]), r"\(batch, frame, 4\)"),
        ((2, 5, 4), torch.tensor([5]), r"expected \(2,\) integers"),
        ((2, 5, 4), torch.tensor([1.0, 0.5]), "integers"),
        ((2, 5, 4), torch.tensor([5, 6]), r"0\.\.5"),
        ((2, 5, 4), torch.tensor([-1, 5]), r"0\.\.5"),
    ],
)
def test_shapes_are_checked(decoder: Decoder, shape: tuple[int, ...], n_frames: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decoder.decode(torch.zeros(shape), n_frames)


def test_nan_is_no_text(decoder: Decoder) -> None:
    log_probs, n_frames = log_probs_of("ab")
    log_probs[0, 1] = math.nan
    with pytest.raises(Failure, match="NaN"):
        decoder.decode(log_probs, n_frames)


def test_unknown_decoder() -> None:
    with pytest.raises(ConfigError, match="greedy"):
        build_decoder(DecodingConfig(kind="oracle"), CharacterTokenizer(TOKENS))
