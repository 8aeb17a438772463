"""What is to be transcribed, and which files the transcripts go to."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NoReturn

from asr.errors import ConfigError

STDIN = "-"
STDIN_NAME = "stdin"
_ENDINGS = "aac aif aiff amr au caf flac m4a m4b mka mkv mov mp3 mp4 oga ogg opus wav webm wma"
AUDIO_ENDINGS = tuple(f".{ending}" for ending in _ENDINGS.split())
"""How the files end that are taken from a folder."""


@dataclass(frozen=True)
class Source:
    """A recording to transcribe.

    Attributes
    ----------
    path
        Its file; ``-`` for standard input.
    stem
        Where its transcripts go: path below the output folder, without the ending.
    """

    path: str
    stem: Path


def find_sources(names: Iterable[str]) -> list[Source]:
    """Find the recordings that files, folders and ``-`` stand for.

    A folder stands for all audio files below it, sorted, but for hidden ones; their stems keep the way to them.

    Raises
    ------
    ConfigError
        A folder that cannot be read or holds no audio, or standard input named twice.
    """
    sources: list[Source] = []
    for name in names:
        if name == STDIN:
            sources.append(Source(name, Path(STDIN_NAME)))
        elif os.path.isdir(name):
            sources += _below(name)
        else:
            sources.append(Source(name, Path(Path(name).stem)))
    if sum(source.path == STDIN for source in sources) > 1:
        raise ConfigError(f"{STDIN} is named twice; standard input can be read only once")
    return sources


def output_paths(sources: Sequence[Source], folder: Path, formats: Sequence[str]) -> list[tuple[Path, ...]]:
    """Return the files that each source's transcripts go to, ``<folder>/<stem>.<format>``, one for each format.

    Raises
    ------
    ConfigError
        Where two sources would be written to one file, or a source would be overwritten.
    """
    read = {os.path.realpath(source.path) for source in sources if source.path != STDIN}
    taken: dict[str, str] = {}
    result = []
    for source in sources:
        paths = tuple(folder / f"{source.stem}.{format}" for format in formats)
        key = str(source.stem).casefold()  # some file systems do not tell case apart
        if key in taken:
            raise ConfigError(
                f"{taken[key]} and {source.path} would both be written to {paths[0]}; rename one, or transcribe them into "
                "different folders"
            )
        taken[key] = source.path
        for path in paths:
            if os.path.realpath(path) in read:
                raise ConfigError(f"{path} is a recording and would be overwritten by a transcript; choose another folder")
        result.append(paths)
    return result


def is_done(source: Source, paths: Sequence[Path]) -> bool:
    """Say whether all transcripts of a source are there and not older than it; those of standard input never are."""
    try:
        changed_ns = os.stat(source.path).st_mtime_ns
        return all(path.stat().st_mtime_ns >= changed_ns for path in paths)
    except OSError:
        return False


def open_source(source: Source) -> str | BinaryIO:
    """Return what a recogniser takes: the path, or all of standard input under the name that it has everywhere."""
    if source.path != STDIN:
        return source.path
    stream = io.BytesIO(sys.stdin.buffer.read())
    stream.name = STDIN_NAME
    return stream


def _below(folder: str) -> list[Source]:
    paths = [path for path in _walk(folder) if path.suffix.casefold() in AUDIO_ENDINGS]
    if not paths:
        raise ConfigError(
            f"{folder}: no audio file is below this folder; expected names that end in {', '.join(AUDIO_ENDINGS)}"
        )
    return [Source(str(path), path.relative_to(folder).with_suffix("")) for path in sorted(paths)]


def _walk(folder: str) -> Iterator[Path]:
    """Yield all files below a folder, but for hidden ones."""
    for place, folders, names in os.walk(folder, onerror=_unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(place, name) for name in names if not name.startswith("."))


def _unreadable(error: OSError) -> NoReturn:
    raise ConfigError(f"{error.filename}: cannot look into this folder: {error.strerror}; name its files one by one") from None
