"""Tokenizers from a configuration and from a model package."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from asr.config import TokensConfig
from asr.errors import ConfigError, PackageError, UserError
from asr.text.bpe import BpeTokenizer, train_bpe
from asr.text.characters import CharacterTokenizer
from asr.text.dictionary import Dictionary
from asr.text.normaliser import Normaliser
from asr.text.phones import PhoneTokenizer, build_phones
from asr.text.tokenizer import FILE_NAME, FORMAT, Tokenizer
from asr.text.voice import Voice
from asr.untrusted import MAX_TOKENIZER_BYTES, read_json

_KINDS: dict[str, type[Tokenizer]] = {kind.kind: kind for kind in (CharacterTokenizer, BpeTokenizer, PhoneTokenizer)}
_SETTINGS = ("alphabet", "case", "punctuation")


def build_tokenizer(config: TokensConfig, texts: Callable[[], Iterable[str]] | None = None) -> Tokenizer:
    """Build the tokenizer that the configuration describes; the same transcripts give the same one.

    Parameters
    ----------
    config
        Section ``tokens`` of the configuration.
    texts
        Gives the training transcripts, from which BPE pieces and the inventory of phones are taken.

    Raises
    ------
    ConfigError
        For a kind or an alphabet that cannot be, or transcripts that are needed and not given.
    DataError
        For transcripts that no such tokenizer can be made of.
    """
    form = Normaliser(config.alphabet, config.case, config.punctuation)
    if config.kind == "characters":
        return CharacterTokenizer(**form.settings)
    if config.kind not in _KINDS:
        raise ConfigError(f"tokens.kind={config.kind!r}: expected one of {', '.join(_KINDS)}")
    if texts is None:
        raise ConfigError(f"tokens.kind={config.kind}: its tokens follow from the training transcripts, and none are given")
    if config.kind == "bpe":
        return train_bpe(form, config.size, texts())
    stress = config.stress == "keep"
    if config.dictionary is None:
        return build_phones(form, Voice(config.voice, stress), texts())
    return build_phones(form, Dictionary.read(Path(config.dictionary), form, stress), texts())


def load_tokenizer(folder: Path) -> Tokenizer:
    """Read ``tokenizer.json`` from a model package's folder.

    Raises
    ------
    PackageError
        Where the file is absent, not JSON, of another format or with values that make no tokenizer.
    """
    path = Path(folder) / FILE_NAME
    try:
        mapping = read_json(path, MAX_TOKENIZER_BYTES)
    except FileNotFoundError:
        raise PackageError(f"{path}: not found; a model package holds its tokenizer there") from None
    except OSError as error:
        raise PackageError(f"{path}: cannot be read: {error.strerror or error}") from None
    return tokenizer_from_mapping(mapping, str(path))


def tokenizer_from_mapping(mapping: Any, where: str) -> Tokenizer:
    """Build from what :meth:`Tokenizer.to_mapping` gave.

    Parameters
    ----------
    mapping
        Plain values, from a file that anyone may have written.
    where
        Name of the file, for messages.

    Raises
    ------
    PackageError
        For values that make no tokenizer.
    """
    kind = mapping.get("kind") if isinstance(mapping, Mapping) and mapping.get("format") == FORMAT else None
    if not isinstance(kind, str) or kind not in _KINDS:
        raise PackageError(
            f"{where}: expected a mapping with format {FORMAT} and kind {', '.join(_KINDS)}; a newer asr may be needed"
        )
    fields = {name: value for name, value in mapping.items() if name not in ("format", "kind", *_SETTINGS)}
    settings = {name: mapping.get(name) for name in _SETTINGS}
    if not all(isinstance(value, str) for value in settings.values()):
        raise PackageError(f"{where}: expected the texts {', '.join(_SETTINGS)}, got {sorted(mapping)}")
    try:
        return _KINDS[kind].from_fields(Normaliser(**settings), fields)
    except (UserError, ValueError) as error:
        raise PackageError(f"{where}: {error}") from None
