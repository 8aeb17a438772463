"""Clocks, memory, tables and environments: what several benchmarks share. It imports nothing but the standard library."""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import time
import venv
from collections.abc import Callable, Sequence
from pathlib import Path

RUNS = 10


def seconds(action: Callable[[], object]) -> float:
    """Return how long an action takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def peak_memory_gib() -> float:
    """Return the most memory that this process has had (GiB).

    ``ru_maxrss`` is at least what the process that started this one had, so Linux is asked for the peak of this program alone.
    """
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**30  # macOS counts bytes


def markdown(*rows: Sequence[str]) -> str:
    """Return a table whose first row is its head."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def make_environment(folder: Path, *requirements: str) -> Path:
    """Return the interpreter of a virtual environment with some packages, which is made if it is not there."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    subprocess.run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *requirements], check=True)
    return python


def module_environment() -> dict[str, str]:
    """Return the variables of a process that runs one of these modules, with any interpreter."""
    return {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}


def run_module(python: Path | str, module: str, *arguments: Path | str) -> None:
    """Run one of these modules as a process of its own."""
    subprocess.run([python, "-m", module, *arguments], check=True, env=module_environment())


def add_overrides(parser: argparse.ArgumentParser, example: str) -> None:
    """Declare the arguments of a benchmark that takes nothing but overrides of the configuration."""
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help=f"such as {example}")
