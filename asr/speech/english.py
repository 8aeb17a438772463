"""What a synthesiser that knows English alone can be asked to say."""

from __future__ import annotations

import unicodedata

from asr.errors import TextError


def check_english(text: str) -> None:
    """Refuse a text with letters that no English word has, which would be left unsaid.

    Raises
    ------
    TextError
        It has some.
    """
    plain = unicodedata.normalize("NFKD", text)
    foreign = sorted({c for c in plain if c.isalpha() and not c.isascii()})
    if foreign:
        raise TextError(f"{''.join(foreign)!r} is not read in English, in {text!r}")
