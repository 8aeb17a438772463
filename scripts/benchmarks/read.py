"""Reading of short recordings, where what is done once a file counts."""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import soundfile

from asr.audio import load_audio
from benchmarks.measure import markdown, seconds

DESCRIPTION = "milliseconds that reading a short recording takes, of each format, the first time and again"
_RATE = 16000
_FORMATS = {"wav": {}, "flac": {}, "mp3": {}, "ogg": {}, "opus": {"format": "OGG", "subtype": "OPUS"}}
_TURNS = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the benchmark's arguments."""
    parser.add_argument("--files", type=int, default=200, metavar="N", help="recordings of each format (default: 200)")
    parser.add_argument("--seconds", type=float, default=0.5, metavar="S", help="length of each (default: 0.5 s)")


def run(args: argparse.Namespace) -> None:
    """Print a table: medians of all files, and of the turns after the first."""
    rows = [["", "first", "again"]]
    with tempfile.TemporaryDirectory() as folder:
        for ending, options in _FORMATS.items():
            paths = [_write(Path(folder) / f"{number}.{ending}", number, args.seconds, options) for number in range(args.files)]
            load_audio(_write(Path(folder) / f"warm.{ending}", 0, args.seconds, options), _RATE)
            first, *again = (median(seconds(partial(load_audio, path, _RATE)) for path in paths) for _ in range(_TURNS))
            rows.append([ending, f"{1000 * first:.3f} ms", f"{1000 * median(again):.3f} ms"])
    print(markdown(*rows))


def _write(path: Path, number: int, length_s: float, options: dict[str, str]) -> Path:
    """Write a buzz in noise, another one for each number."""
    noise = np.random.default_rng(number).standard_normal(round(length_s * _RATE))
    time_s = np.arange(len(noise)) / _RATE
    buzz = sum(np.sin(2 * np.pi * 110 * harmonic * time_s) / harmonic for harmonic in range(1, 20))
    soundfile.write(path, 0.1 * buzz + 0.01 * noise, _RATE, **options)
    return path
