"""Transcripts to token indices and back.

Every tokenizer brings text into one form first (:meth:`Tokenizer.normalise`), so that training, scoring and a language model
see the same words. Index 0 is always the CTC blank.
"""

from __future__ import annotations

import json
import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from asr.config import TokensConfig
from asr.data.manifest import replacing
from asr.errors import ConfigError, PackageError, TextError

FILE_NAME = "tokenizer.json"
FORMAT = 1

# Mapped before NFKC, which would split the acute accent into a space and a combining mark.
_APOSTROPHES = str.maketrans(dict.fromkeys("\u2018\u2019\u201b\u02bc\u02b9\u2032\uff07\u00b4`", "'"))
# Punctuation that stands between words, also where no space was typed: "one,two", "and/or", "wait...what".
_SEPARATORS = re.compile(r"\.{2,}|[,;:!?/\\_]")
# Punctuation by its Unicode category, but read aloud as a word.
_SPOKEN = frozenset("%&@#§‰")
_NAMED_UNKNOWN = 10


class Tokenizer(ABC):
    """Token inventory with its text normaliser.

    Attributes
    ----------
    blank
        Index of the CTC blank, always 0.
    token_names
        Name of each token, the blank first.
    """

    blank = 0
    token_names: tuple[str, ...]

    def __len__(self) -> int:
        """Return the number of tokens, blank included."""
        return len(self.token_names)

    @property
    @abstractmethod
    def normaliser(self) -> str:
        """Name of the text normaliser, for a score's signature."""

    @abstractmethod
    def normalise(self, text: str) -> str:
        """Bring text into the form that is trained on and scored; doing it twice changes nothing more."""

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Return the token indices (``1 <= index < len(self)``) of a transcript, which is normalised first.

        Raises
        ------
        TextError
            Where the normalised text holds a character that the tokenizer does not know.
        """

    @abstractmethod
    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of token indices that hold no blanks and no CTC repeats."""

    @abstractmethod
    def unknown(self, text: str) -> str:
        """Return the characters of the normalised text that :meth:`encode` refuses, each once, sorted."""

    @abstractmethod
    def to_mapping(self) -> dict[str, Any]:
        """Return what ``tokenizer.json`` holds."""

    def save(self, folder: Path) -> Path:
        """Write ``tokenizer.json`` into a folder, whole or not at all, and return its path."""
        path = Path(folder) / FILE_NAME
        with replacing(path) as stream:
            stream.write((json.dumps(self.to_mapping(), ensure_ascii=False, indent=2) + "\n").encode("utf-8"))
        return path


class CharacterTokenizer(Tokenizer):
    """One token a character.

    Parameters
    ----------
    alphabet
        The characters a transcript may hold, in the order of their indices from 1. Without a space in it, texts have no
        word boundaries and whitespace is taken out.
    case
        ``lower``, ``upper`` or ``keep``.
    punctuation
        ``remove`` takes out the punctuation that the alphabet lacks (dashes and separators become spaces); ``keep`` leaves it,
        so that it is an unknown character.

    Raises
    ------
    ConfigError
        For an empty alphabet, a character twice, or one that the normaliser would never leave in a text.

    Examples
    --------
    >>> tokenizer = CharacterTokenizer(" 'abcdefghijklmnopqrstuvwxyz")
    >>> tokenizer.normalise("It\N{RIGHT SINGLE QUOTATION MARK}s  well-known.")
    "it's well known"
    >>> tokenizer.encode("a b")
    [3, 1, 4]
    """

    def __init__(self, alphabet: str, case: str = "lower", punctuation: str = "remove") -> None:
        if case not in ("lower", "upper", "keep") or punctuation not in ("remove", "keep"):
            raise ConfigError(
                f"tokens.case={case!r}, tokens.punctuation={punctuation!r}: "
                "case is lower, upper or keep; punctuation is remove or keep"
            )
        self.alphabet = alphabet
        self.case = case
        self.punctuation = punctuation
        self._indices = {character: index for index, character in enumerate(alphabet, start=1)}
        self._check_alphabet()
        self.token_names = ("<blank>", *alphabet)

    def _check_alphabet(self) -> None:
        if not self.alphabet.strip():
            raise ConfigError(f"tokens.alphabet is {self.alphabet!r}: it needs at least one character beside the space")
        twice = sorted({c for c in self.alphabet if self.alphabet.count(c) > 1})
        if twice:
            raise ConfigError(f"tokens.alphabet holds {_quoted(twice)} more than once; each character stands once")
        never = [c for c in self.alphabet if c != " " and self.normalise(c) != c]
        if never:
            raise ConfigError(
                f"tokens.alphabet holds {_quoted(never)}, which no normalised text can hold (tokens.case={self.case}; texts "
                "are Unicode NFKC with straight apostrophes). Write the alphabet in the form of the normalised texts."
            )

    @property
    def normaliser(self) -> str:
        return f"nfkc+{self.case}+punctuation-{self.punctuation}"

    def normalise(self, text: str) -> str:
        """Return NFKC text in the chosen case: straight apostrophes, single spaces, punctuation as configured."""
        # A removed mark can bring a letter and its combining accent together: go on until nothing changes.
        while (result := self._normalise_once(text)) != text:
            text = result
        return text

    def _normalise_once(self, text: str) -> str:
        text = unicodedata.normalize("NFKC", text.translate(_APOSTROPHES)).translate(_APOSTROPHES)
        if self.case != "keep":
            text = unicodedata.normalize("NFKC", text.lower() if self.case == "lower" else text.upper())
        if self.punctuation == "remove":
            text = _SEPARATORS.sub(lambda match: match[0] if match[0][0] in self._indices else " ", text)
        text = "".join(map(self._keep, text))
        return ("" if " " not in self._indices else " ").join(text.split())

    def _keep(self, character: str) -> str:
        """Return the character, a space in its place, or nothing."""
        if character in self._indices or character in _SPOKEN:
            return character
        category = unicodedata.category(character)
        if category == "Cf":  # invisible: zero-width spaces, soft hyphens, byte order marks
            return ""
        if self.punctuation == "remove" and category.startswith("P"):
            return " " if category == "Pd" else ""
        return character

    def unknown(self, text: str) -> str:
        return "".join(sorted(set(self.normalise(text)) - self._indices.keys()))

    def encode(self, text: str) -> list[int]:
        normalised = self.normalise(text)
        try:
            return [self._indices[character] for character in normalised]
        except KeyError:
            raise TextError(self._unknown_message(normalised)) from None

    def _unknown_message(self, text: str) -> str:
        unknown = self.unknown(text)
        advice = "spell numbers out as words" if any(c.isdigit() for c in unknown) else "correct the transcript"
        shown = text if len(text) <= 80 else text[:77] + "..."
        return (
            f"unknown {'characters' if len(unknown) > 1 else 'character'} {_quoted(unknown)} in {shown!r}; "
            f"the alphabet is {self.alphabet!r}. Either {advice}, or add to tokens.alphabet what the model shall write."
        )

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text, word boundaries single and none at the ends.

        Raises
        ------
        ValueError
            For the blank, or an index outside the inventory.
        """
        outside = [index for index in tokens if not 0 < index < len(self)]
        if outside:
            raise ValueError(f"token index {outside[0]} is not in 1..{len(self) - 1}; remove blanks before decode()")
        return " ".join("".join(self.token_names[index] for index in tokens).split())

    def to_mapping(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "kind": "characters",
            "alphabet": self.alphabet,
            "case": self.case,
            "punctuation": self.punctuation,
        }


def build_tokenizer(config: TokensConfig) -> Tokenizer:
    """Build the tokenizer that the configuration describes.

    Raises
    ------
    ConfigError
        For a kind that does not exist or an alphabet that cannot be.
    """
    if config.kind != "characters":
        raise ConfigError(f"tokens.kind={config.kind!r}: there is only 'characters'")
    return CharacterTokenizer(config.alphabet, config.case, config.punctuation)


def load_tokenizer(folder: Path) -> Tokenizer:
    """Read ``tokenizer.json`` from a model package's folder.

    Raises
    ------
    PackageError
        Where the file is absent, not JSON, of another format or with values that make no tokenizer.
    """
    path = Path(folder) / FILE_NAME
    try:
        mapping = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PackageError(f"{path}: not found; a model package holds its tokenizer there") from None
    except (OSError, ValueError, RecursionError) as error:
        raise PackageError(f"{path}: cannot be read as JSON ({error})") from None
    if not isinstance(mapping, dict) or mapping.get("format") != FORMAT or mapping.get("kind") != "characters":
        raise PackageError(f"{path}: expected a mapping with format {FORMAT} and kind 'characters'; a newer asr may be needed")
    fields = {name: value for name, value in mapping.items() if name not in ("format", "kind")}
    if fields.keys() != {"alphabet", "case", "punctuation"} or not all(isinstance(value, str) for value in fields.values()):
        raise PackageError(f"{path}: expected the texts alphabet, case and punctuation, got {sorted(fields)}")
    try:
        return CharacterTokenizer(**fields)
    except ConfigError as error:
        raise PackageError(f"{path}: {error}") from None


def _quoted(characters: Sequence[str]) -> str:
    """Return the first few characters in quotes, with the names of those that print badly."""
    shown = [repr(c) if c.isascii() and c.isprintable() else f"{c!r} (U+{ord(c):04X})" for c in characters[:_NAMED_UNKNOWN]]
    rest = len(characters) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest > 0 else "")
