"""KenLM's files, ARPA text and binary: checks before they are handed to its C++ code, and the words that they hold.

KenLM checks a file's version and length by itself, and that its words stand where its header puts them, but goes by the numbers
in the header before that, and the process ends where they are nonsense. What can be known to be wrong is refused here. Damage
in the middle of a binary file cannot be seen, and can end the process: a language model package has a hash for that, and a bare
binary file from a stranger is better asked for as ARPA.
"""

from __future__ import annotations

import gzip
import math
import mmap
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from asr.errors import PackageError
from asr.language.config import MAX_ORDER
from asr.language.units import SPECIALS, UNKNOWN

_MAGIC = b"mmap lm http://kheafield.com/code"
# The 88 bytes by which KenLM recognises a file of its own version, compiler and byte order (lm/binary_format.cc, Sanity).
_SANITY = struct.pack("<56s3f3IQ", _MAGIC + b" format version 5\n", 0.0, 1.0, -0.5, 1, 2**32 - 1, 0, 1)
_PARAMETERS = struct.Struct("<B3xfiB3xI")  # order, multiplier of the hash tables, type, whether words are in it, version
_TYPES = ("probing", "probing", "trie", "trie", "trie", "trie")
_ADVICE = "rebuild it with KenLM's build_binary, or train it again with `asr lm train`"
_COUNT_LINE = re.compile(rb"ngram ([1-9]\d?) ?= ?(\d{1,18})")
_MAX_COUNT = 1 << 40
_BIGGEST_HEAD = 1 << 16  # bytes


@dataclass(frozen=True)
class Header:
    """What the beginning of a KenLM file says.

    Attributes
    ----------
    format
        ``arpa``, ``probing`` or ``trie``.
    counts
        Number of n-grams of each length.
    has_words
        Whether the words are in the file, not only their hashes.
    """

    format: str
    counts: tuple[int, ...]
    has_words: bool = True

    @property
    def order(self) -> int:
        """Length of the longest n-grams."""
        return len(self.counts)


def read_header(path: Path) -> Header:
    """Read and check the beginning of a KenLM file.

    Raises
    ------
    PackageError
        It is no such file, or one that cannot be used, or it is shorter than what its header says.
    """
    try:
        with open(path, "rb") as stream:
            start = stream.read(_BIGGEST_HEAD)
        if start.startswith(_MAGIC):
            return _binary_header(path, start)
        if start.startswith(b"\x1f\x8b"):
            with gzip.open(path) as packed:
                start = packed.read(_BIGGEST_HEAD)
    except (OSError, EOFError, zlib.error) as error:
        raise PackageError(f"{path}: cannot be read: {error}") from None
    return _arpa_header(path, start)


def _binary_header(path: Path, start: bytes) -> Header:
    at = len(_SANITY)
    if not start.startswith(_SANITY) or len(start) < at + _PARAMETERS.size:
        raise PackageError(f"{path}: a KenLM file that is incomplete, or of another version or kind of machine; {_ADVICE}")
    order, multiplier, kind, has_words, _ = _PARAMETERS.unpack_from(start, at)
    _check_order(path, order)
    at += _PARAMETERS.size
    if kind >= len(_TYPES) or kind < 0 or not 1.0 <= multiplier < 100.0 or has_words > 1 or len(start) < at + 8 * order:
        raise PackageError(f"{path}: the header of this KenLM file is corrupt; {_ADVICE}")
    counts = struct.unpack_from(f"<{order}Q", start, at)
    header = Header(_TYPES[kind], counts, bool(has_words))
    at += 8 * order + (-(at + 8 * order)) % 8
    _check_table(path, start[at : at + 8], header)
    n_bits = 8 * path.stat().st_size
    # A word takes 64 bits and any other n-gram more than one.
    if not 64 * counts[0] + sum(counts[1:]) <= n_bits or counts[0] < 3:
        raise PackageError(
            f"{path}: its header speaks of {' + '.join(f'{n:,}' for n in counts)} n-grams, but it has {n_bits // 8:,} bytes; "
            f"it is truncated or corrupt: copy it again, or {_ADVICE}"
        )
    return header


def _check_table(path: Path, start: bytes, header: Header) -> None:
    """Compare the number of words that the table of words begins with to that of the header."""
    if len(start) < 8:
        raise PackageError(f"{path}: this KenLM file is truncated; copy it again, or {_ADVICE}")
    n_words = struct.unpack("<Q", start)[0] + 1 if header.format == "trie" else struct.unpack("<II", start)[1]
    if not 0 <= header.counts[0] + 1 - n_words <= 1:  # a file may lack <unk>
        raise PackageError(
            f"{path}: its table of words has {n_words:,}, its header says {header.counts[0]:,}; it is corrupt: {_ADVICE}"
        )


def _arpa_header(path: Path, start: bytes) -> Header:
    lines = iter(start.lstrip().splitlines())
    if next(lines, b"").strip() != b"\\data\\":
        raise PackageError(f"{path}: neither a KenLM binary file nor an ARPA file, which begins with \\data\\")
    counts: list[int] = []
    for line in lines:
        match = _COUNT_LINE.fullmatch(line.strip())
        if match is None:
            break
        if int(match[1]) != len(counts) + 1 or int(match[2]) > _MAX_COUNT:
            raise PackageError(f"{path}: expected `ngram {len(counts) + 1}=NUMBER`, got {match[0].decode()!r}")
        counts.append(int(match[2]))
    _check_order(path, len(counts))
    return Header("arpa", tuple(counts))


def _check_order(path: Path, order: int) -> None:
    if not 2 <= order <= MAX_ORDER:
        raise PackageError(f"{path}: n-grams of {order} words; expected 2 to {MAX_ORDER}, the most that this KenLM reads")


def read_words(path: Path, header: Header) -> tuple[str, ...]:
    """Return the words of a KenLM file without ``<s>``, ``</s>`` and ``<unk>``; those of an ARPA file most frequent first.

    Raises
    ------
    PackageError
        The words are not in the file, or not as the header says.
    """
    try:
        words = _arpa_words(path, header) if header.format == "arpa" else _binary_words(path, header)
    except UnicodeDecodeError:
        raise PackageError(f"{path}: its words are not UTF-8 text") from None
    except (OSError, EOFError, zlib.error) as error:
        raise PackageError(f"{path}: cannot be read: {error}") from None
    if len(set(words)) < len(words):
        raise PackageError(f"{path}: holds a word twice")
    return words


def _binary_words(path: Path, header: Header) -> tuple[str, ...]:
    if not header.has_words:
        raise PackageError(f"{path}: holds only hashes of its words; {_ADVICE}, keeping the words in it")
    with open(path, "rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        at = content.rfind(UNKNOWN.encode() + b"\0")  # the words stand at the end, <unk> first
        words = content[max(at, 0) :].decode("utf-8").split("\0")
    if at < 0 or words[-1] or not 0 <= len(words) - 1 - header.counts[0] <= 1:
        raise PackageError(f"{path}: expected its {header.counts[0]:,} words at its end; it is truncated or corrupt: {_ADVICE}")
    return tuple(word for word in words[:-1] if word not in SPECIALS)


def _arpa_words(path: Path, header: Header) -> tuple[str, ...]:
    found = [(_number(path, fields[0]), fields[1].decode()) for fields in _unigrams(path)]
    if len(found) != header.counts[0]:
        raise PackageError(f"{path}: lists {len(found):,} words, but its head says {header.counts[0]:,}; is it truncated?")
    found.sort(key=lambda entry: -entry[0])  # keeps the file's order where equal
    return tuple(word for _, word in found if word not in SPECIALS)


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
        for line in stream:
            fields = line.split()
            if fields == [b"\\1-grams:"]:
                inside = True
            elif inside and fields and fields[0].startswith(b"\\"):
                return
            elif inside and fields:
                if len(fields) not in (2, 3):
                    raise PackageError(f"{path}: expected a number, a word and perhaps a back-off, got {line[:80]!r}")
                yield fields


def open_arpa(path: Path) -> IO[bytes]:
    """Open an ARPA file, gzipped or not."""
    with open(path, "rb") as stream:
        packed = stream.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if packed else open(path, "rb")  # type: ignore[return-value]
