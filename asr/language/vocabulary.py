"""The units that a language model knows, most frequent first, with their counts in the training text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from asr.errors import PackageError
from asr.language.units import SPECIALS
from asr.untrusted import MAX_LINES, read_lines

FILE_NAME = "vocabulary.txt"
_MOST_DIGITS = 18


@dataclass(frozen=True)
class Vocabulary:
    """Units with their counts, most frequent first.

    Attributes
    ----------
    units
        None twice, none empty or with a space in it.
    counts
        How often each occurs in the training text; 0 where that is not known.
    """

    units: tuple[str, ...]
    counts: tuple[int, ...]

    def __len__(self) -> int:
        """Return the number of units."""
        return len(self.units)

    @cached_property
    def indices(self) -> dict[str, int]:
        """Index of each unit."""
        return {unit: index for index, unit in enumerate(self.units)}

    def save(self, folder: Path) -> None:
        """Write ``vocabulary.txt``: a unit a line, a tab, its count."""
        lines = "".join(f"{unit}\t{count}\n" for unit, count in zip(self.units, self.counts, strict=True))
        (folder / FILE_NAME).write_text(lines, encoding="utf-8")


def limit(counts: Mapping[str, int], size: int, alphabet: str) -> Vocabulary:
    """Return the most frequent units.

    Parameters
    ----------
    counts
        How often each unit occurs.
    size
        How many to keep; 0 keeps all, up to :data:`asr.untrusted.MAX_LINES`. Of equally frequent ones those that sort first are
        kept.
    alphabet
        A unit with any other character is unknown, whatever its count.

    Examples
    --------
    >>> limit({"b": 2, "a": 2, "é": 9, "c": 1}, 2, "abc").units
    ('a', 'b')
    """
    known = frozenset(alphabet)
    usable = [(unit, n) for unit, n in counts.items() if known.issuperset(unit) and unit not in SPECIALS]
    usable.sort(key=lambda entry: (-entry[1], entry[0]))
    kept = usable[: size or MAX_LINES]
    return Vocabulary(tuple(unit for unit, _ in kept), tuple(n for _, n in kept))


def read_vocabulary(folder: Path) -> Vocabulary:
    """Read ``vocabulary.txt`` from a language model package.

    Raises
    ------
    PackageError
        The file is absent, or a line is not a unit, a tab and a count, or a unit is there twice.
    """
    path = folder / FILE_NAME
    try:
        lines = read_lines(path)
    except FileNotFoundError:
        raise PackageError(f"{path}: not found; a language model package holds its words there") from None
    except OSError as error:
        raise PackageError(f"{path}: cannot be read: {error.strerror or error}") from None
    units, counts = [], []
    for number, line in enumerate(lines, start=1):
        unit, _, count = line.partition("\t")
        if unit.split() != [unit] or not count.isdecimal() or len(count) > _MOST_DIGITS or unit in SPECIALS:
            raise PackageError(f"{path}, line {number}: expected a word, a tab and a count, got {line[:80]!r}")
        units.append(unit)
        counts.append(int(count))
    vocabulary = Vocabulary(tuple(units), tuple(counts))
    if len(vocabulary.indices) < len(units):
        raise PackageError(f"{path}: holds a word twice")
    return vocabulary
