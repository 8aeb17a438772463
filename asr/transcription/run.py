"""Recordings one after the other: each transcript is written, told of and printed as soon as it is ready."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from asr.errors import AudioError
from asr.mixing import Tell
from asr.output import one_line, print_utf8
from asr.transcription.display import display_seconds
from asr.transcription.jobs import Job
from asr.transcription.recogniser import Recogniser
from asr.transcription.sources import open_source
from asr.transcription.subtitles import SubtitleLayout
from asr.transcription.transcript import Transcript
from asr.transcription.writers import render, write_transcript


@dataclass
class TranscriptionRun:
    """What is made of transcripts, and how far a transcription has come.

    Attributes
    ----------
    formats, layout
        How they are written; the first format is the one that is printed.
    printed, named
        Whether they are printed, and each behind the name of its file.
    tell
        Told what there is to say of a file.
    n_done
        How many files are done.
    failed, partial
        The files that could not be transcribed, and those of which a part could not.
    """

    formats: Sequence[str]
    layout: SubtitleLayout
    printed: bool
    named: bool
    tell: Tell
    n_done: int = 0
    failed: list[str] = field(default_factory=list)
    partial: list[str] = field(default_factory=list)

    def transcribe(self, recogniser: Recogniser, jobs: Sequence[Job]) -> None:
        """Transcribe all; a file that cannot be is told of, and the others go on."""
        with display_seconds(source for source, _ in jobs) as progress:
            sources = (open_source(source) for source, _ in jobs)
            for result in recogniser.transcribe_many(sources, on_progress=progress.advance):
                source, paths = jobs[self.n_done]
                progress.clear()
                if isinstance(result, AudioError):
                    self.tell(str(result))
                    self.failed.append(source.path)
                else:
                    self._deliver(result, paths)
                self.n_done += 1

    def _deliver(self, transcript: Transcript, paths: Sequence[Path]) -> None:
        for format, path in zip(self.formats, paths, strict=bool(paths)):
            write_transcript(transcript, path, format, self.layout)
        for notice in (*transcript.notices, *transcript.losses):
            self.tell(f"{transcript.file}: {notice}")
        if transcript.losses:
            self.partial.append(transcript.file)
        if self.printed:
            text = render(transcript, self.formats[0], self.layout)
            print_utf8(f"{one_line(transcript.file)}: {text or chr(10)}" if self.named else text)
