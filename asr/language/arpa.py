"""ARPA files: n-grams as text, gzipped or not, looked at before KenLM makes its tables of them.

KenLM takes memory by the counts in the head, and reads each line by itself. Here is seen that there are as many lines as the
head says, none of them endless, each with a number in front, and not more than memory is for.
"""

from __future__ import annotations

import gzip
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from asr.errors import PackageError
from asr.language.units import SPECIALS
from asr.untrusted import MAX_LINE_BYTES, MAX_LINES, open_file, short_lines

MAX_BYTES = 1 << 31
"""Of an ARPA file, once it is unpacked."""

BIGGEST_HEAD = 1 << 16
"""Bytes in which what a file says of itself is found."""

MAX_NGRAMS = 50_000_000
"""In an ARPA file; KenLM's tables take 24 bytes for each. As a binary file, in which nothing is built, more are read."""

_COUNT_LINE = re.compile(rb"ngram ([1-9]\d?) ?= ?(\d{1,18})")
_BLOCK = 1 << 22
_ADVICE = "make a binary file of it with KenLM's `build_binary trie`"


def read_counts(path: Path) -> list[int]:
    """Return the number of n-grams of each length that the head of an ARPA file gives.

    Raises
    ------
    PackageError
        It is no ARPA file, or one of more n-grams than are read.
    """
    with open_arpa(path) as stream:
        lines = iter(stream.read(BIGGEST_HEAD).lstrip().split(b"\n"))
    if next(lines, b"").rstrip() != b"\\data\\":
        raise PackageError(f"{path}: neither a KenLM binary file nor an ARPA file, which begins with \\data\\")
    counts: list[int] = []
    for line in lines:
        if not line.strip():
            break
        match = _COUNT_LINE.fullmatch(line.rstrip())
        if match is None or int(match[1]) != len(counts) + 1:
            raise PackageError(f"{path}: expected `ngram {len(counts) + 1}=NUMBER`, got {line[:80].decode(errors='replace')!r}")
        counts.append(int(match[2]))
    if sum(counts) > MAX_NGRAMS:
        raise PackageError(f"{path}: {sum(counts):,} n-grams as text; expected {MAX_NGRAMS:,} at most: {_ADVICE}")
    return counts


def check_arpa(path: Path, counts: Sequence[int]) -> None:
    """Look at all lines of an ARPA file.

    Raises
    ------
    PackageError
        A line is too long or has no number in front, or there are not as many as the head says.
    OSError, EOFError, zlib.error
        It cannot be unpacked.
    """
    names = [b"\\data\\", *(b"\\%d-grams:" % length for length in range(1, len(counts) + 1)), b"\\end\\"]
    n_before = np.cumsum([0, len(counts), *counts]).tolist()
    expected = list(zip(names, n_before, strict=True))
    found: list[tuple[bytes, int]] = []
    n_entries = 0
    for number, block in enumerate(_blocks(path)):
        data = np.frombuffer(block, np.uint8)
        starts = _line_starts(path, data)
        first = data[starts]
        is_marker, is_entry = first == ord("\\"), _has_number(data, starts)
        if number == 0:  # the counts, a word and a number a line
            is_entry |= starts < max(block.find(names[1]), 0)
        is_entry &= ~is_marker & ~np.isin(first, _BLANK)
        if not (is_entry | is_marker | np.isin(first, _BLANK)).all():
            start = int(starts[np.argmin(is_entry | is_marker | np.isin(first, _BLANK))])
            raise PackageError(f"{path}: expected a number in front, got {_shown(block, start)!r}")
        before = n_entries + np.cumsum(is_entry)
        for place in np.flatnonzero(is_marker)[: len(expected) + 1].tolist():
            found.append((_shown(block, int(starts[place])), int(before[place])))
        n_entries = int(before[-1])
        if found != expected[: len(found)] or n_entries > n_before[-1]:
            break
    if found != expected or n_entries != n_before[-1]:
        seen = ", ".join(f"{n:,} before {name.decode(errors='replace')}" for name, n in found)
        raise PackageError(
            f"{path}: its head speaks of {' + '.join(f'{n:,}' for n in counts)} n-grams, and it has other lines ({seen}, "
            f"{n_entries:,} in all); is it truncated?"
        )


_BLANK = np.frombuffer(b"\r\n", np.uint8)
_DIGIT = np.zeros(256, bool)
_DIGIT[list(b"0123456789")] = True


def _blocks(path: Path) -> Iterator[bytes]:
    """Yield whole lines, some megabytes at a time; where the last has no end, it gets one."""
    n_bytes = 0
    with open_arpa(path) as stream:
        while block := stream.read(_BLOCK):
            if block[-1:] != b"\n":
                block += stream.readline(MAX_LINE_BYTES)
            n_bytes += len(block)
            if n_bytes > MAX_BYTES:
                raise PackageError(f"{path}: more than {MAX_BYTES:,} bytes of text; expected as many at most: {_ADVICE}")
            yield block if block[-1:] == b"\n" else block + b"\n"


def _line_starts(path: Path, data: np.ndarray) -> np.ndarray:
    """Return where the lines of a block begin."""
    ends = np.flatnonzero(data == ord("\n"))
    lengths = np.diff(ends, prepend=-1)
    if lengths.max() > MAX_LINE_BYTES:
        raise PackageError(f"{path}: a line of {lengths.max():,} bytes; expected {MAX_LINE_BYTES:,} at most")
    return np.concatenate([[0], ends[:-1] + 1])


def _has_number(data: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Say of each line whether a finite number may begin it, not the word for one that is none."""
    first, second = data[starts], data[np.minimum(starts + 1, len(data) - 1)]
    return _DIGIT[first] | ((first == ord("-")) & (_DIGIT[second] | (second == ord("."))))


def _shown(block: bytes, start: int) -> bytes:
    return block[start : start + 80].split(b"\n", 1)[0].rstrip()


def read_arpa_words(path: Path, n_words: int) -> list[str]:
    """Return the words of an ARPA file, those of the highest probability first, without those that mean something to KenLM.

    Raises
    ------
    PackageError
        A line is none of a word, or there are not as many as the head says.
    UnicodeDecodeError, OSError, EOFError, zlib.error
        They are no text, or cannot be unpacked.
    """
    if n_words > MAX_LINES:
        raise PackageError(f"{path}: {n_words:,} words; expected {MAX_LINES:,} at most")
    found = []
    for fields in _unigrams(path):
        found.append((_number(path, fields[0]), fields[1].decode()))
        if len(found) > n_words:
            break
    if len(found) != n_words:
        many = "more words" if len(found) > n_words else f"{len(found):,} words"
        raise PackageError(f"{path}: lists {many}, but its head says {n_words:,}; is it truncated?")
    found.sort(key=lambda entry: -entry[0])  # keeps the file's order where equal
    return [word for _, word in found if word not in SPECIALS]


def _number(path: Path, text: bytes) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not number <= 0:
        raise PackageError(f"{path}: expected a logarithm of a probability before each word, got {text[:40]!r}")
    return number


def _unigrams(path: Path) -> Iterator[list[bytes]]:
    """Yield the fields of each line of the section of single words."""
    inside = False
    with open_arpa(path) as stream:
        for line in short_lines(stream, MAX_LINE_BYTES, lambda number: PackageError(_too_long(path, number))):
            fields = line.split()
            if fields == [b"\\1-grams:"]:
                inside = True
            elif inside and fields and fields[0].startswith(b"\\"):
                return
            elif inside and fields:
                if len(fields) not in (2, 3):
                    raise PackageError(f"{path}: expected a number, a word and perhaps a back-off, got {line[:80]!r}")
                yield fields


def _too_long(path: Path, number: int) -> str:
    return f"{path}, line {number}: more than {MAX_LINE_BYTES:,} bytes; expected a number, words and perhaps a back-off"


def open_arpa(path: Path) -> BinaryIO:
    """Open an ARPA file, gzipped or not.

    Raises
    ------
    PackageError
        It is no regular file, or too large.
    """
    stream = open_file(path, MAX_BYTES)
    packed = stream.read(2) == b"\x1f\x8b"
    stream.seek(0)
    return cast(BinaryIO, gzip.open(stream, "rb")) if packed else stream
