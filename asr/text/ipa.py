"""Phones of the International Phonetic Alphabet: their marks, and which phone stands for one that is not there."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

STRESS = "ˈˌ"
LENGTH = "ː"

# For each letter those that sound most alike, the likest first.
_NEIGHBOURS = {
    # stops
    "p": "b", "b": "p", "t": "d", "d": "t", "k": "ɡ", "ɡ": "k", "g": "ɡ", "c": "kt", "ɟ": "ɡd", "q": "k", "ɢ": "ɡ", "ʔ": "th",
    "ʈ": "t", "ɖ": "d", "ɾ": "dtr", "ɓ": "b", "ɗ": "d", "ɠ": "ɡ",
    # nasals
    "m": "n", "n": "mŋ", "ŋ": "n", "ɲ": "n", "ɳ": "n", "ɴ": "ŋ", "ɱ": "m",
    # fricatives
    "f": "vθ", "v": "fb", "θ": "ftsð", "ð": "dvzθ", "s": "zʃ", "z": "sʒ", "ʃ": "ʂɕʒs", "ʒ": "ʐʑʃz", "ʂ": "ʃ", "ʐ": "ʒ",
    "ɕ": "ʃ", "ʑ": "ʒ", "ç": "ʃhx", "x": "kχhç", "χ": "xk", "ɣ": "ɡʁ", "ʁ": "ɹrɣ", "ħ": "h", "h": "xɦ", "ɦ": "h", "ɸ": "f",
    "β": "bv", "ɬ": "lʃ", "ɮ": "l", "ʝ": "j", "ʕ": "ʔ",
    # approximants, laterals, trills
    "l": "ɫr", "ɫ": "l", "ʎ": "lj", "ɭ": "l", "ʟ": "l", "ɹ": "rɻɾ", "r": "ɹɾ", "ɻ": "ɹ", "ʀ": "ɹr", "ɽ": "ɾɹ", "j": "iʝ",
    "w": "ʋuv", "ʋ": "vw", "ɥ": "wj", "ɰ": "wɡ", "ʍ": "w",
    # vowels
    "i": "ɪyej", "y": "iu", "ɪ": "iɨeə", "ʏ": "yʊɪ", "ɨ": "ɪi", "ʉ": "uy", "u": "ʊɯo", "ʊ": "uə", "ɯ": "uɨ",
    "e": "ɛɪ", "ø": "eœ", "ɘ": "ə", "ɵ": "əø", "ɤ": "ʌo", "o": "ɔʊ", "ə": "ɐʌɪ", "ɛ": "eæ", "œ": "øɛ", "ɜ": "əɛ",
    "ɝ": "ɜɚ", "ɞ": "ɜ", "ʌ": "əɐa", "ɔ": "ɒoɑ", "æ": "aɛ", "a": "ɑæʌ", "ɑ": "aɒɔ", "ɒ": "ɔɑ", "ɐ": "əʌa", "ɚ": "ɝəɹ",
    "ᵻ": "ɪə", "ᵿ": "ʊ",
}  # fmt: skip


def plain(phone: str) -> str:
    """Return a phone without stress, length, ties and other marks.

    Examples
    --------
    >>> plain("ˈɑ̃ː")
    'ɑ'
    """
    return "".join(character for character in _decomposed(phone) if not _is_mark(character))


def _decomposed(phone: str) -> str:
    """Take marks off the letters, but not the cedilla of ç, which is part of the letter."""
    return unicodedata.normalize("NFD", phone.replace("ç", "\0")).replace("\0", "ç")


def _is_mark(character: str) -> bool:
    return unicodedata.category(character) in ("Mn", "Lm", "Sk") or character in STRESS + LENGTH


class NearestPhones:
    """Which phones of an inventory stand for any phone.

    A phone of the inventory stands for itself, or for one that differs from it in stress, length or other marks; a sequence
    of them for a longer phone ("aɪɚ": "aɪ", "ɚ"); and the most alike for a sound that is not there ("x": "k").

    Parameters
    ----------
    inventory
        The phones there are.

    Examples
    --------
    >>> NearestPhones(["k", "l", "iː"]).find("ˌi"), NearestPhones(["k", "l", "iː"]).find("x")
    (('iː',), ('k',))
    """

    def __init__(self, inventory: Sequence[str]) -> None:
        self._by_name: dict[str, str] = {}
        for simplified in (str, _without_stress, plain):
            for phone in sorted(inventory, key=lambda phone: (len(phone), phone)):
                if simplified(phone):
                    self._by_name.setdefault(simplified(phone), phone)
        self._longest = max(map(len, self._by_name), default=0)

    def find(self, phone: str) -> tuple[str, ...] | None:
        """Return the phones that stand for one; None where nothing is like it."""
        for simplified in (str, _without_stress, plain):
            found = self._by_name.get(simplified(phone))
            if found is not None:
                return (found,)
        return self._sequence(_decomposed(phone))

    def _sequence(self, rest: str) -> tuple[str, ...] | None:
        found: list[str] = []
        while rest:
            ends = range(min(self._longest, len(rest)), 0, -1)
            end = next((end for end in ends if rest[:end] in self._by_name), 0)
            if end:
                found.append(self._by_name[rest[:end]])
            elif not _is_mark(rest[0]):
                nearest = self._nearest(rest[0])
                if nearest is None:
                    return None
                found.append(nearest)
            rest = rest[end or 1 :]
        return tuple(found) or None

    def _nearest(self, letter: str) -> str | None:
        """Search the neighbours, then their neighbours, and so on."""
        seen, queue = {letter}, [letter]
        for current in queue:
            if current in self._by_name:
                return self._by_name[current]
            for neighbour in _NEIGHBOURS.get(current, ""):
                if neighbour not in seen:
                    seen.add(neighbour)
                    queue.append(neighbour)
        return None


def _without_stress(phone: str) -> str:
    return phone.strip(STRESS)
