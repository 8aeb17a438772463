"""One token a character."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

from asr.errors import TextError
from asr.text.normaliser import Normaliser
from asr.text.tokenizer import Tokenizer


class CharacterTokenizer(Tokenizer):
    """One token a character.

    Parameters
    ----------
    alphabet
        The characters a transcript may hold, in the order of their indices from 1.
    case, punctuation
        As for :class:`asr.text.normaliser.Normaliser`.

    Raises
    ------
    ConfigError
        For an alphabet that cannot be.

    Examples
    --------
    >>> CharacterTokenizer(" 'abcdefghijklmnopqrstuvwxyz").encode("a b")
    [3, 1, 4]
    """

    kind = "characters"

    def __init__(self, alphabet: str, case: str = "lower", punctuation: str = "remove") -> None:
        super().__init__(Normaliser(alphabet, case, punctuation), alphabet)
        self._indices = {character: index for index, character in enumerate(alphabet, start=1)}
        self.boundary = self._indices.get(" ")

    def encode(self, text: str) -> list[int]:
        normalised = self.normalise(text)
        try:
            return [self._indices[character] for character in normalised]
        except KeyError:
            raise TextError(self.form.unknown_message(normalised)) from None

    def decode(self, tokens: Sequence[int]) -> str:
        self.check_tokens(tokens)
        return " ".join("".join(self.token_names[index] for index in tokens).split())

    def spell_many(self, words: Iterable[str]) -> dict[str, list[tuple[int, ...]]]:
        return {word: [tuple(self._indices[character] for character in word)] if self.spellable(word) else [] for word in words}

    def fields(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_fields(cls, form: Normaliser, fields: Mapping[str, Any]) -> Self:
        if fields:
            raise ValueError(f"unknown field {min(fields)}")
        return cls(**form.settings)
