"""Pronunciations from a dictionary in the format of the CMU Pronouncing Dictionary."""

from __future__ import annotations

import base64
import binascii
import lzma
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from asr.errors import ConfigError, DataError
from asr.text.normaliser import Normaliser, shortened
from asr.text.tokenizer import BOUNDARY
from asr.untrusted import open_file

Pronunciation = tuple[str, ...]

MAX_PHONES = 1000
"""Different phones of a tokenizer."""

MAX_PHONE_LENGTH = 16
"""Characters of a phone's name."""

# CMUdict has 135,000 lines and 3.6 million bytes, of which a model package holds 0.7 million.
_MAX_BYTES = 1 << 24
_MAX_WORDS = 1 << 20
_MAX_PACKED_BYTES = 1 << 22
_VARIANT = re.compile(r"(.+)\(\d+\)")
_STRESSED = re.compile(r"(.*\D)[0-2]")


class Dictionary:
    """Pronunciations of the words of a dictionary, which travels with the model.

    Parameters
    ----------
    name
        Name of its file, for messages.
    entries
        For each normalised word its pronunciations, best first.
    """

    def __init__(self, name: str, entries: Mapping[str, Sequence[Pronunciation]]) -> None:
        self.name = name
        self.entries = entries

    @property
    def remedy(self) -> str:
        """What to do about words that it lacks."""
        return (
            f"Add them to a copy of {self.name}, a line each (WORD  PHONE PHONE ...), or leave tokens.dictionary out: "
            "eSpeak NG pronounces every word."
        )

    def look_up(self, words: Iterable[str]) -> dict[str, list[Pronunciation]]:
        """Return the pronunciations of each word, best first; none for a word that it lacks."""
        return {word: list(self.entries.get(word, ())) for word in words}

    def inventory(self, trained: Sequence[str]) -> list[str]:
        """Return the phones a tokenizer needs: all of the dictionary, whichever the training transcripts hold."""
        return sorted({phone for pronunciations in self.entries.values() for phones in pronunciations for phone in phones})

    def fields(self) -> dict[str, Any]:
        """Return what ``tokenizer.json`` holds: the dictionary as compressed text."""
        return {"dictionary": self.name, "pronunciations": base64.b64encode(self.packed).decode("ascii")}

    @cached_property
    def packed(self) -> bytes:
        """The entries as compressed text."""
        lines = ("\t".join([word, *map(" ".join, found)]) for word, found in sorted(self.entries.items()))
        return lzma.compress("\n".join(lines).encode())

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Self:
        """Build from what :meth:`fields` gave.

        Raises
        ------
        ValueError
            For fields that are no dictionary, or too large a one.
        """
        if fields.keys() != {"dictionary", "pronunciations"} or not all(isinstance(value, str) for value in fields.values()):
            raise ValueError(f"expected the texts dictionary and pronunciations, got {sorted(fields)}")
        try:
            packed = base64.b64decode(fields["pronunciations"], validate=True)
            unpacker = lzma.LZMADecompressor(memlimit=1 << 27)
            text = unpacker.decompress(packed, _MAX_BYTES).decode("utf-8")
            if not unpacker.eof:
                raise ValueError(f"truncated, or of more than {_MAX_BYTES} bytes")
            if text.count("\t") > _MAX_WORDS:
                raise ValueError(f"of more than {_MAX_WORDS} pronunciations")
        except (binascii.Error, lzma.LZMAError, EOFError, UnicodeDecodeError, ValueError) as error:
            raise ValueError(f"'pronunciations' is not the dictionary's compressed text ({error})") from None
        rows = (line.split("\t") for line in text.split("\n"))
        return cls(fields["dictionary"], {word: [tuple(phones.split()) for phones in found] for word, *found in rows})

    @classmethod
    def read(cls, path: Path, form: Normaliser, stress: bool = False) -> Self:
        """Read a dictionary file.

        A line holds a word and its phones, separated by white space; ``WORD(2)`` is another pronunciation of ``WORD``. Lines
        that start with ``;;;`` and what follows `` #`` are comments. Words that no normalised text can hold, such as
        those of punctuation marks, are left out.

        Parameters
        ----------
        path
            UTF-8 text.
        form
            Brings the words into the form of the transcripts.
        stress
            Keep the digits of stress (0, 1, 2) at the ends of vowels.

        Raises
        ------
        ConfigError
            The file is absent or cannot be read.
        DataError
            A line is no entry, naming it; there are no entries, or too many.
        """
        entries: dict[str, dict[Pronunciation, None]] = {}
        phones: set[str] = set()
        for number, line in enumerate(_lines(path), start=1):
            entry, _, _comment = line.partition(" #")
            if not entry.strip() or entry.startswith(";;;"):
                continue
            name, *found = entry.split()
            _check_phones(found, f"{path}, line {number}", line)
            variant = _VARIANT.fullmatch(name)
            word = form.normalise(variant[1] if variant else name)
            if word.casefold() != (variant[1] if variant else name).casefold() or form.unknown(word):
                continue
            pronunciation = tuple(found if stress else map(_without_stress, found))
            phones.update(pronunciation)
            entries.setdefault(word, {})[pronunciation] = None
        dictionary = cls(path.name, {word: list(found) for word, found in entries.items()})
        _check_size(path, len(entries), phones, dictionary)
        return dictionary


def _lines(path: Path) -> list[str]:
    try:
        with open_file(path, _MAX_BYTES, DataError) as stream:
            content = stream.read()
        return content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(f"{path}, line {line}: not UTF-8 text ({error.reason}); convert the file to UTF-8") from None
    except OSError as error:
        raise ConfigError(f"tokens.dictionary={path}: cannot be read: {error.strerror or error}") from None


def _check_phones(phones: Sequence[str], where: str, line: str) -> None:
    wrong = [phone for phone in phones if BOUNDARY in phone or len(phone) > MAX_PHONE_LENGTH]
    if not phones or wrong:
        found = f"the phone {wrong[0]!r}" if wrong else "no phones"
        raise DataError(f"{where}: {found} in {shortened(line)!r}; expected a word and its phones, such as HELLO  HH AH0 L OW1")


def _check_size(path: Path, n_words: int, phones: set[str], dictionary: Dictionary) -> None:
    if not n_words:
        raise DataError(f"{path}: no word of it can stand in a transcript; expected lines such as HELLO  HH AH0 L OW1")
    if len(phones) > MAX_PHONES:
        raise DataError(f"{path}: {len(phones)} different phones; expected {MAX_PHONES} at most. Does it hold phones?")
    n_pronunciations = sum(map(len, dictionary.entries.values()))
    if n_pronunciations > _MAX_WORDS or len(dictionary.packed) > _MAX_PACKED_BYTES:
        raise DataError(f"{path}: {n_words} words are too many for a model package; leave out words that are not needed")


def _without_stress(phone: str) -> str:
    stressed = _STRESSED.fullmatch(phone)
    return stressed[1] if stressed else phone
