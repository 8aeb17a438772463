"""``train --multirun``: one run for each combination of values, and a table that compares them."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from statistics import fmean

from asr.config import Config
from asr.data.manifest import manifest_stem, replacing
from asr.parts import CONFIG_NAME
from asr.training.run import INTERRUPTED, PACKAGE, RESULT

TABLE = "results.md"
_TEST = "test"
_OUTPUT = "output.log"


@dataclass(frozen=True)
class Job:
    """One run of a sweep.

    Attributes
    ----------
    overrides
        What it is trained with, ``output`` included.
    values
        Of the keys that the sweep varies: what tells it from the others.
    folder
        Its output folder.
    epochs
        How many it has; a run that was complete with fewer goes on.
    """

    overrides: tuple[str, ...]
    values: Mapping[str, str]
    folder: Path
    epochs: int

    @property
    def name(self) -> str:
        """``key=value`` of all that is varied."""
        return ",".join(f"{key}={value}" for key, value in self.values.items())


def build_jobs(combinations: Sequence[Sequence[str]], configs: Sequence[Config], base: Path) -> list[Job]:
    """Give each combination of values a folder of its own.

    Parameters
    ----------
    combinations
        As from :func:`asr.compose.expand`, without ``output``.
    configs
        The configuration of each.
    base
        The folder of the sweep.
    """
    rows = [dict(override.lstrip("+").split("=", 1) for override in overrides) for overrides in combinations]
    varied = [key for key in rows[0] if len({row[key] for row in rows}) > 1]
    jobs = []
    for overrides, row, config in zip(combinations, rows, configs, strict=True):
        values = {key: row[key] for key in varied}
        name = ",".join(f"{key}={value}" for key, value in values.items()).replace("/", "-") or "run"
        folder = base / name
        jobs.append(Job((*overrides, f"output='{folder}'"), values, folder, config.trainer.epochs))
    return jobs


def sweep(
    jobs: Sequence[Job],
    base: Path,
    *,
    options: Sequence[str] = (),
    parts: Sequence[str] = (),
    manifests: str = "data/manifests",
    side_by_side: int = 1,
    say: Callable[[str], None] = print,
) -> int:
    """Train all, each in a process of its own, and write ``results.md``.

    What is complete is not done again, so the same call goes on with a sweep that was stopped. A run that fails does not stop
    the others.

    Parameters
    ----------
    jobs
        As from :func:`build_jobs`.
    base
        The folder of the sweep, where the table is written: anew after each run.
    options
        Further arguments of ``asr train``.
    parts
        Manifests that each finished model is evaluated on.
    manifests
        Their folder.
    side_by_side
        How many train at a time; what more than one print goes to ``output.log`` in their folders.
    say
        Told what begins and what has failed.

    Returns
    -------
    int
        0, 1 where a run failed, 130 where the user stopped it.
    """
    stopped = threading.Event()

    def work(number: int, job: Job) -> int:
        if stopped.is_set():
            return INTERRUPTED
        say(f"[{number}/{len(jobs)}] {job.name}")
        log = job.folder / _OUTPUT if side_by_side > 1 else None
        codes = [0 if _is_complete(job) else _asr(log, "train", *job.overrides, *options)]
        for part in parts:
            if codes[-1] == 0 and not _is_evaluated(job, part):
                package, target = str(job.folder / PACKAGE), str(job.folder / _TEST)
                codes.append(_asr(log, "evaluate", package, part, "--manifests", manifests, "-o", target))
        if INTERRUPTED in codes:
            stopped.set()
            say(f"stopped in {job.name}; the same command goes on")
            return INTERRUPTED
        if any(codes):
            say(f"{job.name} failed with exit code {max(codes)}{f', see {log}' if log else ''}")
        return max(codes)

    failed: list[str] = []
    with ThreadPoolExecutor(side_by_side) as pool:
        running = {pool.submit(work, number, job): job for number, job in enumerate(jobs, start=1)}
        while running:
            try:
                done, _ = wait(running, return_when=FIRST_COMPLETED)
            except KeyboardInterrupt:  # the runs have it as well, and save
                stopped.set()
                continue
            for future in done:
                job = running.pop(future)
                failed += [job.name] if future.result() not in (0, INTERRUPTED) else []
            with replacing(base / TABLE) as file:
                file.write(table(jobs, parts).encode())
    if stopped.is_set():
        return INTERRUPTED
    say(f"\n{table(jobs, parts)}\n{base / TABLE}")
    if failed:
        say(f"{len(failed)} of {len(jobs)} runs failed: {'; '.join(failed)}")
    return 1 if failed else 0


def table(jobs: Sequence[Job], parts: Sequence[str]) -> str:
    """Return the Markdown table of what is complete, and where seeds are varied that of their means.

    Parameters
    ----------
    jobs
        The runs, complete or not.
    parts
        Manifests that they are evaluated on.
    """
    rows = [(job.values, row) for job in jobs if (row := _read(job, parts)) is not None]
    if not rows:
        return "no run is complete\n"
    text = _markdown([{**values, **_cells(row)} for values, row in rows])
    groups: dict[tuple[tuple[str, str], ...], list[Mapping[str, float]]] = {}
    for values, row in rows:
        groups.setdefault(tuple((key, value) for key, value in values.items() if key != "seed"), []).append(row)
    if len(groups) < len(rows):
        means = [{**dict(values), "runs": str(len(same)), **_mean_cells(same)} for values, same in groups.items()]
        text += f"\nMeans of the seeds, with the lowest and the highest:\n\n{_markdown(means)}"
    return text


def _asr(log: Path | None, *arguments: str) -> int:
    """Run a command in a process of its own and return its exit code; what it prints is added to the log where one is named.

    A process that a signal has ended has the code that a shell gives it: 128 and the signal's number.
    """
    command = [sys.executable, "-m", "asr", *arguments]
    if log is None:
        code = subprocess.run(command, check=False).returncode
    else:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            code = subprocess.run(command, check=False, stdout=output, stderr=output).returncode
    return code if code >= 0 else 128 - code


def _is_complete(job: Job) -> bool:
    result = job.folder / RESULT
    return result.exists() and json.loads(result.read_text(encoding="utf-8"))["epochs"] == job.epochs


def _is_evaluated(job: Job, part: str) -> bool:
    scores, package = _scores(job.folder, part), job.folder / PACKAGE / CONFIG_NAME
    return scores.exists() and scores.stat().st_mtime >= package.stat().st_mtime


def _scores(folder: Path, part: str) -> Path:
    return folder / _TEST / f"{manifest_stem(part)}.json"


def _read(job: Job, parts: Sequence[str]) -> dict[str, float] | None:
    """Return the figures of a run by their columns, or none where it is not complete."""
    if not _is_complete(job) or not all(_is_evaluated(job, part) for part in parts):
        return None
    files = [job.folder / RESULT, *(_scores(job.folder, part) for part in parts)]
    result, *scores = (json.loads(file.read_text(encoding="utf-8")) for file in files)
    row = {"parameters": result["parameters"], "training": result["trained_s"], "best epoch": result["best_epoch"]}
    if result["dev_wer"] is not None:
        row |= {"dev WER": result["dev_wer"], "dev CER": result["dev_cer"]}
    for part, score in zip(parts, scores, strict=True):
        row |= {f"{part} WER": score["wer"]["rate"], f"{part} CER": score["cer"]["rate"]}
    return row


def _cell(column: str, value: float) -> str:
    if column.endswith("ER"):
        return f"{100 * value:.2f} %"
    return str(timedelta(seconds=round(value))) if column == "training" else f"{value:,.0f}"


def _cells(row: Mapping[str, float]) -> dict[str, str]:
    return {column: _cell(column, value) for column, value in row.items()}


def _mean_cells(rows: Sequence[Mapping[str, float]]) -> dict[str, str]:
    cells = {}
    for column in rows[0]:
        values = [row[column] for row in rows]
        spread = f" ({_cell(column, min(values))} to {_cell(column, max(values))})" if min(values) < max(values) else ""
        cells[column] = f"{_cell(column, fmean(values))}{spread}"
    return cells


def _markdown(rows: Sequence[Mapping[str, str]]) -> str:
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
