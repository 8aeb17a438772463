"""Numbers and paths on the command line, as types of :mod:`argparse`."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path

_MOST_THREADS = 4096
_MOST_GIB = 2**20


def positive(text: str) -> int:
    """Read a whole number, at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, at least 1")
    return int(text)


def threads(text: str) -> int:
    """Read a number of threads: at least 1, and as many as a machine may have."""
    if not text.isdecimal() or not 1 <= int(text) <= _MOST_THREADS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to {_MOST_THREADS}")
    return int(text)


def index(text: str) -> int:
    """Read a whole number, at least 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, at least 0")
    return int(text)


def seconds(text: str) -> float:
    """Read a number of seconds above 0."""
    return _above_0(text, "seconds")


def hours(text: str) -> float:
    """Read a number of hours above 0."""
    return _above_0(text, "hours")


def per_cent(text: str) -> float:
    """Read a number of per cent, at least 0; an error rate may be above 100."""
    return _number(text, "a number of per cent, at least 0", lambda value: 0 <= value < math.inf)


def gib(text: str) -> float:
    """Read an amount of memory (GiB), at least 0."""
    return _number(text, "a number of GiB of memory, at least 0", lambda value: 0 <= value < _MOST_GIB)


def _above_0(text: str, unit: str) -> float:
    return _number(text, f"a number of {unit} above 0", lambda value: 0 < value < math.inf)


def _number(text: str, what: str, fits: Callable[[float], bool]) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan  # which fits nothing
    if not fits(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
    return value


def file_path(text: str) -> Path:
    """Read the path of a file or folder; an empty one would mean the current folder, and comes from an unset variable."""
    if not text:
        raise argparse.ArgumentTypeError("the name is empty; expected that of a file or folder")
    return Path(text)
