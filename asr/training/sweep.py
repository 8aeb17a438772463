"""``train --multirun``: one run for each combination of values, and a table that compares them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from asr.assignment import quote
from asr.config import MANIFESTS, Config
from asr.engine.checkpoint import LAST
from asr.engine.resume import SETTINGS
from asr.errors import INTERRUPTED, LEFT_OUT, ConfigError, Failure
from asr.files import make_folder, replacing
from asr.output import tell
from asr.training.results import EVALUATED, count_left_out, differences, is_complete, is_evaluated, read_figures, table
from asr.training.resume import differing, read_settings
from asr.training.run import PACKAGE, RESULT

TABLE = "results.md"
_OUTPUT = "output.log"
_LONGEST_NAME = 255  # bytes, of a folder, in the file systems in use


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
    config
        What the overrides amount to. A run that was complete with fewer epochs goes on.
    """

    overrides: tuple[str, ...]
    values: Mapping[str, str]
    folder: Path
    config: Config

    @property
    def name(self) -> str:
        """``key=value`` of all that is varied."""
        return ",".join(f"{key}={value}" for key, value in self.values.items()) or self.folder.name


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

    Raises
    ------
    ConfigError
        Two combinations would share a folder, its name would be too long, or it holds a run with other settings, whose
        figures are not those of this sweep.
    DataError
        A folder holds a run whose settings cannot be read.
    """
    rows = [dict(override.lstrip("+").split("=", 1) for override in overrides) for overrides in combinations]
    varied = [key for key in rows[0] if len({row[key] for row in rows}) > 1]
    jobs: dict[Path, Job] = {}
    for overrides, row, config in zip(combinations, rows, configs, strict=True):
        values = {key: row[key] for key in varied}
        name = ",".join(f"{key}={value}" for key, value in values.items()).replace("/", "-") or "run"
        if len(os.fsencode(name)) > _LONGEST_NAME:
            raise ConfigError(f"{name}: too long for the name of a folder; put the values into recipes, and vary these")
        folder = base / name
        job = Job((*overrides, f"output={quote(str(folder))}"), values, folder, config)
        if folder in jobs:
            raise ConfigError(
                f"{job.name} and {jobs[folder].name}, two combinations of this sweep, would both be trained in {folder}; "
                "give each value once, in names that differ by more than a /"
            )
        _check_settings(job)
        jobs[folder] = job
    return list(jobs.values())


def _check_settings(job: Job) -> None:
    settings = job.folder / SETTINGS
    begun = (job.folder / LAST).exists() or (job.folder / RESULT).exists()
    if begun and settings.exists() and (keys := differing(read_settings(settings), job.config)):
        raise ConfigError(
            f"{job.folder} holds a run with another {keys[0]}: its figures would not be those of this sweep. Choose another "
            f"folder with output=..., or give the settings of {settings}"
        )


class Processes:
    """The commands that run now; a signal to stop is passed on to them."""

    def __init__(self) -> None:
        self._stopped = False  # no threading.Event: a signal may come while it is being set
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.RLock()  # a second signal may come while the first is passed on

    def run(self, log: Path | None, *arguments: str) -> int:
        """Run a command of asr and return its exit code; what it prints is added to the log where one is named.

        A process that a signal has ended has the code that a shell gives it: 128 and the signal's number.
        """
        command = [sys.executable, "-m", "asr", *arguments]
        if log is None:
            return self._wait(command, None)
        make_folder(log.parent)
        with log.open("ab") as output:
            return self._wait(command, output)

    def _wait(self, command: Sequence[str], output: IO[bytes] | None) -> int:
        with self._lock:
            if self.stopped():
                return INTERRUPTED
            process = subprocess.Popen(command, stdout=output, stderr=output)
            self._running.add(process)
        code = process.wait()
        with self._lock:
            self._running.remove(process)
        if self.stopped() and code:
            return INTERRUPTED
        return code if code >= 0 else 128 - code

    def stopped(self) -> bool:
        """Say whether no other command is started."""
        return self._stopped

    def start_no_other(self) -> None:
        """Let those that run end, and start no other."""
        self._stopped = True

    def stop(self, *_: object) -> None:
        """Ask all to save and end, and start no other; a handler of signals."""
        self.start_no_other()
        with self._lock:
            for process in self._running:
                process.terminate()


@contextmanager
def _stopping_by_signal(processes: Processes) -> Iterator[None]:
    """Pass SIGTERM on; that of Ctrl-C comes to all processes of a terminal by itself."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, processes.stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def sweep(
    jobs: Sequence[Job],
    base: Path,
    *,
    options: Sequence[str] = (),
    parts: Sequence[str] = (),
    manifests: str = MANIFESTS,
    side_by_side: int = 1,
    say: Callable[[str], None] | None = None,
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
        Told what begins and what has failed; prints it by default.

    Returns
    -------
    int
        0, 1 where a run failed, 3 where utterances had to be left out of figures, 130 where the user stopped it.
    """
    processes = Processes()
    say = say or tell

    def work(number: int, job: Job) -> int:
        if processes.stopped():
            return INTERRUPTED
        say(f"[{number}/{len(jobs)}] {job.name}")
        log = job.folder / _OUTPUT if side_by_side > 1 else None
        code = _train(job, processes, log, options, say)
        for part in parts:
            if code == 0 and not is_evaluated(job.folder, part):
                code = _evaluate(job, part, manifests, processes, log, say)
        if code == INTERRUPTED:
            processes.start_no_other()
            say(f"stopped in {job.name}; the same command goes on")
        elif code:
            say(f"{job.name} failed with exit code {code}{f', see {log}' if log else ''}")
        return code

    failed: list[str] = []
    with _stopping_by_signal(processes), ThreadPoolExecutor(side_by_side) as pool:
        running = {pool.submit(work, number, job): job for number, job in enumerate(jobs, start=1)}
        try:
            while running:
                try:
                    done, _ = wait(running, return_when=FIRST_COMPLETED)
                except KeyboardInterrupt:  # the runs have it as well, and save
                    processes.start_no_other()
                    continue
                for future in done:
                    job = running.pop(future)
                    failed += [job.name] if future.result() not in (0, INTERRUPTED) else []
                with replacing(base / TABLE) as file:
                    file.write(_table(jobs, parts).encode())
        except BaseException:
            processes.stop()  # or the others would all be trained before the error is seen
            raise
    if processes.stopped():
        return INTERRUPTED
    say(f"\n{_table(jobs, parts)}\n{base / TABLE}")
    if failed:
        say(f"{len(failed)} of {len(jobs)} runs failed: {'; '.join(failed)}")
        return Failure.exit_code
    return LEFT_OUT if _say_left_out(jobs, parts, say) else 0


def _train(job: Job, processes: Processes, log: Path | None, options: Sequence[str], say: Callable[[str], None]) -> int:
    epochs = job.config.trainer.epochs
    if is_complete(job.folder, epochs):
        return 0
    code = processes.run(log, "train", *job.overrides, *options)
    if code == 0 and not is_complete(job.folder, epochs):
        say(f"{job.name} is trained, but {PACKAGE} or {RESULT} is gone; remove {job.folder} to train it anew")
        return Failure.exit_code
    return code


def _evaluate(job: Job, part: str, manifests: str, processes: Processes, log: Path | None, say: Callable[[str], None]) -> int:
    package, target = str(job.folder / PACKAGE), str(job.folder / EVALUATED)
    code = processes.run(log, "evaluate", package, part, "--manifests", manifests, "-o", target)
    return 0 if code == LEFT_OUT and is_evaluated(job.folder, part) else code


def _say_left_out(jobs: Sequence[Job], parts: Sequence[str], say: Callable[[str], None]) -> int:
    """Name the figures that are without some utterances, and return how many figures those are."""
    counts = [(job.name, part, n) for job in jobs for part in parts if (n := count_left_out(job.folder, part))]
    for name, part, n in counts:
        say(f"{name}: figures of {part} without {n} whose audio could not be read")
    return len(counts)


def _table(jobs: Sequence[Job], parts: Sequence[str]) -> str:
    figures = [read_figures(job.folder, job.config.trainer.epochs, parts) for job in jobs]
    complete = [(job.name, job.folder) for job, row in zip(jobs, figures, strict=True) if row is not None]
    rows = [(job.values, row) for job, row in zip(jobs, figures, strict=True)]
    return table(rows) + "".join(differences(complete, part) for part in parts)
