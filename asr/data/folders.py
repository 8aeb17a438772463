"""Folders that are written whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Make a temporary folder that takes the place of ``folder`` when the block ends without an error."""
    folder = folder.absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        temporary.chmod(0o755)  # it was made for its owner alone
        yield temporary
        replace_folder(folder, temporary)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def replace_folder(folder: Path, finished: Path) -> None:
    """Put a finished folder in the place of another, if there is one; that comes back if this fails."""
    if not folder.exists():
        os.rename(finished, folder)
        return
    old = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.old."))
    try:
        os.replace(folder, old)
    except BaseException:
        os.rmdir(old)
        raise
    try:
        os.rename(finished, folder)
    except BaseException:
        os.rename(old, folder)
        raise
    shutil.rmtree(old, ignore_errors=True)
