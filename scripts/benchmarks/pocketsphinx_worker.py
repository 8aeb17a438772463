"""PocketSphinx with its own US English model and its default settings; see :mod:`benchmarks.worker`."""

from __future__ import annotations

import wave
from collections.abc import Callable

from benchmarks.worker import work


def load(model: str | None) -> tuple[str, Callable[[str], str]]:
    """Return its name and version, and what decodes a whole utterance at once; there is but one model."""
    from importlib.metadata import version

    from pocketsphinx import Decoder

    decoder = Decoder(loglevel="FATAL")

    def recognise(file: str) -> str:
        with wave.open(file) as audio:
            samples = audio.readframes(audio.getnframes())
        decoder.start_utt()
        decoder.process_raw(samples, full_utt=True)
        decoder.end_utt()
        hypothesis = decoder.hyp()
        return str(hypothesis.hypstr) if hypothesis else ""

    return f"PocketSphinx {version('pocketsphinx')}, en-us", recognise


if __name__ == "__main__":
    work(load)
