"""``train_language_model``: what `asr lm train` runs."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from asr.language.config import LstmTraining, NgramTraining
from asr.output import showing_messages


def train_language_model(config: NgramTraining | LstmTraining) -> int:
    """Train a language model and write its package to ``config.output``.

    Parameters
    ----------
    config
        A checked configuration.

    Returns
    -------
    int
        0 when it is complete, 130 when the user stopped it.

    Raises
    ------
    ConfigError, DataError
        For texts, programs or a folder that cannot be used.
    Failure
        It could not be completed.
    """
    if isinstance(config, NgramTraining):
        from asr.language.ngram_training import train_ngram

        with showing_messages(), _ended_by_sigterm():
            train_ngram(config)
        return 0
    from asr.language.lstm_training import train_lstm

    return train_lstm(config)


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the work as Ctrl-C does, so that no temporary file is left."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
