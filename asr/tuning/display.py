"""What is shown while a search runs: a line for each trial, and how far it has come."""

from __future__ import annotations

from types import TracebackType

from asr.progress import Progress
from asr.tuning.posteriors import Posteriors
from asr.tuning.search import Search
from asr.tuning.trial import Trial


class TuningDisplay:
    """Lines on standard output, and on a terminal a bar on standard error.

    Parameters
    ----------
    audio_s
        Length of the development set (s).
    """

    def __init__(self, audio_s: float) -> None:
        self._progress = Progress("network", audio_s, "s of audio", in_logs=False)

    def __enter__(self) -> TuningDisplay:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._progress.__exit__(kind, error, traceback)

    def advance(self, seconds: float) -> None:
        """Count audio as done."""
        self._progress.advance(seconds)

    def computed(self, posteriors: Posteriors) -> None:
        """Say what the network's output takes, and count the decoding from here on."""
        where = "a temporary file" if posteriors.on_disk else "memory"
        audio_s = sum(posteriors.durations_s)
        self._progress.tell(
            f"{len(posteriors.ids)} utterances, {audio_s / 3600:.3f} h: log-probabilities of {posteriors.n_frames} frames and "
            f"{posteriors.n_tokens} tokens take {posteriors.n_bytes / 2**20:.1f} MiB of {where}"
        )
        self._progress = Progress("decoding", audio_s, "s of audio", in_logs=False)

    def plan(self, seconds: float) -> None:
        """Say how much audio is still to be decoded, at most."""
        self._progress.total = self._progress.done + max(1.0, seconds)

    def trial(self, trial: Trial, search: Search) -> None:
        """Show a trial."""
        self._progress.tell(trial.line(search.n_trials) + ("  best" if trial is search.best else ""))
