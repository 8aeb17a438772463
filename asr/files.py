"""Files and folders that are written whole or not at all, also where the process is killed or the power fails.

What is new is written beside its place, under a hidden name, brought to the disk, and renamed. What killed processes leave so
is removed when a folder is next written to: a lock, which ends with its process, tells it from what others are writing now.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import tempfile
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import IO, Any, BinaryIO

from asr.errors import WRONG_PATH, ConfigError, StorageError
from asr.output import to_json

PATIENCE_S = 10.0
"""How long a lock is waited for: the readers of a training that was killed keep it until they see that it is gone."""

_PART, _OLD = ".asr-part", ".asr-old"  # what is being written; what has been moved away for it
_LEFT = re.compile(r"\.(?P<name>.+)\.[a-z0-9_]{8}(?P<kind>\.asr-part|\.asr-old)", re.DOTALL)
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_tidied: set[Path] = set()


def check_output_folder(folder: Path) -> None:
    """Refuse a folder that could not be written to, before any work is done for it; nothing is made.

    Raises
    ------
    ConfigError
        It, or one of its parents, is a file.
    StorageError
        It may not be written to.
    """
    standing = next(place for place in (folder, *folder.absolute().parents) if os.path.lexists(place))
    if not standing.is_dir():
        raise ConfigError(f"{folder}: {standing} is not a folder; choose another folder to write to")
    if not os.access(standing, os.W_OK | os.X_OK):
        raise StorageError(f"{folder}: {standing} may not be written to; choose another folder or change its permissions")


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, where they are not there.

    Raises
    ------
    ConfigError
        The system has no folders to be made there, as in /proc.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileNotFoundError:
        raise ConfigError(f"{folder}: no folder can be made there; choose another one to write to") from None


def check_output_file(path: Path) -> None:
    """Refuse a file that could not be written, before any work is done for it; nothing is made.

    Raises
    ------
    ConfigError
        It is a folder or a device, or one of its parents is a file.
    StorageError
        Its folder may not be written to.
    """
    _check_plain(path)
    check_output_folder(path.parent)


def check_apart(target: Path, folder: Path) -> None:
    """Refuse a copy of a folder that would lie in it, or it in the copy; both paths are resolved.

    Raises
    ------
    ConfigError
        One of them lies in the other.
    """
    if target.is_relative_to(folder) or folder.is_relative_to(target):
        raise ConfigError(f"{target}: one of it and the package {folder} lies in the other; choose another folder")


def check_not_read(outputs: Iterable[Path], inputs: Iterable[str | Path]) -> None:
    """Refuse to write where something is read, before any work is done.

    Raises
    ------
    ConfigError
        An output is an input, by whatever name.
    """
    read = {os.path.realpath(path) for path in inputs}
    for path in outputs:
        if os.path.realpath(path) in read:
            raise ConfigError(f"{path}: is read here, and would be overwritten; write to another place")


def foreign_entry(folder: Path, own: Collection[str]) -> str | None:
    """Return the name of something in a folder that has none of these names; none where there is nothing else, or no folder."""
    try:
        return min((entry.name for entry in folder.iterdir() if entry.name not in own), default=None)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _check_plain(path: Path) -> None:
    """Refuse a path that names a folder or a device, which must not be replaced by a file."""
    if (path.exists() and not path.is_file()) or os.path.dirname(os.path.abspath(path)) in ("/dev", "/dev/fd", "/proc/self/fd"):
        raise ConfigError(f"{path}: is {'a folder' if path.is_dir() else 'no plain file'}; choose another name")


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file that takes the place of ``path`` when the block ends without an error.

    Raises
    ------
    ConfigError
        The path is, or leads through, what is no file or no folder: it names a device, say, which must not be replaced.
    StorageError
        The disk is full, or may not be written to.
    """
    temporary = None
    try:
        _check_plain(path)
        make_folder(path.parent)
        _tidy_once(path.parent)
        with _temporary_file(path) as stream:
            temporary = stream.name
            yield stream
            stream.flush()
            os.fchmod(stream.fileno(), 0o666 & ~_umask())
            os.fsync(stream.fileno())
            os.replace(temporary, path)
            temporary = None
        sync(path.parent)
    except OSError as error:
        if error.errno in WRONG_PATH:
            raise ConfigError(f"{path}: cannot be written: {error.strerror}; choose another name or folder") from error
        raise StorageError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, whole or not at all.

    Raises
    ------
    StorageError
        The file cannot be written.
    """
    with replacing(path) as stream:
        stream.write((to_json(value, indent=2) + "\n").encode("utf-8"))


def keep_as(path: Path, other: Path) -> None:
    """Keep what a file holds under another name as well, in place of what is there, for when the first is replaced.

    Raises
    ------
    StorageError
        The other cannot be written.
    """
    temporary = path.with_name(f".{other.name}.{os.urandom(4).hex()}{_PART}")
    try:
        os.link(path, temporary)
        os.replace(temporary, other)
    except OSError:  # a file system without links
        with replacing(other) as stream, open(path, "rb") as source:
            shutil.copyfileobj(source, stream)
    finally:
        temporary.unlink(missing_ok=True)  # where both names were the same file already


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Make a temporary folder that takes the place of ``folder`` when the block ends without an error.

    Where the system can exchange two folders in one step (Linux) there is always a whole one in its place.
    """
    folder = Path(os.path.realpath(folder))
    make_folder(folder.parent)
    _tidy_once(folder.parent)
    temporary, holder = _temporary_folder(folder)
    try:
        temporary.chmod(0o777 & ~_umask())  # it was made for its owner alone
        yield temporary
        _sync_all(temporary)
        if not folder.exists():
            os.rename(temporary, folder)
        elif not _exchange(temporary, folder):
            _replace_in_two_steps(temporary, folder)
        sync(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        os.close(holder)


def remove_folder(folder: Path) -> None:
    """Remove a folder with all that it holds; where the process is killed meanwhile it is there whole or not at all."""
    temporary, holder = _temporary_folder(folder.absolute())
    try:
        os.replace(folder, temporary)
        sync(folder.absolute().parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        os.close(holder)


def sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk; a file system that cannot do that for folders is left alone."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(number)


def tidy(folder: Path) -> None:
    """Remove what killed processes left in a folder that they were writing to; put back what one had moved away.

    What other processes are writing now stays, and so does everything that is not named as what :func:`replacing` and
    :func:`replacing_folder` make.
    """
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in names:
        if (match := _LEFT.fullmatch(name)) is not None:
            with suppress(OSError):
                _put_right(folder / name, folder / match["name"], match["kind"])


def _tidy_once(folder: Path) -> None:
    """Tidy a folder when this process first writes there: it may hold a great many files."""
    folder = folder.absolute()
    if folder not in _tidied:
        _tidied.add(folder)
        tidy(folder)


def _put_right(left: Path, place: Path, kind: str) -> None:
    holder = os.open(left, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        if not _seize(holder, without_locks=False):
            return
        if kind == _OLD and not os.path.lexists(place):
            os.rename(left, place)
        elif left.is_dir():
            shutil.rmtree(left)
        else:
            left.unlink()
    finally:
        os.close(holder)


def _temporary_file(path: Path) -> BinaryIO:
    """Open a new file beside a path, held by this process."""
    while True:
        file = tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", suffix=_PART, delete=False)  # noqa: SIM115
        if _seize(file.fileno()) and _is_at(file.fileno(), file.name):
            return file  # type: ignore[return-value]
        file.close()  # another process tidied it away before it was held


def _temporary_folder(folder: Path) -> tuple[Path, int]:
    """Make a folder beside another, held by this process as long as the file number is open."""
    while True:
        temporary = tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=_PART)
        with suppress(FileNotFoundError):
            holder = os.open(temporary, os.O_RDONLY)
            if _seize(holder) and _is_at(holder, temporary):
                return Path(temporary), holder
            os.close(holder)


def _exchange(one: Path, other: Path) -> bool:
    """Let two folders change their places in one step, and say whether the system and the file system can."""
    import ctypes

    rename: Any = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    if rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
        return False
    raise OSError(number, os.strerror(number), str(one), None, str(other))


def _replace_in_two_steps(finished: Path, folder: Path) -> None:
    """Move the old folder away and the new one in; of a process that is killed between, :func:`tidy` puts the old one back."""
    old = finished.with_suffix(_OLD)
    holder = os.open(folder, os.O_RDONLY)
    try:
        _seize(holder)
        os.rename(folder, old)
        try:
            os.rename(finished, folder)
        except BaseException:
            os.rename(old, folder)
            raise
        shutil.rmtree(old, ignore_errors=True)
    finally:
        os.close(holder)


def _sync_all(folder: Path) -> None:
    for place, _, names in os.walk(folder):
        for name in names:
            if not os.path.islink(os.path.join(place, name)):
                sync(Path(place, name))
        sync(Path(place))


@contextmanager
def locked(path: Path, work: str = "training", option: str = "output=...") -> Iterator[None]:
    """Hold a lock on a file, made where it is not there, which the system releases however the process ends.

    Parameters
    ----------
    path
        The file.
    work, option
        What is done in its folder, and how the user chooses another, for the message.

    Raises
    ------
    ConfigError
        Another process holds it.
    """
    until = time.monotonic() + PATIENCE_S
    while (file := _lock(path)) is None:
        if time.monotonic() > until:
            raise ConfigError(
                f"{path.parent}: another process is {work} there; wait for its end, or choose another folder with {option}"
            )
        time.sleep(0.1)
    with closing(file):
        yield


def _lock(path: Path) -> IO[str] | None:
    """Open and lock the file of a path; none where another process has the lock, or put another file in its place."""
    make_folder(path.parent)
    file = path.open("a")
    try:
        if _seize(file.fileno()) and _is_at(file.fileno(), path):
            return file
    except BaseException:
        file.close()
        raise
    file.close()
    return None


def _seize(number: int, *, without_locks: bool = True) -> bool:
    """Lock what a file number stands for, and say whether that was possible; ``without_locks`` where there are none."""
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _NO_LOCKS:  # a file system that knows none
            return without_locks
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True


def _is_at(number: int, path: str | Path) -> bool:
    """Say whether an open file or folder is still the one at a path."""
    try:
        return os.path.samestat(os.fstat(number), os.stat(path))
    except FileNotFoundError:
        return False


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
