"""What a transcription shows of itself on a terminal."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

from asr.audio import probe_audio
from asr.data import progress
from asr.errors import AudioError
from asr.transcription.sources import STDIN, Source


@contextmanager
def seconds_display(sources: Iterable[Source]) -> Iterator[Callable[[float], None]]:
    """Yield what counts the seconds of audio that are done; they are shown where standard error is a terminal."""
    on_terminal = sys.stderr.isatty()
    total_s = _total_s([source.path for source in sources]) if on_terminal else 0.0
    stream = sys.stderr if on_terminal else io.StringIO()
    with progress.Progress("transcribing", round(total_s), "s of audio", stream) as display:
        done_s = 0.0

        def count(seconds: float) -> None:
            nonlocal done_s
            done_s += seconds
            display.advance(int(done_s) - display.done)  # takes whole ones

        yield count


def _total_s(paths: list[str]) -> float:
    """Return the length of the recordings, 0 if it is not known before they are read."""
    total_s = 0.0
    if STDIN not in paths:
        for path in paths:
            with suppress(AudioError):  # named when its turn comes
                total_s += probe_audio(path, exact=False).duration_s
    return total_s
