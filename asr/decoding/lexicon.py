"""The words that a search with a language model may write."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from asr.config import DecodingConfig
from asr.errors import ConfigError
from asr.language import LanguageModel, NgramModel, load_language_model
from asr.package.parts import find_part
from asr.text import Lexicon, Tokenizer
from asr.text.tokenizer import BOUNDARY

_LOG = logging.getLogger(__name__)

T = TypeVar("T")


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


def load_ngram(config: DecodingConfig, folder: Path | None) -> NgramModel:
    """Read the n-gram model that the settings name.

    Raises
    ------
    ConfigError
        There is no name, or it is not an n-gram model.
    PackageError
        It cannot be read.
    """
    if config.lm is None:
        raise ConfigError(
            f"decoding.kind={config.kind} needs decoding.lm: the folder of a language model package, as `asr lm train` writes "
            "it, or a KenLM file"
        )
    model = load_language_model(find_part(config.lm, folder))
    if not isinstance(model, NgramModel):
        raise ConfigError(f"decoding.lm={config.lm}: {model.description}; expected an n-gram model")
    return model


def token_names(model: LanguageModel, tokenizer: Tokenizer) -> list[str] | None:
    """Return what a language model calls the network's tokens, the blank first; None where it is one over words.

    Raises
    ------
    ConfigError
        It is over tokens, but not over those of the network.
    """
    names = list(tokenizer.token_names)
    if tokenizer.boundary is not None:
        names[tokenizer.boundary] = BOUNDARY
    # A KenLM file from elsewhere does not say what its words are.
    is_bare = model.form is None
    fits = set(model.words) <= set(names)
    if model.unit == "word" and not (is_bare and fits):
        return None
    if not fits:
        strange = next(word for word in model.words if word not in names)
        raise ConfigError(
            f"decoding.lm: {model.description}, which has {strange!r}; the network's tokens ({tokenizer.kind}) have not. "
            "Expected a language model over words, or one over the same tokens"
        )
    return names


def in_form_of(model: LanguageModel, texts: Sequence[str], tokenizer: Tokenizer) -> list[list[str]]:
    """Return the words of each normalised text as a language model writes them."""
    if _same_form(model, tokenizer):
        return [text.split() for text in texts]
    return [model.normalise(text) for text in texts]


def _same_form(model: LanguageModel, tokenizer: Tokenizer) -> bool:
    return model.form is not None and model.form.settings == tokenizer.form.settings


def load_words(model: LanguageModel, tokenizer: Tokenizer, file: Path | None) -> LabelledLexicon:
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
        _LOG.info(
            "lexicon: %d words; left out: %d of the language model without a spelling, %d of the lexicon that it does not know",
            len(known),
            len(texts) - len(known),
            n_foreign,
        )
    names, used = zip(*known, strict=True)
    return LabelledLexicon(names, used, lexicon)


_RECENT: dict[str, tuple[str, Any]] = {}
# Held while something is made as well: another thread may want the same.
_RECENT_LOCK = threading.RLock()


def remembered(name: str, key: object, make: Callable[[], T]) -> T:
    """Return what was made for the same key the last time, or make it: decoders of one model often follow each other.

    Parameters
    ----------
    name
        The kind of thing; one of each is kept.
    key
        Plain values on which it depends.
    make
        Makes it.
    """
    digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()
    with _RECENT_LOCK:
        if _RECENT.get(name, ("", None))[0] != digest:
            _RECENT.pop(name, None)
            _RECENT[name] = (digest, make())
        found: T = _RECENT[name][1]
    return found


def state_of(path: Path | None) -> list[object]:
    """Return plain values that change when a file or the files of a folder do."""
    if path is None:
        return []
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return [[str(file.resolve()), file.stat().st_mtime_ns, file.stat().st_size] for file in files if file.exists()]
