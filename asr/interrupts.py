"""Ctrl-C while a C library is at work that reads through functions of ours."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def deferred() -> Iterator[None]:
    """Let signals wait until a library has returned; what they raise then takes the place of what the library made of it.

    No exception can pass through a C library: it would take a read that Ctrl-C ended for the end of the file. A second signal
    does not wait, so that a read that hangs can be ended.
    """
    if threading.current_thread() is not threading.main_thread():  # others get no signals
        yield
        return
    waiting: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        waiting.append(number)
        handler = handlers[number]
        if len(waiting) > 1 and callable(handler):
            handler(number, frame)

    handlers: dict[int, Any] = {number: signal.getsignal(number) for number in _SIGNALS}
    for number, handler in handlers.items():
        if callable(handler):
            signal.signal(number, note)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            if callable(handler):
                signal.signal(number, handler)
        for number in waiting:
            handler = handlers[number]
            if callable(handler):
                handler(number, None)
