"""Which sentences of a text can be spoken, in which order, and how they are handed to a voice."""

from __future__ import annotations

import hashlib
import heapq
import math
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator

from asr.errors import DataError

_AT_ONCE = 200_000  # sentences that are kept in memory
_LETTERS = 20  # characters a word, more than any sentence has: what has more is no text
_READ_ALIKE = frozenset(".,;:!?'\"-–—…()‘’“”«»„")  # punctuation that is never read aloud
_ENDS = (".", "!", "?", "…")


class Sentences:
    """The sentences of a text that can be spoken, in the order of a hash.

    Parameters
    ----------
    read
        Returns the sentences, from the first on at each call.
    words
        Least and most words of those that are taken.
    seed
        Decides the order.
    repeat
        Whether to begin again at the end.
    """

    def __init__(self, read: Callable[[], Iterator[str]], words: tuple[int, int], seed: int, *, repeat: bool) -> None:
        self._read = read
        self._words = words
        self._seed = seed
        self._repeat = repeat
        self._counts: Counter[str] = Counter()
        self._n_different = math.inf  # not known before the end is first reached
        self._rounds = 0

    def all_are_in(self, n_first: int) -> bool:
        """Say whether each sentence is among so many first ones."""
        return n_first >= self._n_different

    def __iter__(self) -> Iterator[str]:
        """Yield each sentence once, or in rounds without end.

        Raises
        ------
        DataError
            There is none.
        """
        while self._rounds == 0 or self._repeat:
            n_before = self._counts["spoken"]
            for text in self._once():
                self._counts["spoken"] += 1
                yield text
            if self._counts["spoken"] == n_before:
                least, most = self._words
                raise DataError(
                    f"no sentence of {least} to {most} words can be spoken" + "".join(f"; {t}" for t in self.left_out())
                )
            self._rounds += 1
            self._n_different = min(self._n_different, self._counts["spoken"])

    def left_out(self) -> list[str]:
        """Return what was left out of the text, and why, one line for each reason."""
        texts = {
            "short": f"of less than {self._words[0]} words",
            "long": f"of more than {self._words[1]} words, or {_LETTERS * self._words[1]} characters",
            "signs": "with digits or signs, which can be read in several ways",
        }
        return [f"left out: {self._counts[key]} sentences {text}" for key, text in texts.items() if self._counts[key]]

    def _once(self) -> Iterator[str]:
        after = b""
        while True:
            keyed = ((self._key(text), text) for text in self._usable())
            smallest = heapq.nsmallest(_AT_ONCE, (pair for pair in keyed if pair[0] > after))
            for key, text in smallest:
                if key != after:  # else it is the same sentence
                    after = key
                    yield text
            if len(smallest) < _AT_ONCE:
                return

    def _usable(self) -> Iterator[str]:
        least, most = self._words
        for key in ("short", "long", "signs"):
            self._counts[key] = 0
        for line in self._read():
            text = " ".join(line.split())
            n_words = text.count(" ") + 1 if text else 0
            if n_words == 0:
                continue
            if n_words < least:
                self._counts["short"] += 1
            elif n_words > most or len(text) > _LETTERS * most:
                self._counts["long"] += 1
            elif not _read_as_written(text):
                self._counts["signs"] += 1
            else:
                yield text

    def _key(self, text: str) -> bytes:
        return hashlib.blake2b(text.encode(), digest_size=12, key=str(self._seed).encode()[:64]).digest()


def _read_as_written(text: str) -> bool:
    """Whether a text holds words and punctuation alone, and of these none that is read aloud."""
    if text.isascii() and text.replace(" ", "").isalpha():
        return True
    return all(c == " " or c in _READ_ALIKE or unicodedata.category(c)[0] in "LM" for c in text)


def as_said(text: str) -> str:
    """Return a sentence as synthesisers take it: capitals alone would be spelled out, and a full stop makes the voice fall."""
    text = text if any(c.islower() for c in text) else text.lower()
    return text if text.rstrip("\"')”’»").endswith(_ENDS) else text + "."
