"""Ctrl-C and SIGTERM: how long work saves first, and waits for a C library that reads through functions of ours."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

logger = logging.getLogger(__name__)

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def deferred() -> Iterator[None]:
    """Let signals wait until a library has returned; what they raise then takes the place of what the library made of it.

    No exception can pass through a C library: it would take a read that Ctrl-C ended for the end of the file. A second signal
    does not wait, nor does the first any longer, so that a read that hangs can be ended.
    """
    if threading.current_thread() is not threading.main_thread():  # others get no signals
        yield
        return
    came: list[int] = []
    waiting: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)
        waiting.append(number)
        if len(came) > 1:
            hand_on(frame)

    def hand_on(frame: FrameType | None) -> None:
        while waiting:
            handlers[waiting[0]](waiting[0], frame)  # one that raises stays: a library may make something else of it
            del waiting[0]

    found = {number: signal.getsignal(number) for number in _SIGNALS}
    handlers: dict[int, Any] = {number: handler for number, handler in found.items() if callable(handler)}
    for number in handlers:
        signal.signal(number, note)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        hand_on(None)


class Interruption:
    """Whether the user has asked to stop: by SIGINT or SIGTERM once, to save first; a second SIGINT stops at once.

    A second SIGTERM changes nothing: it comes twice where a group of processes has it, and one passes it on.

    Parameters
    ----------
    unit
        After which work ends, for the message.

    Attributes
    ----------
    requested
        Whether it was asked for inside :meth:`watch`.
    """

    def __init__(self, unit: str) -> None:
        self.requested = False
        self._unit = unit

    @contextmanager
    def watch(self) -> Iterator[Interruption]:
        """Listen for the signals inside the block."""
        before = {number: signal.signal(number, self._request) for number in _SIGNALS}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _request(self, number: int, frame: FrameType | None) -> None:
        if not self.requested:
            self.requested = True
            logger.info(f"stopping after this {self._unit}; press Ctrl-C again to stop without saving")
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
