"""The one form that transcripts, references and a language model's text are brought into."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from asr.errors import ConfigError
from asr.text.quotes import is_part_of_word, without_single_quotes

# Mapped before NFKC, which would split the acute accent into a space and a combining mark.
_APOSTROPHES = str.maketrans(dict.fromkeys("\u2018\u2019\u201b\u02bc\u02b9\u2032\uff07\u00b4`", "'"))
# Punctuation by its Unicode category, but read aloud as a word.
_SPOKEN = frozenset("%&@#§‰")
_NAMED_UNKNOWN = 10

# What a character is to the marks beside it.
_LETTER, _DIGIT, _SPACE, _MARK, _OTHER = "a1 .~"
_MARKS = re.compile(r"\.+")
# U.S.A., e.g., Ph.D.: the dots between letters; the last one ends no word part.
_INITIALS = re.compile(r"(?<![^\W_])(?:[^\W\d_]{1,2}\.)+(?:[^\W\d_]{1,2}(?=\.)|[^\W\d_](?![^\W_]))")
_PART_IN_BRACKETS = re.compile(r"(?<=[^\W\d_])\(([^\W\d_]{1,3})\)|\(([^\W\d_]{1,3})\)(?=[^\W\d_])")
# Marks that stand inside words: in Catalan (col·lecció), Hebrew and Armenian, and for a letter that is not to be read.
_INSIDE_WORDS = frozenset("'*\u00b7\u05f3\u05f4\u055b\u055c\u055e")
_GENITIVE = re.compile(r"'s?(?![^\W_])")
_SIGN_OR_POINT = re.compile(r"(?<![-\u2010\u2013.])[-\u2010\u2013]?\.?\Z")


class Normaliser:
    """Unicode NFKC, one letter case, straight apostrophes, single spaces, punctuation as configured.

    Parameters
    ----------
    alphabet
        The characters a transcript may hold. Without a space in it, texts have no word boundaries and whitespace is taken out.
    case
        ``lower``, ``upper`` or ``keep``.
    punctuation
        ``remove`` takes out single quotation marks and the punctuation that the alphabet lacks: it parts words, save where it
        stands inside one ("U.S.A.", "word(s)"), and it stays where a number would become another one without it ("3.5", "-5"),
        so that it is an unknown character there. ``keep`` leaves all, so that it is an unknown character.

    Raises
    ------
    ConfigError
        For an empty alphabet, a character twice, or one that no normalised text could hold.

    Examples
    --------
    >>> form = Normaliser(" 'abcdefghijklmnopqrstuvwxyz")
    >>> form.normalise("It\N{RIGHT SINGLE QUOTATION MARK}s  'well-known' in the U.S.A.Next one.")
    "it's well known in the usa next one"
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
        self._shapes = _Shapes(self._characters)
        self._plain, self._plain_marks = self._find_plain()
        self._check_alphabet()

    def _find_plain(self) -> tuple[re.Pattern[str], dict[int, str]]:
        """Return a pattern of most sentences of large texts, and their translation: many times faster than the rest."""
        marks = "".join(c for c in ',;:!?."' if c not in self._characters) if self.punctuation == "remove" else ""
        word = "[A-Za-z]+(?:'[A-Za-z]+)*" if "'" in self._characters else "[A-Za-z]+"
        marked = f"{word}[{re.escape(marks)}]*" if marks else word
        pattern = f"{marked}(?: {marked})*" if " " in self._characters else marked
        return re.compile(pattern), {code: "" if chr(code) in marks else chr(code) for code in range(128)}

    def _check_alphabet(self) -> None:
        if not self.alphabet.strip():
            raise ConfigError(f"tokens.alphabet is {self.alphabet!r}: it needs at least one character beside the space")
        twice = sorted({c for c in self.alphabet if self.alphabet.count(c) > 1})
        if twice:
            raise ConfigError(f"tokens.alphabet holds {quoted(twice)} more than once; each character stands once")
        never = [c for c in self.alphabet if c != " " and (c.isspace() or self._canonical(c) != c)]
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
        while not self._plain.fullmatch(text):
            if (result := self._normalise_once(text)) == text:
                return text
            text = result
        return self._in_case(text.translate(self._plain_marks))

    def _normalise_once(self, text: str) -> str:
        removing = self.punctuation == "remove"
        text = self._canonical(without_single_quotes(text) if removing and "'" in self._characters else text)
        if removing:
            text = self._without_marks(text)
        return ("" if " " not in self._characters else " ").join(text.split())

    def _canonical(self, text: str) -> str:
        """Return the text in one spelling of its characters: NFKC, no invisible ones, straight apostrophes, one case."""
        if text.isascii():
            text = text.replace("`", "'")
        else:
            text = _nfkc(text.translate(_APOSTROPHES)).translate(_APOSTROPHES)
            invisible = {ord(c): None for c in set(text) - self._characters if unicodedata.category(c) == "Cf"}
            text = text.translate(invisible)
        text = self._in_case(text)
        return text if text.isascii() else _nfkc(text)

    def _in_case(self, text: str) -> str:
        return text if self.case == "keep" else text.lower() if self.case == "lower" else text.upper()

    def _without_marks(self, text: str) -> str:
        """Return the text without the punctuation that the alphabet lacks, spaces in its place."""
        if "." not in self._characters:
            text = _INITIALS.sub(lambda match: match[0].replace(".", ""), text)
        if "(" not in self._characters:
            text = _PART_IN_BRACKETS.sub(r"\1\2", text)
        shape = f" {text.translate(self._shapes)} "
        pieces, end = [], 0
        for match in _MARKS.finditer(shape, 1):
            start = match.start() - 1
            pieces += [text[end:start], _replacement(text, shape, start, match.end() - 1)]
            end = match.end() - 1
        return "".join([*pieces, text[end:]])

    def unknown(self, normalised: str) -> str:
        """Return the characters of a normalised text that the alphabet lacks, each once, sorted."""
        return "".join(sorted(set(normalised) - self._characters))

    def unknown_message(self, normalised: str) -> str:
        """Return the error about a normalised text with unknown characters."""
        unknown = self.unknown(normalised)
        advice = "spell numbers out as words" if any(map(str.isdigit, normalised)) else "correct the transcript"
        return (
            f"unknown {'characters' if len(unknown) > 1 else 'character'} {quoted(unknown)} in {shortened(normalised)!r}; "
            f"the alphabet is {self.alphabet!r}. Either {advice}, or add to tokens.alphabet what the model shall write."
        )


class _Shapes(dict[int, str]):
    """What each character is to the marks beside it, as a table of :meth:`str.translate` that fills itself."""

    def __init__(self, kept: frozenset[str]) -> None:
        super().__init__()
        self._kept = kept

    def __missing__(self, code: int) -> str:
        character = chr(code)
        if character.isspace():
            shape = _SPACE
        elif character.isdigit():
            shape = _DIGIT
        elif is_part_of_word(character):
            shape = _LETTER
        elif character in self._kept or character in _SPOKEN or not unicodedata.category(character).startswith("P"):
            shape = _OTHER
        else:
            shape = _MARK
        return self.setdefault(code, shape)


def _replacement(text: str, shape: str, start: int, end: int) -> str:
    """Return what takes the place of a row of marks: a space, or nothing inside a word, or what a number needs of them.

    Parameters
    ----------
    text
        The text.
    shape
        What each of its characters is, a space before the first and behind the last.
    start, end
        Where the marks are in the text.
    """
    marks, left, right = text[start:end], shape[start], shape[end + 1]
    if right == _DIGIT and left == _DIGIT:
        return marks if len(marks) == 1 and unicodedata.category(marks) not in ("Ps", "Pe", "Pi", "Pf") else " "
    if right == _DIGIT and left != _LETTER:
        kept = _SIGN_OR_POINT.search(marks)
        return f" {kept[0]}" if kept else " "
    inside = marks in _INSIDE_WORDS or (marks == '"' and not _has_case(text[start - 1 : start] + text[end : end + 1]))
    if (left, right) == (_LETTER, _LETTER) and inside:
        return ""
    return "" if marks == "." and left == _LETTER and right == _OTHER and _GENITIVE.match(text, end) else " "


def _has_case(letters: str) -> bool:
    return letters.lower() != letters.upper()


def _nfkc(text: str) -> str:
    """Return a text in Unicode NFKC, but for numbers that it would write with other digits: 10² is not 102."""
    odd = "".join(c for c in set(text) if unicodedata.category(c) == "No")
    if not odd:
        return unicodedata.normalize("NFKC", text)
    parts = re.split(f"([{re.escape(odd)}])", text)
    return "".join(part if place % 2 else unicodedata.normalize("NFKC", part) for place, part in enumerate(parts))


def quoted(characters: Sequence[str]) -> str:
    """Return the first few characters in quotes, with the code points of those that print badly."""
    shown = [repr(c) if c.isascii() and c.isprintable() else f"{c!r} (U+{ord(c):04X})" for c in characters[:_NAMED_UNKNOWN]]
    rest = len(characters) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest > 0 else "")


def shortened(text: str) -> str:
    """Return a text of 80 characters at most."""
    return text if len(text) <= 80 else text[:77] + "..."
