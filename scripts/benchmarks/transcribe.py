"""Transcription of files, ours and by peers, each in a process of its own."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from asr.commands.numbers import positive
from asr.data.manifest import transcript
from asr.scoring import ErrorRate, score
from benchmarks import whisper
from benchmarks.measure import make_environment, markdown, module_environment
from benchmarks.utterances import (
    ERROR_HEAD,
    MANIFEST_HELP,
    MODEL_HELP,
    error_cells,
    load_word_model,
    read_utterances,
    write_recordings,
)
from benchmarks.worker import Measured, run_worker

DESCRIPTION = (
    "WER, real-time factor, start-up and peak memory of transcription, and the same of PocketSphinx and of Whisper's models "
    "tiny.en and base. All are given the same WAV files of 16 kHz, one at a time, and all texts are normalised as the model's "
    "tokenizer does it; Whisper is kept from writing digits and signs, and its titles (Mr.) are written out, since they would "
    "count as errors. The real-time factor is processor time by seconds of audio, in a process on one core, loading left out; "
    "elapsed is the same by the wall clock. Start-up is the time from the start of a process until the text of the shortest "
    "file is out."
)
RUNS = 3
HEAD = ["system", *ERROR_HEAD, "real-time factor", "elapsed", "loading", "start-up", "peak memory"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the benchmark's arguments."""
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument("manifest", metavar="MANIFEST", help=MANIFEST_HELP)
    parser.add_argument(
        "utterances", nargs="?", type=positive, default=100, metavar="UTTERANCES", help="how many, from all over (%(default)s)"
    )
    parser.add_argument(
        "environments",
        nargs="?",
        type=Path,
        metavar="ENVIRONMENTS",
        help="folder of the peers' virtual environments, which are made in it if they are not there; without it, no peers",
    )
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS), metavar="PEER", help="(pocketsphinx whisper)")


def run(args: argparse.Namespace) -> None:
    """Print a table of the systems, and how we compare."""
    recogniser = load_word_model(args.model)
    package, decoder = recogniser.package, recogniser.decoder.signature
    del recogniser  # its memory is for the processes
    cuts = read_utterances(args.manifest, args.utterances)
    references = {cut.id: transcript(cut) for cut in cuts}
    audio_s = sum(cut.duration for cut in cuts)
    print(
        f"{len(cuts)} utterances of {args.manifest}, {audio_s:.0f} s; one thread, medians of {RUNS} runs, loading once; "
        f"decoder {decoder}",
        flush=True,
    )
    found: list[tuple[Measured, ErrorRate, float]] = []

    def add(measured: Measured, command: Sequence[str]) -> None:
        texts = dict(zip(references, measured.texts, strict=True))
        wer = score(references, texts, normalise=package.tokenizer.normalise).wer
        found.append((measured, wer, median(_startup_s(command) for _ in range(RUNS))))

    with tempfile.TemporaryDirectory() as folder:
        files = write_recordings(cuts, Path(folder))
        shortest = str(min(files, key=lambda file: file.stat().st_size))
        asr = str(Path(sys.executable).with_name("asr"))
        add(
            run_worker(sys.executable, "benchmarks.asr_worker", files, runs=RUNS, model=package.folder),
            [asr, "transcribe", shortest, "--model", str(package.folder), "--threads", "1"],
        )
        for peer in args.peers if args.environments else []:
            for python, worker, model in PEERS[peer](args.environments / peer):
                measured = run_worker(python, worker, files, runs=RUNS, model=model)
                add(measured, [str(python), "-m", worker, "text", shortest, *([model] if model else [])])
    print(markdown(HEAD, *(_row(*system, audio_s) for system in found)))
    ours, our_wer, _ = found[0]
    for theirs, their_wer, _ in found[1:]:
        times = median(theirs.processor_s) / median(ours.processor_s)
        print(
            f"WER {100 * our_wer.rate:.2f} % against {100 * their_wer.rate:.2f} % of {theirs.system}; {times:.1f} times as fast"
        )


def _pocketsphinx(environment: Path) -> list[tuple[Path, str, str | None]]:
    return [(make_environment(environment, "pocketsphinx"), "benchmarks.pocketsphinx_worker", None)]


def _whisper(environment: Path) -> list[tuple[Path, str, str | None]]:
    python = make_environment(environment, *whisper.REQUIREMENTS)
    models = whisper.whisper_models(environment)
    return [(python, "benchmarks.whisper_worker", f"{folder}={name}") for name, folder in models.items()]


PEERS: dict[str, Callable[[Path], list[tuple[Path, str, str | None]]]] = {"pocketsphinx": _pocketsphinx, "whisper": _whisper}
"""Of each peer, what makes its environment and returns an interpreter, a worker and a model for each of its systems."""


def _row(measured: Measured, wer: ErrorRate, startup_s: float, audio_s: float) -> list[str]:
    factor, elapsed = median(measured.processor_s) / audio_s, median(measured.elapsed_s) / audio_s
    return [
        measured.system,
        *error_cells(wer),
        f"{factor:.4f} ({1 / factor:.0f}x real time)",
        f"{elapsed:.4f}",
        f"{measured.loading_s:.2f} s",
        f"{startup_s:.2f} s",
        f"{measured.peak_memory_gib:.2f} GiB",
    ]


def _startup_s(command: Sequence[str]) -> float:
    """Return the time from the start of a process until its first line is out (s)."""
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=module_environment()) as process:
        assert process.stdout is not None
        process.stdout.readline()
        elapsed = time.perf_counter() - start
        process.stdout.read()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return elapsed
