"""Single quotation marks told from apostrophes, which are the same characters: 'hello', but don't, 'tis and the dogs'."""

from __future__ import annotations

import re
import unicodedata
from collections import deque
from collections.abc import Iterable

_MARKS = re.compile(r"['\u2018\u2019\u201b`\u00b4\uff07]+")
_WORD = re.compile(r"\w*")
_NEVER_OPEN = frozenset("\u2019\u00b4")  # before a word they stand for a letter, as in \u2019tis
_ELIDED = frozenset(("tis", "twas", "twere", "twill", "twould", "twixt", "em", "til", "bout", "neath", *"dekmnst"))
_POSSESSIVE_OR_CLIPPED = ("s", "x", "z", "in")  # the dogs', goin'
_SHORTEST_LAST = 4  # letters; shorter words that end in an apostrophe lack a letter: th', an', wi'
_SENTENCE_MARKS = frozenset(".,!?\u2026")


def is_part_of_word(character: str) -> bool:
    """Say whether a character is a letter, a digit, or an accent on one; an empty text is not."""
    return bool(character) and (character.isalnum() or unicodedata.category(character).startswith("M"))


def without_single_quotes(text: str) -> str:
    """Return a text without its single quotation marks.

    A mark inside a word is an apostrophe; one that touches no word is none. One before a word and a later one behind a word or
    its punctuation are quotation marks, save where the first word lacks a letter there or the last may own something. The rest
    are apostrophes.

    Examples
    --------
    >>> without_single_quotes("'Tis the dogs' bowl,' he said: 'mine' and 'not the others.'")
    "'Tis the dogs' bowl, he said: mine and not the others."
    """
    dropped: list[re.Match[str]] = []
    waiting = _Openers()
    n_spaces, end = 0, 0
    for mark in _MARKS.finditer(text):
        n_spaces += sum(map(str.isspace, text[end : mark.start()]))
        end = mark.end()
        before, after = text[max(0, mark.start() - 1) : mark.start()], text[end : end + 1]
        behind_word, before_word = is_part_of_word(before), is_part_of_word(after)
        if behind_word and before_word:
            continue
        if before_word and not (waiting.first and before in _SENTENCE_MARKS):
            if _may_open(mark, text):
                waiting.add(mark, n_spaces)
            continue
        if not behind_word:
            opener = waiting.take_first() if before.strip() else None
            dropped += [opener, mark] if opener else [mark]
        elif opener := waiting.take(n_spaces, may_end_many=_may_close(text, mark.start())):
            dropped += [opener, mark]
    return _without(text, sorted(dropped, key=re.Match.start))


class _Openers:
    """Marks that may open a quotation whose end has not come: the first one, and those behind it, which may lack a letter.

    A quotation without a space is known by its place; any other is that of the first mark. Marks that were passed over when one
    ended wait on, so that doing it all twice changes nothing more.
    """

    def __init__(self) -> None:
        self.first: tuple[re.Match[str], int] | None = None  # with the number of spaces before it
        self._others: deque[tuple[re.Match[str], int]] = deque()

    def add(self, mark: re.Match[str], n_spaces: int) -> None:
        if self.first is None:
            self.first = mark, n_spaces
        else:
            self._others.append((mark, n_spaces))

    def take_first(self) -> re.Match[str] | None:
        """Return the first mark, which waits no more; None if there is none."""
        first, self.first = self.first, None
        return first and first[0]

    def take(self, n_spaces: int, *, may_end_many: bool) -> re.Match[str] | None:
        """Return what a mark behind a word closes, which waits no more: one without a space between, else the first."""
        if self.first and self.first[1] == n_spaces:
            return self.take_first()
        if self._others and self._others[-1][1] == n_spaces:
            return self._others.pop()[0]
        if not may_end_many:
            return None
        return self.take_first() or (self._others.popleft()[0] if self._others else None)


def _without(text: str, marks: Iterable[re.Match[str]]) -> str:
    pieces, end = [], 0
    for mark in marks:
        pieces.append(text[end : mark.start()])
        end = mark.end()
    return "".join([*pieces, text[end:]])


def _may_open(mark: re.Match[str], text: str) -> bool:
    """Say whether the mark before a word can be a quotation mark."""
    word = _WORD.match(text, mark.end())
    return mark[0][-1] not in _NEVER_OPEN and word is not None and word[0][:1].isalpha() and word[0].casefold() not in _ELIDED


def _may_close(text: str, end: int) -> bool:
    """Say whether a mark right behind a word, which ends there, can end a quotation of several words."""
    last = text[max(0, end - _SHORTEST_LAST) : end].split()[-1].casefold()
    return len(last) >= _SHORTEST_LAST and not last.endswith(_POSSESSIVE_OR_CLIPPED)
