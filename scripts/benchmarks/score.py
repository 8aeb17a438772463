"""Seconds that scoring takes, by step, of utterances as long as LibriSpeech's."""

from __future__ import annotations

import argparse
import random
import time

from asr.commands.numbers import positive
from asr.scoring import score
from asr.scoring.breakdown import break_down
from asr.scoring.compare import System, compare
from benchmarks.measure import markdown

DESCRIPTION = __doc__ or ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the benchmark's arguments."""
    parser.add_argument(
        "--utterances", type=positive, default=100_000, metavar="N", help="utterances of a corpus (%(default)s)"
    )


def run(args: argparse.Namespace) -> None:
    """Score two systems with a fifth of all words wrong, and compare them."""
    rng = random.Random(1)
    words = [f"w{index}" for index in range(20_000)]
    said = {f"u{index}": " ".join(rng.choices(words, k=rng.randint(3, 32))) for index in range(args.utterances)}
    speakers = {name: f"s{index % 250}" for index, name in enumerate(said)}
    heard = [
        {
            name: " ".join(rng.choice(words) if rng.random() < 0.2 else word for word in text.split())
            for name, text in said.items()
        }
        for _ in range(2)
    ]
    rows: list[list[str]] = []

    def clock(name: str, started: float) -> float:
        now = time.perf_counter()
        rows.append([name, f"{now - started:.1f}"])
        return now

    now = time.perf_counter()
    scores = [score(said, texts, speakers=speakers) for texts in heard]
    now = clock("WER, CER, SER and intervals over 250 speakers, two systems", now)
    score(said, heard[0])
    now = clock("the same over utterances, one system", now)
    systems = [System.of(name, one) for name, one in zip("AB", scores, strict=True)]
    now = clock("aligned words, two systems", now)
    break_down(scores[0], systems[0].alignments, {name: {"speaker": speaker} for name, speaker in speakers.items()})
    now = clock("breakdown by 250 speakers and by length, one system", now)
    compare(systems, speakers)
    clock("comparison", now)
    print(markdown([f"{args.utterances:,} utterances", "seconds"], *rows))
