"""A process that deals with damaged files, may die, hang or eat memory, and is watched while it does."""

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

Handle = Callable[[Path], object]

ACCEPTED = ("done", "error")
KINDS = (*ACCEPTED, "silent", "unnamed", "exception", "crash", "hang", "memory")
_LIMIT_START_S = 300.0
_ROOM_BYTES = 4 << 30  # of addresses beyond those in use at the start; threads and libraries take many they never touch


class Silent(Exception):
    """Something was lost or is wrong, and nothing was said."""


@dataclass(frozen=True)
class Outcome:
    """What became of a file.

    Attributes
    ----------
    kind
        One of ``KINDS``: done, an error of ours that names the file, a loss in silence, an error of ours that does not name the
        file, another exception, a process that died, one that did not answer in time, or one that took too much memory.
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


class Watched:
    """A process that deals with files one by one; another takes its place when it is lost. For Linux.

    Parameters
    ----------
    load
        Called in the process; returns what deals with a file. It is pickled.
    limit_s
        Time for a file (s).
    limit_bytes
        Memory of the process.

    Examples
    --------
    >>> with Watched(fuzzed.load) as watched:  # doctest: +SKIP
    ...     watched.outcome(Path("broken.wav")).kind
    'error'
    """

    def __init__(self, load: Callable[[], Handle], limit_s: float = 10.0, limit_bytes: int = 2 << 30) -> None:
        self._load = load
        self._limit_s = limit_s
        self._limit_bytes = limit_bytes

    def __enter__(self) -> Watched:
        self._start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop()

    def outcome(self, path: Path) -> Outcome:
        """Give it a file, and say what became of it."""
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
            raise TimeoutError(f"the watched process did not start within {_LIMIT_START_S:g} s")
        self._connection.recv()

    def _stop(self) -> None:
        self._process.kill()
        self._process.join()
        self._connection.close()


def _serve(connection: Connection, load: Callable[[], Handle]) -> None:
    """Answer each path with the kind of the outcome, a detail, and the most memory that this file took (bytes)."""
    from asr.errors import AsrError

    for output in (1, 2):  # libsndfile and libmpg123 print what they find wrong with a file
        os.dup2(os.open(os.devnull, os.O_WRONLY), output)
    handle = load()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_status_bytes("VmSize") + _ROOM_BYTES, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    connection.send("ready")
    while True:
        path = connection.recv()
        Path("/proc/self/clear_refs").write_text("5")  # forgets the peak
        try:
            handle(path)
            kind, detail = "done", ""
        except Silent as loss:
            kind, detail = "silent", str(loss)
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
