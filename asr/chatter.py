"""What C libraries write to standard error by themselves: held back, since it names no file and is of no use to a reader."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Lock
from typing import IO

_STDERR = 2
_CHATTER = re.compile(
    rb"\[src/libmpg123/.*"
    rb"|(Note|Warning|Info): (Illegal Audio-MPEG-Header|Trying to resync|Skipped \d+ bytes|Xing stream size|Hit end of|"
    rb"missing \d+ bytes|Encountered more data|Real sample count|Broken|Estimated|Frankenstein|Frontend|.*resync).*"
    rb"|Loading the LM will be faster if you build a binary file\.|Reading .*|-{4}5-{3}10-{3}15[-0-9]*|\*+"
    rb"|The ARPA file is missing <unk>\..*|File .* isn't normal\.  Using slower read.*"
)
"""A line that libmpg123 or KenLM writes, without its end."""


@contextmanager
def held_back() -> Iterator[None]:
    """Keep what libmpg123 and KenLM write to standard error from it; what anything else writes comes a little later.

    Several threads may be in it at once. It costs some microseconds.
    """
    _GATE.enter()
    try:
        yield
    finally:
        _GATE.leave()


class _Gate:
    """Standard error's descriptor, which leads to a temporary file while a library is at work."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._n_inside = 0
        self._file: IO[bytes] | None = None
        self._stderr = -1  # where it leads to otherwise
        self._n_seen = 0

    def enter(self) -> None:
        with self._lock:
            self._n_inside += 1
            if self._n_inside > 1:
                return
            try:
                self._file = self._file or tempfile.TemporaryFile()  # noqa: SIM115 - kept
                self._stderr = os.dup(_STDERR)
            except OSError:  # no standard error, or nowhere to keep anything
                self._stderr = -1
                return
            if self._n_seen:
                os.truncate(self._file.fileno(), 0)
                os.lseek(self._file.fileno(), 0, os.SEEK_SET)
                self._n_seen = 0
            os.dup2(self._file.fileno(), _STDERR)

    def leave(self) -> None:
        with self._lock:
            self._n_inside -= 1
            if self._stderr < 0 or self._file is None:
                return
            if not self._n_inside:
                os.dup2(self._stderr, _STDERR)
            self._pass_on(self._file.fileno())
            if not self._n_inside:
                os.close(self._stderr)
                self._stderr = -1

    def begin_anew(self) -> None:
        """Undo it in a process that was made while a thread of its parent was inside."""
        if self._stderr >= 0:
            os.dup2(self._stderr, _STDERR)
            os.close(self._stderr)
        self.__init__()  # type: ignore[misc]

    def _pass_on(self, file: int) -> None:
        """Write what came since the last time and is no chatter to where standard error leads, if that can be written."""
        size = os.fstat(file).st_size
        if size == self._n_seen:
            return
        written = os.pread(file, size - self._n_seen, self._n_seen)
        self._n_seen = size
        kept = [line for line in written.splitlines(keepends=True) if not _CHATTER.fullmatch(line.rstrip(b"\r\n"))]
        with suppress(OSError):  # a message that nobody can read is no fault of the library's, nor of its file
            for line in kept:
                os.write(self._stderr, line)


_GATE = _Gate()
os.register_at_fork(after_in_child=_GATE.begin_anew)
