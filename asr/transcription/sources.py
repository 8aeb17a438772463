"""What is to be transcribed, and which files the transcripts go to."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from asr.audio_folder import find_audio
from asr.errors import AudioError, ConfigError
from asr.mixing import Tell

STDIN = "-"
STDIN_NAME = "stdin"
MAX_STDIN_BYTES = 1 << 30
"""Standard input is kept in memory, since most formats are read back and forth."""

_BLOCK = 1 << 20


@dataclass(frozen=True)
class RecordingFile:
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


def find_sources(names: Iterable[str], tell: Tell) -> list[RecordingFile]:
    """Find the recordings that files, folders and ``-`` stand for.

    A folder stands for all that :func:`asr.audio_folder.find_audio` finds; their stems keep the way to them.

    Parameters
    ----------
    names
        What was given.
    tell
        Told what of a folder is passed over.

    Raises
    ------
    ConfigError
        Standard input is named twice.
    DataError
        A folder cannot be read or holds no audio.
    """
    sources: list[RecordingFile] = []
    for name in names:
        if not name:
            raise ConfigError("a name is empty; expected that of a file or folder, or - for standard input")
        if name == STDIN:
            sources.append(RecordingFile(name, Path(STDIN_NAME)))
        elif os.path.isdir(name):
            sources += _below(name, tell)
        else:
            sources.append(RecordingFile(name, Path(Path(name).stem)))
    if sum(source.path == STDIN for source in sources) > 1:
        raise ConfigError(f"{STDIN} is named twice; standard input can be read only once")
    return sources


def output_paths(sources: Sequence[RecordingFile], folder: Path, formats: Sequence[str]) -> list[tuple[Path, ...]]:
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
        for path in (*paths, *map(losses_path, paths)):
            if os.path.realpath(path) in read:
                raise ConfigError(f"{path} is a recording and would be overwritten by a transcript; choose another folder")
        result.append(paths)
    return result


def losses_path(path: Path) -> Path:
    """Return the file beside a transcript that lists what could not be read; it is there as long as that is missing."""
    return path.with_name(f"{path.name}.partial")


def is_done(source: RecordingFile, paths: Sequence[Path]) -> bool:
    """Say whether all transcripts of a source are there, whole and not older than it; those of standard input never are."""
    try:
        changed_ns = os.stat(source.path).st_mtime_ns
        return all(path.stat().st_mtime_ns >= changed_ns and not losses_path(path).exists() for path in paths)
    except OSError:
        return False


def open_source(source: RecordingFile) -> str | BinaryIO:
    """Return what a recogniser takes: the path, or all of standard input under the name that it has everywhere."""
    if source.path != STDIN:
        return source.path
    stream = io.BytesIO()
    while block := sys.stdin.buffer.read(_BLOCK):
        stream.write(block)
        if stream.tell() > MAX_STDIN_BYTES:
            stream = _TooLong()
            break
    stream.seek(0)
    stream.name = STDIN_NAME
    return stream


class _TooLong(io.BytesIO):
    """Stands for standard input that goes on and on: reading it is the error, when its turn comes."""

    def read(self, size: int | None = -1, /) -> bytes:
        raise AudioError(
            f"{STDIN_NAME}: more than {MAX_STDIN_BYTES >> 20} MiB, which is as much as is kept of it; write it to a file and "
            "name that"
        )


def _below(folder: str, tell: Tell) -> list[RecordingFile]:
    found = find_audio(Path(folder))
    if found.notice:
        tell(f"{folder}: {found.notice}")
    return [RecordingFile(str(path), path.relative_to(folder).with_suffix("")) for path in found.paths]
