"""What was read or built for the last decoder, kept for the next: decoders of one model often follow each other."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

_RECENT: dict[str, tuple[str, Any]] = {}
# Held while something is made as well: another thread may want the same.
_RECENT_LOCK = threading.RLock()


def remembered(name: str, key: object, make: Callable[[], T]) -> T:
    """Return what was made for the same key the last time, or make it.

    Parameters
    ----------
    name
        The kind of thing; one of each is kept.
    key
        Plain values on which it depends.
    make
        Makes it.
    """
    digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()
    with _RECENT_LOCK:
        if _RECENT.get(name, ("", None))[0] != digest:
            _RECENT.pop(name, None)
            _RECENT[name] = (digest, make())
        found: T = _RECENT[name][1]
    return found


def state_of(path: Path | None) -> list[object]:
    """Return plain values that change when a file or the files of a folder do."""
    if path is None:
        return []
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return [[str(file.resolve()), file.stat().st_mtime_ns, file.stat().st_size] for file in files if file.exists()]
