"""What every tokenizer offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from asr.files import write_json
from asr.text.normaliser import Normaliser

FILE_NAME = "tokenizer.json"
FORMAT = 1

BOUNDARY = "|"
"""Stands between two words where tokens or units are written: of phones, and of a language model over characters."""


class Tokenizer(ABC):
    """Token inventory with its text normaliser.

    Parameters
    ----------
    form
        Brings texts into the form that is encoded.
    token_names
        Names of the tokens from index 1.

    Attributes
    ----------
    kind
        ``tokens.kind`` of the configuration.
    blank
        Index of the CTC blank, always 0.
    token_names
        Name of each token, the blank first.
    boundary
        Index of the token that stands between two words; None where there is none (the tokens themselves mark where a word
        starts, or texts have no words).
    writes_words
        Whether :meth:`decode` gives words of the language; phones do not.
    """

    kind: ClassVar[str]
    blank = 0
    boundary: int | None = None
    writes_words: ClassVar[bool] = True

    def __init__(self, form: Normaliser, token_names: Iterable[str]) -> None:
        self.form = form
        self.token_names = ("<blank>", *token_names)

    def __len__(self) -> int:
        """Return the number of tokens, blank included."""
        return len(self.token_names)

    @property
    def normaliser(self) -> str:
        """Name of the text normaliser, for a score's signature."""
        return self.form.name

    @property
    def remedy(self) -> str:
        """What to do about transcripts that cannot be encoded, as a sentence."""
        return "Correct the transcripts and prepare them again, or add the characters to tokens.alphabet."

    def normalise(self, text: str) -> str:
        """Bring text into the form that is trained on and scored; doing it twice changes nothing more."""
        return self.form.normalise(text)

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Return the token indices (``1 <= index < len(self)``) of a transcript, which is normalised first.

        It is the best :meth:`spell` of each word, :attr:`boundary` between them.

        Raises
        ------
        TextError
            Where the normalised text holds a character or a word that the tokenizer does not know.
        """

    @abstractmethod
    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of token indices that hold no blanks and no CTC repeats, boundaries as single spaces.

        Raises
        ------
        ValueError
            For the blank, or an index outside the inventory.
        """

    def unknown(self, text: str) -> str:
        """Return what :meth:`encode` refuses of a text; empty where it can be encoded.

        The characters that the alphabet lacks, each once, sorted; for phones otherwise the words without a pronunciation,
        separated by spaces.
        """
        return self.form.unknown(self.normalise(text))

    def spell(self, word: str) -> list[tuple[int, ...]]:
        """Return every token sequence of a word that is normalised already, best first, without the boundary.

        Nothing where it cannot be spelled.
        """
        return self.spell_many([word])[word]

    @abstractmethod
    def spell_many(self, words: Iterable[str]) -> dict[str, list[tuple[int, ...]]]:
        """Return what :meth:`spell` gives for each of many words."""

    def spellable(self, word: str) -> bool:
        """Say whether a text is one word, of characters that the alphabet has."""
        return bool(word) and not any(map(str.isspace, word)) and not self.form.unknown(word)

    def reference(self, text: str) -> str:
        """Return what a perfect :meth:`decode` would give for a transcript: what a hypothesis is compared with."""
        return self.normalise(text)

    def check_tokens(self, tokens: Sequence[int]) -> None:
        """Refuse indices that are no tokens, with a ValueError."""
        outside = [index for index in tokens if not 0 < index < len(self)]
        if outside:
            raise ValueError(f"token index {outside[0]} is not in 1..{len(self) - 1}; remove blanks before decode()")

    @abstractmethod
    def fields(self) -> dict[str, Any]:
        """Return what ``tokenizer.json`` holds beside the format, the kind and the normaliser's settings."""

    @classmethod
    @abstractmethod
    def from_fields(cls, form: Normaliser, fields: Mapping[str, Any]) -> Self:
        """Build from what :meth:`fields` gave.

        Raises
        ------
        ConfigError, TextError, ValueError
            For fields that make no tokenizer; the message says what was expected.
        """

    def to_mapping(self) -> dict[str, Any]:
        """Return what ``tokenizer.json`` holds."""
        return {"format": FORMAT, "kind": self.kind, **self.form.settings, **self.fields()}

    def save(self, folder: Path) -> Path:
        """Write ``tokenizer.json`` into a folder, whole or not at all, and return its path."""
        path = Path(folder) / FILE_NAME
        write_json(path, self.to_mapping())
        return path
