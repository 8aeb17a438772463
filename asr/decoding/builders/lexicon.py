"""The words that a search with a language model may write."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from asr.errors import ConfigError
from asr.language import LanguageModel
from asr.text import Lexicon, Tokenizer

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelledLexicon:
    """A lexicon whose words the language model knows.

    Attributes
    ----------
    names
        The words as the language model writes them, most frequent first.
    texts
        The same as they are written in transcripts.
    lexicon
        Spellings by text.
    """

    names: tuple[str, ...]
    texts: tuple[str, ...]
    lexicon: Lexicon

    @cached_property
    def digest(self) -> str:
        """Eight hexadecimal digits that change with any word or spelling."""
        content = hashlib.sha256()
        for name, text in zip(self.names, self.texts, strict=True):
            content.update(repr((name, text, self.lexicon[text])).encode())
        return content.hexdigest()[:8]

    def spellings(self) -> list[tuple[tuple[int, ...], int]]:
        """Return every spelling with the label of its word: the word's place, from 1."""
        return [(tokens, label) for label, text in enumerate(self.texts, start=1) for tokens in self.lexicon[text]]


def in_form_of(model: LanguageModel, texts: Sequence[str], tokenizer: Tokenizer) -> list[list[str]]:
    """Return the words of each normalised text as a language model writes them."""
    if _same_form(model, tokenizer):
        return [text.split() for text in texts]
    return [model.normalise(text) for text in texts]


def _same_form(model: LanguageModel, tokenizer: Tokenizer) -> bool:
    return model.form is not None and model.form.settings == tokenizer.form.settings


def load_lexicon(model: LanguageModel, tokenizer: Tokenizer, file: Path | None) -> LabelledLexicon:
    """Return the words of a language model with their spellings; what the model or the spellings lack is left out and logged.

    Parameters
    ----------
    model
        A language model over words.
    tokenizer
        Spells the words.
    file
        A lexicon that is used instead, or None.

    Raises
    ------
    ConfigError
        Where no word is left.
    DataError
        The lexicon's file cannot be read.
    """
    texts = list(model.words) if _same_form(model, tokenizer) else [tokenizer.normalise(word) for word in model.words]
    if file is not None:
        lexicon = Lexicon.load(file, tokenizer)
    else:
        lexicon = Lexicon.spelled(dict.fromkeys(text for text in texts if len(text.split()) == 1), tokenizer)
    known = [(name, text) for name, text in zip(model.words, texts, strict=True) if text in lexicon]
    if not known:
        raise ConfigError(
            f"{file or model.description}: the lexicon and the language model have no word in common that the network's tokens "
            f"({tokenizer.kind}) can spell; are they of the same language and alphabet?"
        )
    n_foreign = len(lexicon.keys() - set(texts))
    if len(known) < len(texts) or n_foreign:
        logger.info(
            "lexicon: %d words; left out: %d of the language model without a spelling, %d of the lexicon that it does not know",
            len(known),
            len(texts) - len(known),
            n_foreign,
        )
    names, used = zip(*known, strict=True)
    return LabelledLexicon(names, used, lexicon)
