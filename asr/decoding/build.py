"""Decoders from their settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from asr.config import DecodingConfig
from asr.decoding.decoder import Decoder
from asr.decoding.greedy import GreedyDecoder
from asr.decoding.searches import build_beam, build_fusion, build_ngram, build_rescoring
from asr.errors import ConfigError
from asr.text import Tokenizer


def build_decoder(config: DecodingConfig, tokenizer: Tokenizer, folder: Path | None = None) -> Decoder:
    """Build the decoder that the configuration describes.

    Parameters
    ----------
    config
        The decoder's settings.
    tokenizer
        The model's.
    folder
        The model package's, in which relative paths are looked up before the working folder.

    Raises
    ------
    ConfigError
        For a kind that does not exist, or settings that do not fit each other, the tokenizer or the models.
    PackageError, DataError
        Where a language model or lexicon cannot be read.
    """
    if config.kind not in _KINDS:
        raise ConfigError(f"decoding.kind={config.kind!r}: there are {', '.join(_KINDS)}")
    return _KINDS[config.kind](config, tokenizer, folder)


def _build_greedy(config: DecodingConfig, tokenizer: Tokenizer, folder: Path | None) -> Decoder:
    if config.hot_words:
        raise ConfigError(
            "hot words need a decoder that keeps several hypotheses: decoding.kind=beam, or beam_ngram with a language model"
        )
    return GreedyDecoder(tokenizer, config)


_KINDS: Mapping[str, Callable[[DecodingConfig, Tokenizer, Path | None], Decoder]] = {
    "greedy": _build_greedy,
    "beam": build_beam,
    "beam_ngram": build_ngram,
    "rescore": build_rescoring,
    "fusion": build_fusion,
}
