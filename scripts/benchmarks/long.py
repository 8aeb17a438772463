"""A recording of hours, made of utterances, against the utterances one by one."""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

from asr.data.manifest import transcript
from asr.scoring import Counts, score
from benchmarks.measure import markdown
from benchmarks.utterances import (
    MANIFEST_HELP,
    MODEL_HELP,
    SAMPLE_RATE,
    load_word_model,
    read_recording,
    read_utterances,
    write_recordings,
)
from benchmarks.worker import Measured, run_worker

DESCRIPTION = (
    "Puts utterances one after the other, pauses of 0.2 to 1 s of digital silence between them, until a recording has its "
    "length, and transcribes it: peak memory of the process, real-time factor (processor time by seconds of audio, on "
    "one core; elapsed is the same by the wall clock), and WER of the whole against that of the same utterances one by one, "
    "in a process of their own."
)
SEED = 1
PAUSE_S = (0.2, 1.0)
MOST_HOURS = 36.0  # of 4 GiB, which is all that a WAV can hold
HEAD = ["recognised", "WER", "S", "D", "I", "N", "real-time factor", "elapsed", "peak memory"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the benchmark's arguments."""
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument("manifest", metavar="MANIFEST", help=MANIFEST_HELP)
    parser.add_argument(
        "hours",
        type=_hours,
        metavar="HOURS",
        help=f"at most {MOST_HOURS:g}; takes 0.11 GiB an hour of the temporary folder, until it is done",
    )


def run(args: argparse.Namespace) -> None:
    """Print a table of both ways, and the relative difference of their WER."""
    recogniser = load_word_model(args.model)
    package, decoder = recogniser.package, recogniser.decoder.signature
    del recogniser  # its memory is for the processes
    normalise = package.tokenizer.normalise
    cuts = read_utterances(args.manifest)
    n_enough = int(np.searchsorted(np.cumsum([cut.duration for cut in cuts]), args.hours * 3600)) + 1
    cuts = cuts.subset(first=min(n_enough, len(cuts)))
    said = [transcript(cut) for cut in cuts]
    with tempfile.TemporaryDirectory() as folder:
        files = write_recordings(cuts, Path(folder))
        recording = Path(folder, "long.wav")
        order = _join(files, recording, args.hours)
        files = files[: max(order) + 1]
        print(
            f"{args.hours:g} h of {args.manifest}: {len(order)} utterances, {len(files)} of them different; seed {SEED}; "
            f"asr.load_model with all options by default: voice activity detection on, decoder {decoder}; one thread",
            flush=True,
        )
        whole = run_worker(sys.executable, "benchmarks.asr_worker", [recording], runs=1, model=package.folder)
        recording_s = soundfile.info(recording).duration
        recording.unlink()
        single = run_worker(sys.executable, "benchmarks.asr_worker", files, runs=1, model=package.folder)
        single_s = sum(soundfile.info(file).duration for file in files)
    in_whole = score({"": " ".join(said[k] for k in order)}, {"": whole.texts[0]}, normalise=normalise).wer
    by_utterance = score(
        {str(n): said[k] for n, k in enumerate(order)},
        {str(n): single.texts[k] for n, k in enumerate(order)},
        normalise=normalise,
    ).wer
    print(
        markdown(
            HEAD,
            ["as one recording", *_cells(in_whole.rate, in_whole.counts, whole, recording_s)],
            ["one by one", *_cells(by_utterance.rate, by_utterance.counts, single, single_s)],
        )
    )
    relative = f"{100 * (in_whole.rate / by_utterance.rate - 1):+.2f} %" if by_utterance.rate else "undefined"
    print(f"relative difference of the WER: {relative}")


def _join(files: Sequence[Path], recording: Path, hours: float) -> list[int]:
    """Write a recording of utterances in their order, again and again; return which ones it has."""
    rng = np.random.default_rng(SEED)
    order: list[int] = []
    n_samples = round(hours * 3600 * SAMPLE_RATE)
    with soundfile.SoundFile(recording, "w", SAMPLE_RATE, 1, "PCM_16") as stream:
        for k in itertools.cycle(range(len(files))):
            stream.write(read_recording(files[k]))
            stream.write(np.zeros(round(rng.uniform(*PAUSE_S) * SAMPLE_RATE), np.int16))
            order.append(k)
            if stream.tell() >= n_samples:
                break
    return order


def _cells(rate: float, counts: Counts, measured: Measured, audio_s: float) -> list[str]:
    factor, elapsed = measured.processor_s[0] / audio_s, measured.elapsed_s[0] / audio_s
    return [
        f"{100 * rate:.2f} %",
        *map(str, counts.to_mapping().values()),
        f"{factor:.4f} ({1 / factor:.0f}x real time)",
        f"{elapsed:.4f}",
        f"{measured.peak_memory_gib:.2f} GiB",
    ]


def _hours(text: str) -> float:
    try:
        hours = float(text)
    except ValueError:
        hours = 0.0
    if not 0 < hours <= MOST_HOURS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of hours above 0, at most {MOST_HOURS:g}")
    return hours
