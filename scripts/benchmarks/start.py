"""Seconds until ``asr --help`` is there."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from statistics import median

from benchmarks.measure import RUNS, seconds

DESCRIPTION = "seconds that `asr --help` takes"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the benchmark's arguments: none."""


def run(args: argparse.Namespace) -> None:
    """Print the median."""
    command = [str(Path(sys.executable).with_name("asr")), "--help"]
    times = [seconds(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL)) for _ in range(RUNS)]
    print(f"asr --help: median {median(times):.3f} s, {min(times):.3f} to {max(times):.3f} s over {RUNS} runs")
