"""The one form that transcripts, references and a language model's text are brought into."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from asr.errors import ConfigError

# Mapped before NFKC, which would split the acute accent into a space and a combining mark.
_APOSTROPHES = str.maketrans(dict.fromkeys("\u2018\u2019\u201b\u02bc\u02b9\u2032\uff07\u00b4`", "'"))
# Punctuation that stands between words, also where no space was typed: "one,two", "and/or", "wait...what".
_SEPARATORS = re.compile(r"\.{2,}|[,;:!?/\\_]")
# Punctuation by its Unicode category, but read aloud as a word.
_SPOKEN = frozenset("%&@#§‰")
_NAMED_UNKNOWN = 10


class Normaliser:
    """Unicode NFKC, one letter case, straight apostrophes, single spaces, punctuation as configured.

    Parameters
    ----------
    alphabet
        The characters a transcript may hold. Without a space in it, texts have no word boundaries and whitespace is taken out.
    case
        ``lower``, ``upper`` or ``keep``.
    punctuation
        ``remove`` takes out the punctuation that the alphabet lacks (dashes and separators become spaces); ``keep`` leaves it,
        so that it is an unknown character.

    Raises
    ------
    ConfigError
        For an empty alphabet, a character twice, or one that no normalised text could hold.

    Examples
    --------
    >>> Normaliser(" 'abcdefghijklmnopqrstuvwxyz").normalise("It\N{RIGHT SINGLE QUOTATION MARK}s  well-known.")
    "it's well known"
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
        self._characters = frozenset(alphabet)
        self._check_alphabet()

    def _check_alphabet(self) -> None:
        if not self.alphabet.strip():
            raise ConfigError(f"tokens.alphabet is {self.alphabet!r}: it needs at least one character beside the space")
        twice = sorted({c for c in self.alphabet if self.alphabet.count(c) > 1})
        if twice:
            raise ConfigError(f"tokens.alphabet holds {quoted(twice)} more than once; each character stands once")
        never = [c for c in self.alphabet if c != " " and self.normalise(c) != c]
        if never:
            raise ConfigError(
                f"tokens.alphabet holds {quoted(never)}, which no normalised text can hold (tokens.case={self.case}; texts "
                "are Unicode NFKC with straight apostrophes). Write the alphabet in the form of the normalised texts."
            )

    @property
    def name(self) -> str:
        """Name of the settings, for a score's signature."""
        return f"nfkc+{self.case}+punctuation-{self.punctuation}"

    @property
    def settings(self) -> dict[str, str]:
        """The parameters by name."""
        return {"alphabet": self.alphabet, "case": self.case, "punctuation": self.punctuation}

    def normalise(self, text: str) -> str:
        """Return the text in its normal form; doing it twice changes nothing more."""
        # A removed mark can bring a letter and its combining accent together: go on until nothing changes.
        while (result := self._normalise_once(text)) != text:
            text = result
        return text

    def _normalise_once(self, text: str) -> str:
        text = unicodedata.normalize("NFKC", text.translate(_APOSTROPHES)).translate(_APOSTROPHES)
        if self.case != "keep":
            text = unicodedata.normalize("NFKC", text.lower() if self.case == "lower" else text.upper())
        if self.punctuation == "remove":
            text = _SEPARATORS.sub(lambda match: match[0] if match[0][0] in self._characters else " ", text)
        text = "".join(map(self._keep, text))
        return ("" if " " not in self._characters else " ").join(text.split())

    def _keep(self, character: str) -> str:
        """Return the character, a space in its place, or nothing."""
        if character in self._characters or character in _SPOKEN:
            return character
        category = unicodedata.category(character)
        if category == "Cf":  # invisible: zero-width spaces, soft hyphens, byte order marks
            return ""
        if self.punctuation == "remove" and category.startswith("P"):
            return " " if category == "Pd" else ""
        return character

    def unknown(self, normalised: str) -> str:
        """Return the characters of a normalised text that the alphabet lacks, each once, sorted."""
        return "".join(sorted(set(normalised) - self._characters))

    def unknown_message(self, normalised: str) -> str:
        """Return the error about a normalised text with unknown characters."""
        unknown = self.unknown(normalised)
        advice = "spell numbers out as words" if any(c.isdigit() for c in unknown) else "correct the transcript"
        return (
            f"unknown {'characters' if len(unknown) > 1 else 'character'} {quoted(unknown)} in {shortened(normalised)!r}; "
            f"the alphabet is {self.alphabet!r}. Either {advice}, or add to tokens.alphabet what the model shall write."
        )


def quoted(characters: Sequence[str]) -> str:
    """Return the first few characters in quotes, with the code points of those that print badly."""
    shown = [repr(c) if c.isascii() and c.isprintable() else f"{c!r} (U+{ord(c):04X})" for c in characters[:_NAMED_UNKNOWN]]
    rest = len(characters) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest > 0 else "")


def shortened(text: str) -> str:
    """Return a text of 80 characters at most."""
    return text if len(text) <= 80 else text[:77] + "..."
