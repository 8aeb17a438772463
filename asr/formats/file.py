"""Files that audio is read from: opened with care, handed to C libraries, and what is done where they are damaged."""

from __future__ import annotations

import io
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from asr.errors import AudioError, lacks_memory
from asr.mixing import Tell

Source = str | Path | bytes | BinaryIO
"""A path, the bytes of a file, or a binary file object that can seek."""

_ADDRESS = re.compile("(?:^|/)(?P<scheme>https?|ftp|s3|gs|file):/+(?P<rest>.*)", re.DOTALL)
TRUNCATED_SHARE = 0.01
"""A file is truncated where more than this is missing of what its header promises."""
LENGTH_ERR_S = 0.1
"""By which headers may err, however short the sound."""


@dataclass(frozen=True)
class Reading:
    """How a recording is read.

    Attributes
    ----------
    track
        The audio track to take, counted from 0; ``None`` takes the default one.
    tell
        Called with what should be known: that there are other tracks.
    lose
        Called with what cannot be read of a damaged file, of which the rest is read; ``None`` makes it an error.
    """

    track: int | None = None
    tell: Tell | None = None
    lose: Tell | None = None

    def damaged(self, name: str, what: str) -> None:
        """Go on past damage, or raise an :class:`AudioError`."""
        if self.lose is None:
            raise AudioError(f"{name}: {what}")
        self.lose(what)

    def check_length(self, n_read: int, n_promised: int, sample_rate: int, name: str) -> bool:
        """Call damaged what ended before its header says, but for the little by which headers may err: 1 %, and 0.1 s.

        Returns
        -------
        bool
            Whether all is there.
        """
        if n_read >= n_promised * (1 - TRUNCATED_SHARE) or n_promised - n_read <= LENGTH_ERR_S * sample_rate:
            return True
        read_s, promised_s = n_read / sample_rate, n_promised / sample_rate
        self.damaged(name, f"is truncated: {read_s:.2f} s could be read, its header promises {promised_s:.2f} s")
        return False


class GuardedFile:
    """A binary file, or a stretch of one, for a C library, through which no exception of reading or seeking may pass.

    To seek where nothing can be, as a corrupt header may ask for, gives the -1 that a library expects. What cannot be read
    looks like the end of the file; :meth:`check` tells the two apart.

    Parameters
    ----------
    stream
        Where the bytes come from.
    name
        What to call it in an error; FFmpeg looks at its ending.
    start, end
        The stretch, in bytes; to the end of the file by default.
    head
        What takes the place of its first bytes.
    endless
        Let the size be unknown to the library, which then has to look where the end is.
    """

    def __init__(
        self, stream: BinaryIO, name: str, start: int = 0, end: int | None = None, head: bytes = b"", *, endless: bool = False
    ) -> None:
        self.name = name
        self._stream = stream
        self._start = start
        self._end = end
        self._head = head
        self._endless = endless
        self._place = 0  # in the whole file
        self._error: BaseException | None = None

    @property
    def key(self) -> tuple[object, ...] | None:
        """What tells a file on a disk, at its present state, from others; None for what is no such file."""
        try:
            status = os.fstat(self._stream.fileno())
        except (OSError, ValueError, AttributeError):
            return None
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns

    def part(self, start: int, end: int, head: bytes = b"", *, endless: bool = False) -> GuardedFile:
        """Return a stretch of a whole file, at its start."""
        part = GuardedFile(self._stream, self.name, start, end, head, endless=endless)
        part.seek(0)
        return part

    def read(self, size: int = -1) -> bytes:
        """Return up to so many bytes; none where reading fails."""
        if self._end is not None:
            left = self._end - self._place
            if size < 0 or size > left:
                size = max(0, left)
        try:
            content = self._stream.read(size)
        except BaseException as error:  # a file object may be anybody's, and raise anything
            self._error = self._error or error
            return b""
        place = self.tell()
        self._place += len(content)
        return (
            content if place >= len(self._head) else (self._head[place:] + content[len(self._head) - place :])[: len(content)]
        )

    def read_at(self, position: int, size: int) -> bytes:
        """Return up to so many bytes from a position on."""
        return self.read(size) if self.seek(position) >= 0 else b""

    def seek(self, position: int, whence: int = os.SEEK_SET) -> int:
        """Go to a position; -1 if there is no such one."""
        if whence == os.SEEK_END:
            if self._endless:
                return -1
            if self._end is not None:
                position, whence = position + self._end - self._start, os.SEEK_SET
        if whence == os.SEEK_SET:
            if position < 0:
                return -1
            position += self._start
        try:
            self._place = self._stream.seek(position, whence)
        except (OSError, OverflowError, ValueError):
            return -1
        return self._place - self._start

    def tell(self) -> int:
        """Return the position."""
        return self._place - self._start

    @property
    def size(self) -> int:
        """Bytes of the whole; the position is lost."""
        return self.seek(0, os.SEEK_END)

    def check(self) -> None:
        """Refuse what was read if it is not all that was asked for.

        Raises
        ------
        AudioError
            A read failed. What is no fault of the file, such as Ctrl-C or a lack of memory, is raised as it was, and so is what
            the stream itself says of the file.
        """
        if self._error is not None:
            if lacks_memory(self._error) or isinstance(self._error, AudioError) or not isinstance(self._error, Exception):
                raise self._error
            what = getattr(self._error, "strerror", None) or repr(self._error)
            raise AudioError(f"{self.name}: cannot be read: {what}; is its disk or connection at fault?")


def source_name(source: Source) -> str:
    """Return what to call a source in an error."""
    if isinstance(source, (str, Path)):
        return str(source)
    return str(getattr(source, "name", None) or "audio bytes")


@contextmanager
def opened(source: Source) -> Iterator[GuardedFile]:
    """Open a source for reading.

    Raises
    ------
    AudioError
        There is no such file, or it cannot be opened, is empty, a folder, a pipe, or open as text.
    """
    name = source_name(source)
    if isinstance(source, (str, Path)):
        stream, owned = _opened_path(source, name), True
    else:
        stream, owned = (io.BytesIO(source), True) if isinstance(source, bytes) else (source, False)
    file = GuardedFile(stream, name)
    try:
        if isinstance(file.read(0), str):
            raise AudioError(f"{name}: is open as text, expected a binary file object; open it with the mode 'rb'")
        file.check()
        try:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(0)
        except OSError as error:
            raise AudioError(f"{name}: cannot seek in it ({error}); save its content to a file first") from None
        if size == 0:
            raise AudioError(f"{name}: is empty (0 bytes), expected an audio file")
        yield file
    finally:
        if owned:
            stream.close()


def _opened_path(path: str | Path, name: str) -> BinaryIO:
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise AudioError(f"{name}: is a folder, expected an audio file")
        if not stat.S_ISREG(mode):  # opening a pipe could wait for ever
            raise AudioError(f"{name}: is a pipe or a device, expected an audio file; save its content to a file first")
        return open(path, "rb")
    except FileNotFoundError:
        if address := _ADDRESS.search(name):  # in the folder of a table, and of the slashes a Path keeps one
            whole = f"{address['scheme']}:{'///' if address['scheme'] == 'file' else '//'}{address['rest']}"
            raise AudioError(
                f"{whole}: is an address, expected a file; download it first (with `curl -LO ADDRESS`, from http)"
            ) from None
        raise AudioError(f"{name}: no such audio file") from None
    except (OSError, ValueError) as error:
        raise AudioError(f"{name}: cannot be opened: {getattr(error, 'strerror', None) or error}") from None
