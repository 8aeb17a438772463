"""What a synthesiser that knows English alone can be asked to say."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping

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


def to_tokens(phonemes: str, vocabulary: Mapping[str, int], text: str, most: int) -> list[int]:
    """Return the tokens of a network for phonemes.

    Parameters
    ----------
    phonemes
        A character each.
    vocabulary
        The token of each phoneme.
    text
        What they are the phonemes of, for messages.
    most
        How many the network can take.

    Raises
    ------
    TextError
        There are none, too many, or some that the network does not know.
    """
    unknown = sorted(set(phonemes) - vocabulary.keys())
    if unknown:
        raise TextError(f"phonemes {''.join(unknown)!r} cannot be spoken, in {text!r}")
    if not 0 < len(phonemes) <= most:
        raise TextError(f"{len(phonemes)} phonemes cannot be spoken at once (at most {most}), in {text!r}")
    return [vocabulary[phoneme] for phoneme in phonemes]
