"""Single quotation marks told from apostrophes, which are the same characters: 'hello', but don't, 'tis and the dogs'."""

from __future__ import annotations

import re
import unicodedata

_MARKS = re.compile(r"['\u2018\u2019\u201b`\u00b4\uff07]+")
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
    opened: re.Match[str] | None = None
    for mark in _MARKS.finditer(text):
        before, after = text[: mark.start()][-1:], text[mark.end() : mark.end() + 1]
        behind_word, before_word = is_part_of_word(before), is_part_of_word(after)
        if behind_word and before_word:
            continue
        if before_word and not (opened and before in _SENTENCE_MARKS):
            opened = opened or (mark if _may_open(mark, text) else None)
        elif not behind_word:
            dropped += [opened, mark] if opened and before.strip() else [mark]
            opened = None if before.strip() else opened
        elif opened and _may_close(text[opened.end() : mark.start()]):
            dropped += [opened, mark]
            opened = None
    for mark in sorted(dropped, key=re.Match.start, reverse=True):
        text = text[: mark.start()] + text[mark.end() :]
    return text


def _may_open(mark: re.Match[str], text: str) -> bool:
    """Say whether the mark before a word can be a quotation mark."""
    word = re.match(r"\w*", text[mark.end() :])
    return mark[0][-1] not in _NEVER_OPEN and word is not None and word[0][:1].isalpha() and word[0].casefold() not in _ELIDED


def _may_close(quoted: str) -> bool:
    """Say whether a mark right behind a word can end a quotation, given what stands between it and the first mark."""
    if not any(map(str.isspace, quoted)):
        return True
    last = quoted.split()[-1].casefold()
    return len(last) >= _SHORTEST_LAST and not last.endswith(_POSSESSIVE_OR_CLIPPED)
