"""How far long work has come: a line that renews itself on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TextIO


class Progress:
    """Count work and show share done, rate and time left.

    Parameters
    ----------
    label
        What is being worked on.
    total
        Amount of work; 0 if unknown.
    unit
        Name of what is counted; ``bytes`` are shown as MB.
    stream
        Where to write. Nothing is shown of work that ends within a second.
    """

    def __init__(self, label: str, total: int, unit: str, stream: TextIO) -> None:
        self.label, self.total, self.unit, self.stream = label, total, unit, stream
        self.done = self._resumed = 0
        self._started = time.monotonic()
        self._interval = 0.2 if stream.isatty() else 10.0
        self._next = self._started + 1.0
        self._shown = False

    def __enter__(self) -> Progress:
        return self

    def resume(self, n: int) -> None:
        """Count work that was done before this run, so that it does not enter the rate."""
        self.done += n
        self._resumed += n

    def advance(self, n: int) -> None:
        """Count ``n`` more units as done."""
        self.done += n
        now = time.monotonic()
        if now >= self._next:
            self._next = now + self._interval
            self._show(now)

    def _show(self, now: float) -> None:
        elapsed = max(now - self._started, 1e-9)
        rate = (self.done - self._resumed) / elapsed
        scale, unit = (1e6, "MB") if self.unit == "bytes" else (1, self.unit)
        text = f"{self.label}: {self.done / scale:.0f}"
        if self.total:
            text += f"/{self.total / scale:.0f} {unit} ({100 * self.done / self.total:.0f} %)"
        else:
            text += f" {unit}"
        text += f", {rate / scale:{'.1f' if rate >= scale else '.2g'}} {unit}/s"
        if self.total and rate:
            left = max(0, round((self.total - self.done) / rate))
            text += f", {left // 60}:{left % 60:02d} left"
        on_terminal = self.stream.isatty()
        self.stream.write(f"\r\x1b[K{text}" if on_terminal else f"{text}\n")
        self.stream.flush()
        self._shown = self._shown or on_terminal

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if self._shown:
            self.stream.write("\n")
            self.stream.flush()
