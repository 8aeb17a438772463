"""Language models: n-grams by KenLM, and LSTMs; which words are likely to follow each other."""

from __future__ import annotations

from asr.language.model import LanguageModel, SentenceScore
from asr.language.ngram import NgramModel
from asr.language.package import load_language_model

__all__ = ["LanguageModel", "NgramModel", "SentenceScore", "load_language_model"]
