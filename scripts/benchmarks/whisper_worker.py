"""OpenAI's Whisper by faster-whisper, int8 and greedy, without fallbacks; see :mod:`benchmarks.worker`.

It is told not to write numbers and signs with digits and symbols, and its few abbreviations are written out, as references are.
"""

from __future__ import annotations

import re
import wave
from collections.abc import Callable

from benchmarks.worker import work

_WRITTEN_OUT = {"mr": "mister", "mrs": "missus", "dr": "doctor", "st": "saint"}
_ABBREVIATION = re.compile(r"\b(mr|mrs|dr|st)\.(?=\s)", re.IGNORECASE)
_SIGNS = frozenset("0123456789$£€%&+")


def load(model: str | None) -> tuple[str, Callable[[str], str]]:
    """Return the name and what recognises a whole utterance at once; the model is a folder that ends in its name."""
    from importlib.metadata import version

    import numpy as np
    from faster_whisper import WhisperModel

    assert model is not None
    folder, _, name = model.rpartition("=")
    whisper = WhisperModel(folder, device="cpu", compute_type="int8", cpu_threads=1, num_workers=1)
    tokens = whisper.hf_tokenizer.get_vocab()
    suppressed = sorted({-1, *(number for token, number in tokens.items() if _SIGNS & set(token) and "<|" not in token)})

    def recognise(file: str) -> str:
        with wave.open(file) as audio:
            samples = np.frombuffer(audio.readframes(audio.getnframes()), np.int16)
        segments, _ = whisper.transcribe(
            samples.astype(np.float32) / 32768,
            language="en",
            beam_size=1,
            temperature=0.0,
            condition_on_previous_text=False,
            suppress_tokens=suppressed,
        )
        text = " ".join(segment.text.strip() for segment in segments)
        return _ABBREVIATION.sub(lambda match: _WRITTEN_OUT[match[1].lower()], text)

    return f"whisper-{name}, faster-whisper {version('faster-whisper')}", recognise


if __name__ == "__main__":
    work(load)
