"""KenLM's files, ARPA text and binary: checked before they are handed to its C++ code, and the words that they hold.

KenLM checks a file's version and length by itself and goes by everything else that stands in it, so that a file which somebody
made up could end the process, or more. What it would follow is looked at here before it opens the file: every offset, index and
pointer of a binary file, every line of a text. It takes some hundredths of a second for a model of 12 MB.
"""

from __future__ import annotations

import math
import mmap
import struct
import threading
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from asr.chatter import held_back
from asr.errors import PackageError
from asr.language.arpa import BIGGEST_HEAD, check_arpa, read_arpa_words, read_counts
from asr.language.config import MAX_ORDER
from asr.language.kenlm_probing import check_probing
from asr.language.kenlm_trie import Damage, check_trie, demand
from asr.language.units import SPECIALS, UNKNOWN
from asr.untrusted import MAX_LINES, MAX_LIST_BYTES, open_file

MAX_BYTES = 1 << 32
"""Of a binary file."""

LOG_10 = math.log(10.0)
"""KenLM's logarithms are decimal; times this they are natural."""

_MAGIC = b"mmap lm http://kheafield.com/code"
# The 88 bytes by which KenLM recognises a file of its own version, compiler and byte order (lm/binary_format.cc, Sanity).
_SANITY = struct.pack("<56s3f3IQ", _MAGIC + b" format version 5\n", 0.0, 1.0, -0.5, 1, 2**32 - 1, 0, 1)
_PARAMETERS = struct.Struct("<B3xfiB3xI")  # order, multiplier of the hash tables, type, whether words are in it, version
_PROBING, _REST, _FIRST_TRIE, _LAST_TRIE = 0, 1, 2, 5
_ADVICE = "rebuild it with KenLM's build_binary, or train it again with `asr lm train`"


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
    kind
        KenLM's number for the type of a binary file.
    multiplier
        Places of a hash table for each n-gram in it.
    """

    format: str
    counts: tuple[int, ...]
    has_words: bool = True
    kind: int = 0
    multiplier: float = 1.5

    @property
    def order(self) -> int:
        """Length of the longest n-grams."""
        return len(self.counts)

    @property
    def n_bytes(self) -> int:
        """Length of a binary file's header."""
        return (len(_SANITY) + _PARAMETERS.size + 8 * self.order + 7) // 8 * 8


def read_header(path: Path) -> Header:
    """Read and check the beginning of a KenLM file; :func:`open_kenlm` looks at the rest.

    Raises
    ------
    PackageError
        It is no such file, or one that cannot be used, or it is shorter than what its header says.
    """
    try:
        with open_file(path, MAX_BYTES) as stream:
            start = stream.read(BIGGEST_HEAD)
        header = _binary_header(path, start) if start.startswith(_MAGIC) else Header("arpa", tuple(read_counts(path)))
    except (OSError, EOFError, zlib.error) as error:
        raise PackageError(f"{path}: cannot be read: {error}") from None
    _check_order(path, header.order)
    return header


def _binary_header(path: Path, start: bytes) -> Header:
    at = len(_SANITY)
    if not start.startswith(_SANITY) or len(start) < at + _PARAMETERS.size:
        raise PackageError(f"{path}: a KenLM file that is incomplete, or of another version or kind of machine; {_ADVICE}")
    order, multiplier, kind, has_words, version = _PARAMETERS.unpack_from(start, at)
    _check_order(path, order)
    at += _PARAMETERS.size
    is_known = _PROBING <= kind <= _LAST_TRIE and version == int(kind >= _FIRST_TRIE)
    if not is_known or not 1.0 <= multiplier < 100.0 or has_words > 1 or len(start) < at + 8 * order:
        raise PackageError(f"{path}: the header of this KenLM file is corrupt; {_ADVICE}")
    counts = struct.unpack_from(f"<{order}Q", start, at)
    n_bytes = path.stat().st_size
    # A word takes 64 bits and any other n-gram more than one.
    if not 64 * counts[0] + sum(counts[1:]) <= 8 * n_bytes or counts[0] < 3:
        raise PackageError(
            f"{path}: its header speaks of {' + '.join(f'{n:,}' for n in counts)} n-grams, but it has {n_bytes:,} bytes; "
            f"it is truncated or corrupt: copy it again, or {_ADVICE}"
        )
    return Header("trie" if kind >= _FIRST_TRIE else "probing", counts, bool(has_words), kind, multiplier)


def _check_order(path: Path, order: int) -> None:
    if not 2 <= order <= MAX_ORDER:
        raise PackageError(f"{path}: n-grams of {order} words; expected 2 to {MAX_ORDER}, the most that this KenLM reads")


def open_kenlm(path: Path, words: Sequence[str]) -> Any:
    """Look at all of a KenLM file, and open it.

    Parameters
    ----------
    path
        ARPA or binary file.
    words
        What the model is asked for, by places in this list; those that it does not know are unknown words.

    Returns
    -------
    flashlight.lib.text.decoder.kenlm.KenLM
        The model in KenLM's hands.

    Raises
    ------
    PackageError
        It is no such file, or holds what none does.
    """
    from flashlight.lib.text.decoder.kenlm import KenLM
    from flashlight.lib.text.dictionary import Dictionary

    check_file(path, read_header(path))
    try:
        with held_back():
            return KenLM(str(path), Dictionary(list(words)))
    except (RuntimeError, UnicodeDecodeError) as error:  # the latter where what it says quotes bytes of the file
        said = " ".join(str(error).split("threw", 1)[-1].split())
        raise PackageError(f"{path}: KenLM cannot read it: {said}") from None


_CHECKED: dict[tuple[int, ...], int] = {}
_CHECKED_LOCK = threading.Lock()


def check_file(path: Path, header: Header) -> int:
    """Look at all of a KenLM file; one that was found good is not looked at again while it stays the same.

    Returns
    -------
    int
        Where the tables of a binary file end; 0 for text.

    Raises
    ------
    PackageError
        It holds what no such file does, or cannot be read.
    """
    try:
        found = path.stat()
        key = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        with _CHECKED_LOCK:
            if key not in _CHECKED:
                if header.format == "arpa":
                    check_arpa(path, header.counts)
                _CHECKED[key] = 0 if header.format == "arpa" else _check_binary(path, header)
            return _CHECKED[key]
    except (OSError, EOFError, zlib.error) as error:
        raise PackageError(f"{path}: cannot be read: {error}") from None


def _check_binary(path: Path, header: Header) -> int:
    content = _content(path)
    try:
        if header.format == "trie":
            end = check_trie(content, header.n_bytes, header.kind - _FIRST_TRIE, header.counts)
        else:
            is_rest = header.kind == _REST
            end = check_probing(content, header.n_bytes, rest=is_rest, multiplier=header.multiplier, counts=header.counts)
        if header.has_words:
            demand(bytes(content[end : end + 6]) == UNKNOWN.encode() + b"\0", "its words are not behind its tables")
        else:
            demand(end == len(content), "more follows its tables")
    except Damage as damage:
        raise PackageError(f"{path}: {damage}; it is truncated, corrupt or forged: copy it again, or {_ADVICE}") from None
    return end


def _content(path: Path) -> np.ndarray:
    """Return ``(byte,)``, a file as it lies on the disk; what is looked at is read, and goes when memory is short."""
    with open_file(path, MAX_BYTES) as stream:
        return np.frombuffer(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)


def read_words(path: Path, header: Header) -> tuple[str, ...]:
    """Return the words of a KenLM file without ``<s>``, ``</s>`` and ``<unk>``; those of an ARPA file likeliest first.

    Raises
    ------
    PackageError
        The words are not in the file, or not as the header says.
    """
    try:
        is_text = header.format == "arpa"
        words = read_arpa_words(path, header.counts[0]) if is_text else _binary_words(path, header)
    except UnicodeDecodeError:
        raise PackageError(f"{path}: its words are not UTF-8 text") from None
    except (OSError, EOFError, zlib.error) as error:
        raise PackageError(f"{path}: cannot be read: {error}") from None
    if len(set(words)) < len(words):
        raise PackageError(f"{path}: holds a word twice")
    return tuple(words)


def _binary_words(path: Path, header: Header) -> list[str]:
    if not header.has_words:
        raise PackageError(f"{path}: holds only hashes of its words; {_ADVICE}, keeping the words in it")
    content = _content(path)[check_file(path, header) :]
    if header.counts[0] > MAX_LINES or len(content) > MAX_LIST_BYTES:
        raise PackageError(f"{path}: {header.counts[0]:,} words; expected {MAX_LINES:,} and {MAX_LIST_BYTES:,} bytes at most")
    words = content.tobytes().decode("utf-8").split("\0")
    if words[-1] or not 0 <= len(words) - 1 - header.counts[0] <= 1:
        raise PackageError(f"{path}: expected its {header.counts[0]:,} words at its end; it is truncated or corrupt: {_ADVICE}")
    return [word for word in words[:-1] if word not in SPECIALS]
