"""What becomes of the same utterances in noise, over the telephone, recorded too quietly and too loud."""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from lhotse import CutSet

from asr.commands.numbers import positive
from asr.config import AugmentConfig
from asr.data.chain import Chain
from asr.data.manifest import transcript
from asr.data.noise import Noise, read_noises
from asr.data.perturb import change_volume
from asr.data.reading import read_cut, to_int16
from asr.scoring import score
from asr.transcription.transcript import Transcript
from benchmarks.measure import markdown
from benchmarks.utterances import ERROR_HEAD, MANIFEST_HELP, MODEL_HELP, error_cells, load_word_model, read_utterances

DESCRIPTION = (
    "WER of the same utterances as they are, and in adverse conditions, by the augmentation of training with a fixed seed; "
    "each recording is rounded to 16 bits."
)
SEED = 1
CLIPPED = 0.1  # of the samples

Condition = Callable[[np.ndarray, str], np.ndarray]
"""From ``(sample,)`` float32 and the id of an utterance to ``(sample,)`` float32."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the benchmark's arguments."""
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument("manifest", metavar="MANIFEST", help=MANIFEST_HELP)
    parser.add_argument("noise", metavar="NOISE_FOLDER", help="recordings of noise, each utterance with one of them")
    parser.add_argument(
        "utterances", nargs="?", type=positive, metavar="UTTERANCES", help="how many, from all over (default: all)"
    )


def run(args: argparse.Namespace) -> None:
    """Print a table of the conditions."""
    recogniser = load_word_model(args.model)
    config = recogniser.package.config
    cuts = read_utterances(args.manifest, args.utterances)
    noises = read_noises(dataclasses.replace(config, augment=AugmentConfig(noise=[args.noise])), cuts)
    references = {cut.id: transcript(cut) for cut in cuts}
    print(
        f"{len(cuts)} utterances of {args.manifest}, {sum(cut.duration for cut in cuts):.0f} s; seed {SEED}; asr.load_model "
        f"with all options by default: voice activity detection on, decoder {recogniser.decoder.signature}",
        flush=True,
    )
    rows = []
    rate = recogniser.sample_rate
    for name, condition in _conditions(rate, noises).items():
        texts = {}
        for cut, found in zip(cuts, recogniser.transcribe_many(_recordings(cuts, condition, rate), rate), strict=True):
            if not isinstance(found, Transcript):
                raise found
            texts[cut.id] = found.text
        wer = score(references, texts, normalise=recogniser.package.tokenizer.normalise).wer
        rows.append([name, *error_cells(wer)])
    print(markdown(["condition", *ERROR_HEAD], *rows))


def _conditions(sample_rate: int, noises: list[Noise]) -> dict[str, Condition]:
    def chain(noises: Sequence[Noise] = (), **settings: Any) -> Condition:
        effects = Chain(dataclasses.replace(AugmentConfig(speed=[]), **settings), sample_rate, SEED, noises)
        return lambda waveform, utterance_id: effects(waveform, utterance_id, 0)

    return {
        "as they are": lambda waveform, _: waveform,
        "noise, 10 dB below the speech": chain(noises, noise_fraction=1.0, noise_snr_db=[10.0, 10.0]),
        "telephone, 300 to 3400 Hz, G.711 or GSM 06.10": chain(telephone_fraction=1.0),
        "30 dB quieter": chain(volume_fraction=1.0, volume_db=[-30.0, -30.0]),
        f"amplified until {100 * CLIPPED:g} % of the samples are clipped": lambda waveform, _: _clip(waveform),
    }


def _clip(waveform: np.ndarray) -> np.ndarray:
    """Amplify ``(sample,)`` float32 until a tenth of the samples is clipped; mere silence stays as it is."""
    level = float(np.quantile(np.abs(waveform), 1 - CLIPPED))
    return change_volume(waveform, -20 * math.log10(level)) if level else waveform


def _recordings(cuts: CutSet, condition: Condition, sample_rate: int) -> Iterator[np.ndarray]:
    """Yield ``(sample,)`` int16 of each utterance."""
    for cut in cuts:
        yield to_int16(condition(read_cut(cut, sample_rate), cut.id))
