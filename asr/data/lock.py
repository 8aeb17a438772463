"""One training at a time in an output folder: two would overwrite each other's checkpoints."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from asr.errors import ConfigError

PATIENCE_S = 10.0
"""How long a lock is waited for: the readers of a training that was killed keep it until they see that it is gone."""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock on a file, made where it is not there, which the system releases however the process ends.

    Raises
    ------
    ConfigError
        Another process holds it.
    """
    until = time.monotonic() + PATIENCE_S
    while (file := _lock(path)) is None:
        if time.monotonic() > until:
            raise ConfigError(
                f"{path.parent}: another process is training there; wait for its end, or choose another folder with output=..."
            )
        time.sleep(0.1)
    with file:
        yield


def _lock(path: Path) -> IO[str] | None:
    """Open and lock the file of a path; none where another process has the lock, or put another file in its place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.exists(path) and os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
            return file
    except OSError as error:
        if error.errno in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):  # a file system that knows no locks
            return file
        if error.errno not in (errno.EAGAIN, errno.EACCES, errno.ENOENT):
            file.close()
            raise
    file.close()
    return None
