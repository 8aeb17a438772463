"""Transcripts to token indices and back: text normalisation, tokenizers and lexicons.

Every tokenizer brings text into one form first (:meth:`Tokenizer.normalise`), so that training, scoring and a language model
see the same words. Index 0 is always the CTC blank.
"""

from __future__ import annotations

from asr.text.bpe import BpeTokenizer
from asr.text.build import build_tokenizer, load_tokenizer, tokenizer_from_mapping
from asr.text.characters import CharacterTokenizer
from asr.text.lexicon import Lexicon
from asr.text.normaliser import Normaliser
from asr.text.phones import PhoneTokenizer
from asr.text.tokenizer import FILE_NAME, Tokenizer

__all__ = [
    "FILE_NAME",
    "BpeTokenizer",
    "CharacterTokenizer",
    "Lexicon",
    "Normaliser",
    "PhoneTokenizer",
    "Tokenizer",
    "build_tokenizer",
    "load_tokenizer",
    "tokenizer_from_mapping",
]
