"""One system that recognises files, measured in a process of its own, with any interpreter.

usage: PYTHON -m benchmarks.SYSTEM_worker text FILE [MODEL]      print its text
       PYTHON -m benchmarks.SYSTEM_worker measure TASK RESULT    recognise as TASK says, and write what was measured to RESULT
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import peak_memory_gib, run_module


@dataclass(frozen=True)
class Measured:
    """What one system made of some files, on one core.

    Attributes
    ----------
    system
        Its name and version.
    texts
        Of each file.
    processor_s, elapsed_s
        Of each run: processor time of all threads and wall-clock time, reading the files included and loading left out.
    loading_s
        Imports and loading, wall-clock time.
    peak_memory_gib
        Of the whole process.
    """

    system: str
    texts: list[str]
    processor_s: list[float]
    elapsed_s: list[float]
    loading_s: float
    peak_memory_gib: float


def work(load: Callable[[str | None], tuple[str, Callable[[str], str]]]) -> None:
    """Do what the command line says.

    Parameters
    ----------
    load
        Given a model, returns the system's name and what turns a 16 kHz WAV file into text.
    """
    if sys.argv[1] == "text":
        print(load(sys.argv[3] if len(sys.argv) > 3 else None)[1](sys.argv[2]), flush=True)
        return
    task = json.loads(Path(sys.argv[2]).read_text())
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    began = time.perf_counter()
    system, recognise = load(task["model"])
    loading_s = time.perf_counter() - began
    texts: list[list[str]] = []
    processor_s, elapsed_s = [], []
    for _ in range(task["runs"]):
        processor, elapsed = time.process_time(), time.perf_counter()
        texts.append([recognise(file) for file in task["files"]])
        processor_s.append(time.process_time() - processor)
        elapsed_s.append(time.perf_counter() - elapsed)
    measured = Measured(system, texts[0], processor_s, elapsed_s, loading_s, peak_memory_gib())
    Path(sys.argv[3]).write_text(json.dumps(dataclasses.asdict(measured)))


def run_worker(
    python: Path | str, worker: str, files: Sequence[Path], *, runs: int, model: Path | str | None = None
) -> Measured:
    """Recognise files, one at a time, with a worker, and return what it measured."""
    with tempfile.TemporaryDirectory() as folder:
        task, result = Path(folder, "task.json"), Path(folder, "result.json")
        task.write_text(json.dumps({"model": model and str(model), "files": list(map(str, files)), "runs": runs}))
        run_module(python, worker, "measure", task, result)
        return Measured(**json.loads(result.read_text()))
