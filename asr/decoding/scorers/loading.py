"""The language models that a decoder's settings name: read, and fitted to the network's tokens."""

from __future__ import annotations

from pathlib import Path

from asr.config import DecodingConfig
from asr.decoding.cache import remembered, state_of
from asr.errors import ConfigError
from asr.language import LanguageModel, NgramModel, load_language_model
from asr.language.lstm import LstmModel
from asr.package.parts import find_part
from asr.text import Tokenizer
from asr.text.tokenizer import BOUNDARY


def load_ngram(config: DecodingConfig, folder: Path | None) -> NgramModel:
    """Read the n-gram model that the settings name, or take the one that was read the last time.

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
    path = find_part(config.lm, folder)
    model = remembered("n-gram model", state_of(path), lambda: load_language_model(path))
    if not isinstance(model, NgramModel):
        raise ConfigError(f"decoding.lm={config.lm}: {model.description}; expected an n-gram model")
    return model


def lstm_path(config: DecodingConfig, folder: Path | None) -> Path:
    """Return the folder of the LSTM's package, looked up in the model package first.

    Raises
    ------
    ConfigError
        The settings name none.
    """
    if config.lstm is None:
        raise ConfigError(
            f"decoding.kind={config.kind} needs decoding.lstm: the folder of an LSTM language model package, as `asr lm train "
            "lm=lstm` writes it"
        )
    return find_part(config.lstm, folder)


def load_lstm(path: Path) -> LstmModel:
    """Read an LSTM language model, or take the one that was read the last time.

    Raises
    ------
    ConfigError
        It is another kind of language model.
    PackageError
        It cannot be read.
    """
    model = remembered("lstm", state_of(path), lambda: load_language_model(path))
    if not isinstance(model, LstmModel):
        raise ConfigError(
            f"decoding.lstm={path}: {model.description}; expected an LSTM, as `asr lm train lm=lstm` writes it. N-gram models "
            "are named by decoding.lm"
        )
    return model


def word_source(config: DecodingConfig, tokenizer: Tokenizer, folder: Path | None) -> LanguageModel | None:
    """Return the language model whose words are those of the lexicon, or None.

    Raises
    ------
    ConfigError, PackageError
        It cannot be used, or not be read.
    """
    if config.lm is not None:
        model = load_ngram(config, folder)
        if token_names(model, tokenizer) is None:
            return model
    return load_lstm(lstm_path(config, folder)) if config.kind == "fusion" else None


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
