"""Texts to train a language model on, or to measure it with: lines of files, compressed or not, transcripts of manifests."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

from asr.data.manifest import SUFFIXES, read_manifest, resolve, transcript
from asr.errors import DataError
from asr.text import Normaliser

_COMPRESSED: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}
_REPORT_EVERY = 1000  # lines
_MAX_LINE = 1 << 24  # characters; a small compressed file can hold one that no memory does


@dataclass(frozen=True)
class TextSource:
    """One text.

    Attributes
    ----------
    path
        Its file.
    kind
        ``lines``: a sentence a line; ``ids``: an id and a sentence a line; ``manifest``: utterances with transcripts.
    """

    path: Path
    kind: str

    @property
    def n_bytes(self) -> int:
        """Size of the file, as it lies on the disk."""
        return self.path.stat().st_size


def find_sources(names: Sequence[str], manifests: str | Path, *, text_ids: bool = False) -> list[TextSource]:
    """Find texts by their names.

    Parameters
    ----------
    names
        Paths of text files (plain, or compressed as ``.xz``, ``.gz`` or ``.bz2``), and manifests by name or path.
    manifests
        The manifests folder.
    text_ids
        Whether each line of the text files begins with an id. Files named ``*.trans.txt``, as in LibriSpeech, always do.

    Raises
    ------
    DataError
        Neither a file nor a manifest has such a name.
    """
    return [_find_source(name, manifests, text_ids) for name in names]


def _find_source(name: str, manifests: str | Path, text_ids: bool) -> TextSource:
    path = Path(name)
    if name.endswith(SUFFIXES):
        return TextSource(resolve(name, manifests), "manifest")
    if path.is_file():
        plain = path.name.removesuffix(path.suffix) if path.suffix in _COMPRESSED else path.name
        return TextSource(path, "ids" if text_ids or plain.endswith(".trans.txt") else "lines")
    if path.exists():
        raise DataError(f"{path}: not a file; expected a text file or the name of a manifest")
    try:
        return TextSource(resolve(name, manifests), "manifest")
    except DataError as error:
        raise DataError(f"{name}: no such file, and no such manifest: {error}") from None


def read_text(source: TextSource, on_bytes: Callable[[int], None] = lambda n: None) -> Iterator[str]:
    """Yield the sentences of a text as they are written, empty ones as well.

    Parameters
    ----------
    source
        The text.
    on_bytes
        Called now and then with the number of bytes of the file that were read since.

    Raises
    ------
    DataError
        The file cannot be read: it is corrupt, truncated, or not UTF-8, or a line is longer than any text's.
    """
    if source.kind == "manifest":
        yield from (transcript(cut) for cut in read_manifest(str(source.path), source.path.parent))
        on_bytes(source.n_bytes)
        return
    number = reported = 0
    try:
        with open(source.path, "rb") as raw, _unpacked(raw, source.path) as lines:
            for number, line in enumerate(iter(partial(lines.readline, _MAX_LINE + 1), ""), start=1):
                if len(line) > _MAX_LINE:
                    raise DataError(
                        f"{source.path}, line {number}: more than {_MAX_LINE:,} characters; expected a sentence a line"
                    )
                yield _without_id(line) if source.kind == "ids" else line
                if number % _REPORT_EVERY == 0:
                    on_bytes(raw.tell() - reported)
                    reported = raw.tell()
            on_bytes(raw.tell() - reported)
    except UnicodeDecodeError as error:
        raise DataError(f"{source.path}, after line {number}: not UTF-8 text ({error.reason}); convert it to UTF-8") from None
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise DataError(f"{source.path}: cannot be read after line {number}: {error}") from None


def _unpacked(raw: IO[bytes], path: Path) -> io.TextIOWrapper:
    unpack = _COMPRESSED.get(path.suffix)
    return io.TextIOWrapper(unpack(raw, "rb") if unpack else raw, encoding="utf-8-sig")


def _without_id(line: str) -> str:
    parts = line.split(maxsplit=1)
    return parts[1] if len(parts) == 2 else ""


def sentences(
    sources: Sequence[TextSource], form: Normaliser, on_bytes: Callable[[int], None] = lambda n: None
) -> Iterator[str]:
    """Yield the normalised sentences of texts; those that are empty then are left out.

    Raises
    ------
    DataError
        A file cannot be read.
    """
    for source in sources:
        for text in read_text(source, on_bytes):
            normalised = form.normalise(text)
            if normalised:
                yield normalised
