"""Transcription in a process that may die, hang or eat memory, and is watched while it does."""

from __future__ import annotations

import multiprocessing
import os
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType

Transcribe = Callable[[Path], object]

ACCEPTED = ("transcript", "error")
KINDS = (*ACCEPTED, "unnamed", "exception", "crash", "hang", "memory")
_LIMIT_START_S = 300.0
_ROOM_BYTES = 4 << 30  # of addresses beyond those in use at the start; threads and libraries take many they never touch


@dataclass(frozen=True)
class Outcome:
    """What became of a file.

    Attributes
    ----------
    kind
        One of ``KINDS``: a transcript, an error of ours that names the file, one of ours that does not, another exception, a
        process that died, one that did not answer in time, or one that took too much memory.
    detail
        Message of the error, or why the process is no more.
    seconds
        How long it took (s).
    peak_bytes
        Most memory of the process meanwhile; 0 where it did not live to tell.
    """

    kind: str
    detail: str
    seconds: float
    peak_bytes: int

    @property
    def accepted(self) -> bool:
        """Whether the file was dealt with as it should be."""
        return self.kind in ACCEPTED


def load_transcriber(package: Path) -> Transcribe:
    """Load a model package, on one thread, as ``asr transcribe`` does."""
    import torch

    import asr

    torch.set_num_threads(1)
    return asr.load_model(package).transcribe


class WatchedTranscriber:
    """A process that transcribes files one by one; another takes its place when it is lost. For Linux.

    Parameters
    ----------
    load
        Called in the process; returns what transcribes a file. It is pickled.
    limit_s
        Time for a file (s).
    limit_bytes
        Memory of the process.

    Examples
    --------
    >>> with WatchedTranscriber(partial(load_transcriber, package)) as transcriber:  # doctest: +SKIP
    ...     transcriber.outcome(Path("broken.wav")).kind
    'error'
    """

    def __init__(self, load: Callable[[], Transcribe], limit_s: float = 10.0, limit_bytes: int = 2 << 30) -> None:
        self._load = load
        self._limit_s = limit_s
        self._limit_bytes = limit_bytes

    def __enter__(self) -> WatchedTranscriber:
        self._start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop()

    def outcome(self, path: Path) -> Outcome:
        """Transcribe a file, and say what became of it."""
        start = time.perf_counter()
        kind, detail, peak_bytes = self._answer(path)
        seconds = time.perf_counter() - start
        if peak_bytes > self._limit_bytes:
            kind, detail = "memory", f"{peak_bytes / 2**30:.2f} GiB; {detail}"
        if kind in ("crash", "hang", "memory"):
            self._stop()
            self._start()
        return Outcome(kind, detail, seconds, peak_bytes)

    def _answer(self, path: Path) -> tuple[str, str, int]:
        self._connection.send(path)
        if not self._connection.poll(self._limit_s):
            return "hang", f"no answer within {self._limit_s:g} s", 0
        try:
            kind, detail, peak_bytes = self._connection.recv()
        except (EOFError, ConnectionError):
            self._process.join()
            return "crash", f"exit code {self._process.exitcode}", 0
        return kind, detail, peak_bytes

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, self._load), daemon=True)
        self._process.start()
        other.close()  # the process has its own: when that is closed, so is the connection
        if not self._connection.poll(_LIMIT_START_S):
            raise TimeoutError(f"the process that transcribes did not start within {_LIMIT_START_S:g} s")
        self._connection.recv()

    def _stop(self) -> None:
        self._process.kill()
        self._process.join()
        self._connection.close()


def _serve(connection: Connection, load: Callable[[], Transcribe]) -> None:
    """Answer each path with the kind of the outcome, a detail, and the most memory that this file took (bytes)."""
    from asr.errors import AsrError

    for output in (1, 2):  # libsndfile and libmpg123 print what they find wrong with a file
        os.dup2(os.open(os.devnull, os.O_WRONLY), output)
    transcribe = load()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_status_bytes("VmSize") + _ROOM_BYTES, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    connection.send("ready")
    while True:
        path = connection.recv()
        Path("/proc/self/clear_refs").write_text("5")  # forgets the peak
        try:
            transcribe(path)
            kind, detail = "transcript", ""
        except AsrError as error:
            kind, detail = "error" if str(path) in str(error) else "unnamed", str(error)
        except BaseException as error:
            kind, detail = "memory" if isinstance(error, MemoryError) else "exception", f"{type(error).__name__}: {error}"
        connection.send((kind, detail, _status_bytes("VmHWM")))


def _status_bytes(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return 1024 * int(line.split()[1])
    raise OSError(f"/proc/self/status has no {key}")
