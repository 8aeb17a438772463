"""Transcripts as text, JSON, subtitles and tables."""

from __future__ import annotations

import html
from collections.abc import Callable
from pathlib import Path
from typing import Any

from asr.decoding.hypothesis import Word
from asr.errors import ConfigError
from asr.files import replacing
from asr.output import one_line, to_json
from asr.transcription.sources import losses_path
from asr.transcription.subtitles import SubtitleLayout, make_cues
from asr.transcription.transcript import Segment, Transcript


def render(transcript: Transcript, format: str, layout: SubtitleLayout | None = None) -> str:
    """Return a transcript as text that is empty or ends in a newline.

    Parameters
    ----------
    transcript
        What to show.
    format
        ``txt``: the text alone; nothing where there is none. ``json``: one line with the keys file, channel, duration_s, text,
        segments (start_s, end_s, text), model (name, checkpoint) and, where there are any, notices and losses; segments whose
        words were found have also confidence and words (text, start_s, end_s, confidence), and those with other readings have
        alternatives (texts). ``srt``, ``vtt``: SubRip and WebVTT subtitles. ``tsv``: a header, then start and end (ms) and text
        of each segment, divided by tabs. ``ctm``: for each word recording, channel (from 1), start and duration (s), text,
        confidence, as NIST's sclite reads them.
    layout
        What subtitles may look like; by default what :class:`SubtitleLayout` says.

    Raises
    ------
    ConfigError
        An unknown format, or one that shows :data:`NEEDS_WORDS` where the words' times were not asked for.
    """
    if format not in _RENDERERS:
        raise ConfigError(f"format {format!r}: there are {', '.join(_RENDERERS)}")
    return _RENDERERS[format](transcript, layout or SubtitleLayout())


def write_transcript(transcript: Transcript, path: Path, format: str, layout: SubtitleLayout | None = None) -> None:
    """Write a transcript, whole or not at all.

    What could not be read of its recording is listed in the file that :func:`asr.transcription.sources.losses_path` names. It
    is there before the transcript is, and goes when one without losses has taken its place.

    Raises
    ------
    StorageError
        A file cannot be written.
    """
    marker = losses_path(path)
    if transcript.losses:
        _write(marker, "".join(f"{one_line(loss)}\n" for loss in transcript.losses))
    _write(path, render(transcript, format, layout))
    if not transcript.losses and marker.is_file():
        marker.unlink()


def _write(path: Path, text: str) -> None:
    with replacing(path) as stream:
        stream.write(text.encode("utf-8", "surrogateescape"))


def recording_id(stem: str) -> str:
    """Return what CTM calls a recording: the name of its file without folder and ending, blanks replaced by ``_``."""
    return "_".join(stem.split()) or "_"


def _txt(transcript: Transcript, _: SubtitleLayout) -> str:
    return f"{transcript.text}\n" if transcript.segments else ""


def _json(transcript: Transcript, _: SubtitleLayout) -> str:
    mapping: dict[str, Any] = {
        "file": transcript.file,
        "channel": transcript.channel,
        "duration_s": round(transcript.duration_s, 3),
        "text": transcript.text,
        "segments": [_segment(segment) for segment in transcript.segments],
        "model": {"name": transcript.model_name, "checkpoint": transcript.checkpoint_hash},
    }
    if transcript.notices:
        mapping["notices"] = list(transcript.notices)
    if transcript.losses:
        mapping["losses"] = list(transcript.losses)
    return to_json(mapping) + "\n"


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
    if segment.alternatives:
        mapping["alternatives"] = list(segment.alternatives)
    return mapping


def _srt(transcript: Transcript, layout: SubtitleLayout) -> str:
    cues = make_cues(_words(transcript, "srt"), layout)
    return "\n".join(
        f"{number}\n{_clock(cue.start_ms, ',')} --> {_clock(cue.end_ms, ',')}\n" + "".join(f"{line}\n" for line in cue.lines)
        for number, cue in enumerate(cues, start=1)
    )


def _vtt(transcript: Transcript, layout: SubtitleLayout) -> str:
    cues = make_cues(_words(transcript, "vtt"), layout)
    return "WEBVTT\n" + "".join(
        f"\n{_clock(cue.start_ms, '.')} --> {_clock(cue.end_ms, '.')}\n"
        + "".join(f"{html.escape(line, quote=False)}\n" for line in cue.lines)
        for cue in cues
    )


def _tsv(transcript: Transcript, _: SubtitleLayout) -> str:
    rows = (
        f"{round(1000 * segment.start_s)}\t{round(1000 * segment.end_s)}\t{' '.join(segment.text.split())}\n"
        for segment in transcript.segments
    )
    return "start\tend\ttext\n" + "".join(rows)


def _ctm(transcript: Transcript, _: SubtitleLayout) -> str:
    name = recording_id(Path(transcript.file).stem)
    channel = 1 + (transcript.channel or 0)
    rows = []
    for word in sorted(_words(transcript, "ctm"), key=lambda word: word.start_s):
        start_ms, end_ms = round(1000 * word.start_s), round(1000 * word.end_s)
        times = f"{start_ms / 1000:.3f} {(end_ms - start_ms) / 1000:.3f}"
        rows.append(f"{name} {channel} {times} {word.text} {word.confidence:.3f}\n")
    return "".join(rows)


def _words(transcript: Transcript, format: str) -> list[Word]:
    if not all(segment.words for segment in transcript.segments):
        raise ConfigError(
            f"{transcript.file}: {format} shows when words are said, and this transcript does not know; make it with words=True"
        )
    return [word for segment in transcript.segments for word in segment.words]


def _clock(milliseconds: int, mark: str) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{mark}{rest:03d}"


_RENDERERS: dict[str, Callable[[Transcript, SubtitleLayout], str]] = {
    "txt": _txt,
    "json": _json,
    "srt": _srt,
    "vtt": _vtt,
    "tsv": _tsv,
    "ctm": _ctm,
}
FORMATS = tuple(_RENDERERS)
"""What a transcript can be written as; the name is the file's ending."""

SUBTITLES = frozenset({"srt", "vtt"})
"""Formats that a :class:`SubtitleLayout` shapes."""

NEEDS_WORDS = SUBTITLES | {"ctm"}
"""Formats that show when each word is said."""
