"""Beam searches: which one fits the language models, the tokens and the lexicon."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from asr.config import DecodingConfig
from asr.decoding.beam import BeamDecoder
from asr.decoding.hotwords import spell_hot_words
from asr.decoding.lexicon import Words, find, load_ngram, load_words, remembered, state_of, token_names
from asr.decoding.lexicon_search import LexiconSearch
from asr.decoding.lstm import load_lstm, lstm_path
from asr.decoding.rescoring import RescoringDecoder, SentenceScores
from asr.decoding.scorers import NgramTokens
from asr.decoding.search import PrefixSearch
from asr.decoding.wordlist import free_vocabulary, word_vocabulary
from asr.errors import ConfigError
from asr.language import NgramModel
from asr.text import Lexicon, Tokenizer


def build_beam(config: DecodingConfig, tokenizer: Tokenizer, folder: Path | None) -> BeamDecoder:
    """Build a beam search without language model; parameters and errors as for :func:`asr.decoding.build_decoder`."""
    return BeamDecoder(tokenizer, config, PrefixSearch(tokenizer.boundary, free_vocabulary(config, tokenizer)))
