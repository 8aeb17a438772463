"""One training at a time in an output folder: two would overwrite each other's checkpoints."""

from __future__ import annotations

import errno
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from asr.errors import ConfigError


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock on a file, made where it is not there, which the system releases however the process ends.

    Raises
    ------
    ConfigError
        Another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                raise ConfigError(
                    f"{path.parent}: another process is training there; wait for its end, or choose another folder with "
                    "output=..."
                ) from None
            if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):  # file systems that know no locks
                raise
        yield
