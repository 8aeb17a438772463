"""What is known of a recording while it is transcribed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from asr.errors import AudioError
from asr.mixing import SILENT, is_silent
from asr.transcription.transcript import Segment
from asr.transcription.windows import Window


@dataclass(eq=False)
class Recording:
    """A source on its way through the batches.

    Attributes
    ----------
    name
        What to call it.
    n_read, n_told
        Samples read, and samples that were told of as done.
    n_windows
        Windows that were given to the network.
    silent
        Whether nothing was in the samples read.
    error
        Why there are no more samples.
    held
        The last segment, where the next window shares audio with it.
    notices
        What was done to the audio that should be known.
    losses
        What could not be read of it.
    """

    name: str
    n_read: int = 0
    n_told: int = 0
    n_windows: int = 0
    silent: bool = True
    error: AudioError | None = None
    held: Segment | None = None
    notices: list[str] = field(default_factory=list)
    losses: list[str] = field(default_factory=list)

    def counted(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Hand on blocks of samples, ``(sample,)`` float32, and remember what went by."""
        for block in blocks:
            self.n_read += len(block)
            self.silent = self.silent and is_silent(block)
            yield block

    def told(self, window: Window | None) -> int:
        """Return the samples that are done with a window, or with the end, and were not before."""
        n_done = self.n_read if window is None else window.end
        n_new, self.n_told = n_done - self.n_told, n_done
        return n_new

    def all_notices(self, n_segments: int, sample_rate: int) -> tuple[str, ...]:
        """Return what should be known of it, and why there is no text where there are no segments."""
        if n_segments:
            return tuple(self.notices)
        if self.silent:
            why = SILENT
        elif self.n_windows:
            why = "no words were recognised in it"
        else:
            why = f"no speech was found in its {self.n_read / sample_rate:.1f} s; --no-vad (vad=False) recognises all of it"
        return (*self.notices, why)
