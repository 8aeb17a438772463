"""Normalising of lines of any length: what a character costs must not depend on how many there are."""

from __future__ import annotations

import argparse
import time
from statistics import median

from asr.text import Normaliser
from benchmarks.measure import markdown

DESCRIPTION = "microseconds of processor time that normalising a character takes, by the length of its line"
_LENGTHS = (1_000, 10_000, 100_000, 1_000_000)
_LINES = {
    "plain words": ("", "it was a plain sentence, "),
    "punctuation": ("", "A well-known one (in the U.S.); "),
    "quotations": ("", "'mine,' he said, and 'yours' "),
    "a quotation without an end": ("'once ", "the dogs' bowl "),
    "quotations inside each other": ("'once " * 1000, "upon' a time "),
}
_RUNS = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the benchmark's arguments: none."""


def run(args: argparse.Namespace) -> None:
    """Print a table: microseconds a character, medians."""
    form = Normaliser(" 'abcdefghijklmnopqrstuvwxyz")
    rows = [["line of", *(f"{length:,} characters" for length in _LENGTHS)]]
    for name, (begin, rest) in _LINES.items():
        lines = [(begin + rest * length)[:length] for length in _LENGTHS]
        rows.append([name, *(f"{1e6 * median(_seconds(form, line) for _ in range(_RUNS)) / len(line):.2f}" for line in lines)])
    print(markdown(*rows))


def _seconds(form: Normaliser, line: str) -> float:
    start = time.process_time()
    form.normalise(line)
    return time.process_time() - start
