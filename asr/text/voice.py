"""Pronunciations by a voice of eSpeak NG, in phones that a network can tell apart and learn."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

from asr.speech.espeak import check_voice, pronounce
from asr.text.ipa import STRESS

Pronunciation = tuple[str, ...]

# What the English voices tell apart but speakers, or five hours of speech, do not: reduced vowels and their full ones, vowels
# before r in one piece, glottal stops, syllabic consonants.
_ENGLISH = {
    "ɐ": ("ə",),
    "ᵻ": ("ɪ",),
    "i": ("iː",),
    "ɔ": ("ɔː",),
    "iə": ("iː", "ə"),
    "aɪə": ("aɪ", "ə"),
    "aɪɚ": ("aɪ", "ɚ"),
    "n̩": ("ə", "n"),
    "ʔ": ("t",),
    "r": ("ɹ",),
}
# A word by itself is spoken in full; these are hardly ever so in running speech.
_ENGLISH_WEAK = {"a": ("ə",), "an": ("ə", "n"), "the": ("ð", "ə"), "to": ("t", "ə")}
_ENGLISH_FULL = {"the": ("ð", "iː")}
_ROMAN = re.compile(r"[ivxlcdm]+")


class Voice:
    """Pronunciations of words by eSpeak NG.

    Parameters
    ----------
    name
        Name of the voice, such as ``en-us``.
    stress
        Keep the marks of primary and secondary stress, which double or triple the vowels.

    Raises
    ------
    ConfigError
        The name can be no voice's.
    """

    def __init__(self, name: str, stress: bool = False) -> None:
        check_voice(name)
        self.name = name
        self.stress = stress
        self._english = name.split("-")[0].split("+")[0] == "en"

    @property
    def remedy(self) -> str:
        """What to do about words that it does not pronounce."""
        return "Correct the transcripts and prepare them again."

    def inventory(self, trained: Sequence[str]) -> list[str]:
        """Return the phones a tokenizer needs: those that the training transcripts hold."""
        return list(trained)

    def fields(self) -> dict[str, Any]:
        """Return what ``tokenizer.json`` holds."""
        return {"voice": self.name, "stress": "keep" if self.stress else "remove"}

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Self:
        """Build from what :meth:`fields` gave.

        Raises
        ------
        ValueError, ConfigError
            For fields that are no voice.
        """
        if fields.keys() != {"voice", "stress"} or not all(isinstance(value, str) for value in fields.values()):
            raise ValueError(f"expected the texts voice and stress, got {sorted(fields)}")
        if fields["stress"] not in ("keep", "remove"):
            raise ValueError(f"stress is {fields['stress']!r}; expected keep or remove")
        return cls(fields["voice"], fields["stress"] == "keep")

    def look_up(self, words: Iterable[str]) -> dict[str, list[Pronunciation]]:
        """Return the pronunciations of each word, best first; none where there is nothing to pronounce.

        Raises
        ------
        ConfigError
            There is no such voice.
        Failure
            eSpeak NG does not work on this machine.
        """
        return {word: self._pronunciations(word, parts) for word, parts in pronounce(words, self.name).items()}

    def _pronunciations(self, word: str, parts: tuple[Pronunciation, ...]) -> list[Pronunciation]:
        if self._english and len(parts) > 1 and _ROMAN.fullmatch(word):
            parts = parts[1:]  # "roman fourteen"
        full = tuple(name for part in parts for phone in part for name in self._names(phone))
        found = [_ENGLISH_WEAK[word]] if self._english and word in _ENGLISH_WEAK else []
        if self._english:
            full = _ENGLISH_FULL.get(word, full)
        return [*found, *([full] if full and full not in found else [])]

    def _names(self, phone: str) -> tuple[str, ...]:
        """Return the names that stand for a phone of espeak."""
        bare = phone.lstrip(STRESS)
        mark = phone[: len(phone) - len(bare)] if self.stress else ""
        names = _ENGLISH.get(bare, (bare,)) if self._english else (bare,)
        return (mark + names[0], *names[1:]) if bare else ()
