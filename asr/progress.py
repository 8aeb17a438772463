"""How far work has come, on standard error: a line that renews itself on a terminal, a plain line now and then in a log."""

from __future__ import annotations

import math
import os
import sys
import time
from contextlib import suppress
from types import TracebackType

from asr.output import tell


class Progress:
    """Count work and show share done, rate and time left. Nothing is shown of work that ends within a second.

    ::

        with Progress("encoding", len(sentences), "sentences") as progress:
            for sentence in sentences:
                encode(sentence)
                progress.advance(1)

    Before something else is printed, :meth:`clear` takes the line off a terminal; :meth:`tell` does both.

    Parameters
    ----------
    label
        What is being worked on.
    total
        Amount of work; 0 if unknown.
    unit
        Name of what is counted; ``bytes`` are shown as MB.
    in_logs
        Whether lines are written where standard error is no terminal.

    Attributes
    ----------
    total, done
        Amounts, which may be fractions, such as of a second.
    """

    def __init__(self, label: str, total: float, unit: str, *, in_logs: bool = True) -> None:
        self.label, self.total, self.unit = label, total, unit
        self.done: float = 0
        self._resumed: float = 0
        self._started = time.monotonic()
        self._on_terminal = sys.stderr.isatty()
        self._interval_s = 0.2 if self._on_terminal else 10.0
        self._next = self._started + 1.0 if self._on_terminal or in_logs else math.inf
        self._shown = False

    def __enter__(self) -> Progress:
        return self

    def resume(self, n: float) -> None:
        """Count work that was done before this run, so that it does not enter the rate."""
        self.done += n
        self._resumed += n

    def advance(self, n: float) -> None:
        """Count ``n`` more units as done."""
        self.done += n
        now = time.monotonic()
        if now >= self._next:
            self._next = now + self._interval_s
            self._show(now)

    def _show(self, now: float) -> None:
        elapsed = max(now - self._started, 1e-9)
        rate = (self.done - self._resumed) / elapsed
        scale, unit = (1e6, "MB") if self.unit == "bytes" else (1, self.unit)
        text = f": {self.done / scale:.0f}"
        if self.total:
            text += f"/{self.total / scale:.0f} {unit} ({100 * self.done / self.total:.0f} %)"
        else:
            text += f" {unit}"
        text += f", {rate / scale:{'.1f' if rate >= scale else '.2g'}} {unit}/s"
        if self.total and rate:
            left = max(0, round((self.total - self.done) / rate))
            text += f", {left // 60}:{left % 60:02d} left"
        if self._on_terminal:
            label = self.label
            with suppress(OSError):
                columns = os.get_terminal_size(sys.stderr.fileno()).columns
                label = label[: max(10, columns - 1 - len(text))] if columns else label  # broken it could not be renewed
            self._write(f"\r\x1b[K{label}{text}")
        else:
            self._write(f"{self.label}{text}\n")
        self._shown = self._on_terminal

    def clear(self) -> None:
        """Take the line off the terminal."""
        if self._on_terminal:
            self._write("\r\x1b[K")

    def tell(self, line: str) -> None:
        """Print a line on standard output, where the display does not stand in its way."""
        self.clear()
        tell(line)

    def _write(self, text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if self._shown:
            self._write("\n")
