"""Log-probabilities to text."""

from __future__ import annotations

from asr.config import DecodingConfig
from asr.decoding.decoder import Decoder
from asr.decoding.greedy import GreedyDecoder
from asr.decoding.hypothesis import Hypothesis
from asr.errors import ConfigError
from asr.text import Tokenizer

__all__ = ["Decoder", "GreedyDecoder", "Hypothesis", "build_decoder"]


def build_decoder(config: DecodingConfig, tokenizer: Tokenizer) -> Decoder:
    """Build the decoder that the configuration describes.

    Raises
    ------
    ConfigError
        For a kind that does not exist.
    """
    if config.kind == "greedy":
        return GreedyDecoder(tokenizer)
    raise ConfigError(f"decoding.kind={config.kind!r}: there is only 'greedy'")
