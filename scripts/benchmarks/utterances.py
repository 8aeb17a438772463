"""The utterances that transcription is measured on, and the model that writes them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile

import asr
from asr.audio import load_audio
from asr.config import MANIFESTS
from asr.data.manifest import read_manifest
from asr.data.reading import read_cut, to_int16
from asr.errors import ConfigError
from asr.scoring import ErrorRate

if TYPE_CHECKING:
    from lhotse import CutSet

    from asr import Recogniser

SAMPLE_RATE = 16000
MODEL_HELP = "folder of a model package, or a name that `asr models` lists; its decoder as it stands"
ERROR_HEAD = ("WER", "95 % interval", "S", "D", "I", "N")
MANIFEST_HELP = "such as librispeech/dev-clean-b, or a path"


def load_word_model(model: str) -> Recogniser:
    """Load a model that writes words, with all options by default.

    Raises
    ------
    ConfigError
        It writes something else, which no peer does.
    """
    recogniser = asr.load_model(model)
    if not recogniser.decoder.writes_words:
        raise ConfigError(
            f"{model}: writes {recogniser.package.tokenizer.kind}, expected words; take a package whose decoding.kind is "
            "beam_ngram with a lexicon"
        )
    return recogniser


def read_utterances(manifest: str, n_utterances: int | None = None) -> CutSet:
    """Read a manifest, or a number of its utterances from all over it, since it is ordered by speaker."""
    from lhotse import CutSet

    cuts = list(read_manifest(manifest, MANIFESTS))
    n = min(n_utterances or len(cuts), len(cuts))
    return CutSet.from_cuts(cuts[k * len(cuts) // n] for k in range(n))


def write_recordings(cuts: CutSet, folder: Path) -> list[Path]:
    """Write each utterance as a WAV of 16 bits and 16 kHz, which every system reads alike."""
    files = []
    for number, cut in enumerate(cuts):
        files.append(folder / f"{number:06}.wav")
        soundfile.write(files[-1], to_int16(read_cut(cut, SAMPLE_RATE)), SAMPLE_RATE)
    return files


def read_recording(file: Path) -> np.ndarray:
    """Read ``(sample,)`` int16 of a file that :func:`write_recordings` wrote."""
    return to_int16(load_audio(file, SAMPLE_RATE))


def error_cells(wer: ErrorRate) -> list[str]:
    """Return a word error rate as cells of a table, below :data:`ERROR_HEAD`."""
    interval = f"{100 * wer.interval.low:.2f} to {100 * wer.interval.high:.2f}"
    return [f"{100 * wer.rate:.2f} %", interval, *map(str, wer.counts.to_mapping().values())]
