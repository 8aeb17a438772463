"""What a transcription shows of itself on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import suppress

from asr.audio import probe_audio
from asr.errors import AudioError
from asr.progress import Progress
from asr.transcription.sources import STDIN, RecordingFile


def display_seconds(sources: Iterable[RecordingFile]) -> Progress:
    """Return what counts the seconds of audio that are done, and shows them where standard error is a terminal."""
    total_s = _total_s([source.path for source in sources]) if sys.stderr.isatty() else 0.0
    return Progress("transcribing", total_s, "s of audio", in_logs=False)


def _total_s(paths: list[str]) -> float:
    """Return the length of the recordings, 0 if it is not known before they are read."""
    total_s = 0.0
    if STDIN not in paths:
        for path in paths:
            with suppress(AudioError):  # named when its turn comes
                total_s += probe_audio(path, exact=False).duration_s
    return total_s
