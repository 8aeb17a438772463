"""Transcripts to text and JSON, on standard output or as files."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from asr.data.manifest import replacing
from asr.errors import ConfigError
from asr.transcription.transcript import Segment, Transcript

FORMATS = ("txt", "json")


def render(transcript: Transcript, format: str) -> str:
    """Return a transcript as text that ends in a newline.

    Parameters
    ----------
    transcript
        What to show.
    format
        ``txt`` is the text alone; ``json`` has the keys file, duration_s, text, segments (start_s, end_s, text) and model
        (name, checkpoint). Segments whose words were found have also confidence and words (text, start_s, end_s,
        confidence).
    """
    if format == "txt":
        return transcript.text + "\n"
    if format != "json":
        raise ConfigError(f"format {format!r}: there are {', '.join(FORMATS)}")
    mapping = {
        "file": transcript.file,
        "duration_s": round(transcript.duration_s, 3),
        "text": transcript.text,
        "segments": [_segment(segment) for segment in transcript.segments],
        "model": {"name": transcript.model_name, "checkpoint": transcript.checkpoint_hash},
    }
    return json.dumps(mapping, ensure_ascii=False) + "\n"


def _segment(segment: Segment) -> dict[str, Any]:
    mapping: dict[str, Any] = {"start_s": round(segment.start_s, 3), "end_s": round(segment.end_s, 3), "text": segment.text}
    if segment.confidence is not None:
        mapping["confidence"] = round(segment.confidence, 3)
        mapping["words"] = [
            {
                "text": word.text,
                "start_s": round(word.start_s, 3),
                "end_s": round(word.end_s, 3),
                "confidence": round(word.confidence, 3),
            }
            for word in segment.words
        ]
    return mapping


def output_paths(sources: Iterable[str], folder: Path, format: str) -> list[Path]:
    """Return the file that each source's transcript goes to, ``<folder>/<stem>.<format>``.

    Raises
    ------
    ConfigError
        Where two sources would be written to one file, or a source would be overwritten.
    """
    paths: dict[str, tuple[Path, str]] = {}
    for source in sources:
        path = folder / f"{Path(source).stem}.{format}"
        # Case is folded because some file systems do not tell it apart.
        key = str(path).casefold()
        if key in paths:
            other = paths[key][1]
            raise ConfigError(f"{other} and {source} would both be written to {path}; transcribe them into different folders")
        if os.path.abspath(path) == os.path.abspath(source):
            raise ConfigError(f"{source} would be overwritten by its transcript; choose another folder")
        paths[key] = (path, source)
    return [path for path, _ in paths.values()]


def write_transcript(transcript: Transcript, path: Path, format: str) -> Path:
    """Write a transcript, whole or not at all, and return the file's path.

    Raises
    ------
    StorageError
        The file cannot be written.
    """
    with replacing(path) as stream:
        stream.write(render(transcript, format).encode("utf-8", "surrogateescape"))
    return path
