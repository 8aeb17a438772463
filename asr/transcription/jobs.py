"""Which recordings are transcribed, in which formats and into which files; what cannot be is refused before any work."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from asr.errors import ConfigError
from asr.files import check_output_folder
from asr.mixing import Tell
from asr.option import nearest
from asr.transcription.sources import STDIN, RecordingFile, find_sources, is_done, output_paths
from asr.transcription.writers import FORMATS, recording_id

Job = tuple[RecordingFile, tuple[Path, ...]]
"""A recording and the files that its transcripts go to, one for each format; none where they are only printed."""

_ONE_EACH = ("srt", "vtt", "tsv")  # formats that cannot hold several recordings, one after the other


def read_formats(wanted: str, *, printed: bool) -> tuple[str, ...]:
    """Read formats divided by commas, or ``all``.

    Parameters
    ----------
    wanted
        What was given, such as ``srt,json``.
    printed
        Whether transcripts are printed, which only one format can be.

    Raises
    ------
    ConfigError
        There is no such format, or several are to be printed.
    """
    names = wanted.split(",")
    formats = FORMATS if names == ["all"] else tuple(dict.fromkeys(names))
    for format in formats:
        if format not in FORMATS:
            raise ConfigError(
                f"--format {wanted}: {format!r} is none.{nearest(format, FORMATS)} There are: {', '.join(FORMATS)}, all"
            )
    if len(formats) > 1 and printed:
        raise ConfigError(f"--format {wanted}: only one can be printed; write files with -o DIR, without --stdout")
    return formats


def find_jobs(names: Iterable[str], formats: Sequence[str], folder: Path | None, *, printed: bool, tell: Tell) -> list[Job]:
    """Find what files, folders and ``-`` stand for, in the order in which it is transcribed.

    Parameters
    ----------
    names, tell
        As for :func:`asr.transcription.sources.find_sources`.
    formats
        What :func:`read_formats` returned.
    folder
        Where transcripts are written; None where they are only printed.
    printed
        Whether transcripts are printed.

    Raises
    ------
    ConfigError
        A folder that cannot be written to, standard input without audio, transcripts that would overwrite each other or a
        recording, or recordings that cannot be printed one after the other.
    DataError
        A folder without audio.
    """
    sources = find_sources(names, tell)
    if any(source.path == STDIN for source in sources):
        _check_stdin()
    if printed and len(sources) > 1:
        sources = _printable(sources, formats[0])
    if folder is None:
        return [(source, ()) for source in sources]
    check_output_folder(folder)
    return list(zip(sources, output_paths(sources, folder, formats), strict=True))


def not_done(jobs: Iterable[Job]) -> list[Job]:
    """Return the jobs without those whose transcripts are there and not older than the recording."""
    return [job for job in jobs if not is_done(*job)]


def _check_stdin() -> None:
    if sys.stdin is None or sys.stdin.isatty():
        state = "closed" if sys.stdin is None else "a terminal"
        raise ConfigError(f"standard input is {state}; expected audio, as in `asr transcribe - < talk.mp3`")


def _printable(sources: Sequence[RecordingFile], format: str) -> list[RecordingFile]:
    """Return several recordings in the order in which a format can be printed; CTM is sorted."""
    if format in _ONE_EACH:
        raise ConfigError(f"--format {format}: printed, it holds one recording, not {len(sources)}; write files with -o DIR")
    if format != "ctm":
        return list(sources)
    found: dict[str, RecordingFile] = {}
    for source in sources:
        other = found.setdefault(recording_id(source.stem.name), source)
        if other is not source:
            raise ConfigError(f"--format ctm: {other.path} and {source.path} would have one name; write files with -o DIR")
    return [found[name] for name in sorted(found)]
