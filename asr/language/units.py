"""What a language model reads and writes: words, characters, or pieces of words."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

from asr.errors import ConfigError
from asr.text import BpeTokenizer, Normaliser
from asr.text.bpe import WORD_START
from asr.text.tokenizer import BOUNDARY

UNKNOWN = "<unk>"
SENTENCE_START = "<s>"
SENTENCE_END = "</s>"
SPECIALS = frozenset({UNKNOWN, SENTENCE_START, SENTENCE_END, "<UNK>"})
"""Names with a meaning of their own in KenLM's files; no word can be called so."""


class Units(ABC):
    """A way to cut words into what is predicted one after the other."""

    name: ClassVar[str]
    signs: ClassVar[str] = ""
    """Characters of units that are not the text's own."""

    @abstractmethod
    def split(self, words: Sequence[str]) -> list[str]:
        """Return the units of a sentence, or of its beginning."""

    @abstractmethod
    def join(self, units: Sequence[str]) -> list[str]:
        """Return the words of units; a last word that is not complete counts as one."""

    def starts_word(self, unit: str) -> bool:
        """Say whether a word is complete when this unit follows it."""
        return True

    def count(self, words: Mapping[str, int], n_sentences: int) -> dict[str, int]:
        """Return how often each unit occurs, from the counts of words and the number of sentences."""
        counts: dict[str, int] = {}
        for word, n in words.items():
            for unit in self.split([word]):
                counts[unit] = counts.get(unit, 0) + n
        return counts


class Words(Units):
    """Words as they are."""

    name = "word"

    def split(self, words: Sequence[str]) -> list[str]:
        return list(words)

    def join(self, units: Sequence[str]) -> list[str]:
        return list(units)

    def count(self, words: Mapping[str, int], n_sentences: int) -> dict[str, int]:
        return dict(words)


class Characters(Units):
    """Characters, with ``|`` between words.

    Examples
    --------
    >>> Characters().split(["to", "me"])
    ['t', 'o', '|', 'm', 'e']
    """

    name = "character"
    signs = BOUNDARY

    def split(self, words: Sequence[str]) -> list[str]:
        return list(BOUNDARY.join(words))

    def join(self, units: Sequence[str]) -> list[str]:
        return "".join(units).replace(BOUNDARY, " ").split()

    def starts_word(self, unit: str) -> bool:
        return unit == BOUNDARY

    def count(self, words: Mapping[str, int], n_sentences: int) -> dict[str, int]:
        counts = super().count(words, n_sentences)
        n_boundaries = sum(words.values()) - n_sentences
        return {**counts, BOUNDARY: n_boundaries} if n_boundaries else counts


class Pieces(Units):
    """Pieces of words, of which the first of each word begins with "▁"."""

    name = "subword"
    signs = WORD_START

    def __init__(self, tokenizer: BpeTokenizer) -> None:
        self.tokenizer = tokenizer
        self._spellings: dict[str, list[str]] = {}

    def split(self, words: Sequence[str]) -> list[str]:
        return [piece for word in words for piece in self._spelling(word)]

    def _spelling(self, word: str) -> list[str]:
        if word not in self._spellings:
            spelling = self.tokenizer.spell_many([word])[word]
            names = self.tokenizer.token_names
            self._spellings[word] = [names[token] for token in spelling[0]] if spelling else [UNKNOWN]
        return self._spellings[word]

    def join(self, units: Sequence[str]) -> list[str]:
        return "".join(units).replace(WORD_START, " ").split()

    def starts_word(self, unit: str) -> bool:
        return unit.startswith(WORD_START)


def plain_units(name: str, form: Normaliser) -> Units:
    """Return words or characters.

    Raises
    ------
    ConfigError
        For words, where the alphabet has no space; for characters, where it holds the sign that stands between words.
    """
    if name == Words.name:
        check_has_words(name, form)
        return Words()
    if BOUNDARY in form.alphabet:
        raise ConfigError(f"lm.unit=character: tokens.alphabet holds {BOUNDARY!r}, which stands between words; leave it out")
    return Characters()


def check_has_words(unit: str, form: Normaliser) -> None:
    """Refuse an alphabet without a space, whose texts have no words.

    Raises
    ------
    ConfigError
        It has none.
    """
    if " " not in form.alphabet:
        raise ConfigError(
            f"lm.unit={unit}: tokens.alphabet has no space, so texts have no words; only a model of characters can be"
        )
