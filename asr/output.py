"""What leaves asr as text: on a terminal, in a line, as JSON. Names and texts of others can hold any character."""

from __future__ import annotations

import codecs
import io
import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from asr.errors import StorageError

if TYPE_CHECKING:
    import logging

# All that a terminal would obey but tabs and line ends, and what turns the direction of writing around.
_CONTROL = re.compile(r"\r(?!\n)|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_LINE_END = re.compile(r"[\n\r\u2028\u2029]")
_HALF = re.compile(r"[\ud800-\udfff]")  # of a surrogate pair: a byte of a file name that is not UTF-8
# What displays of progress write: to the start of a line, to its end, one up.
_PROGRESS = re.compile(r"(?:[\r\n]|\x1b\[[AK])*\Z|\r?(?:\x1b\[K)?")
_READ_ONLY, _WRITE_ONLY = os.O_RDONLY, os.O_WRONLY


def printable(text: str) -> str:
    r"""Return a text whose control characters are seen, and not obeyed; tabs and line ends stay.

    Examples
    --------
    >>> print(printable("\x1b[31mred"))
    \x1b[31mred
    """
    return _CONTROL.sub(_escaped, text)


def one_line(text: str) -> str:
    """Return a text, such as the name of a file, as one line of printable characters."""
    return _LINE_END.sub(_escaped, printable(text))


def to_json(value: Any, *, indent: int | None = None, **options: Any) -> str:
    """Return JSON that is valid UTF-8 when encoded, and readable: of all characters only halves of surrogate pairs are escaped.

    A file name that is not UTF-8 comes back from :func:`json.loads` as :func:`os.fsdecode` gave it.
    """
    return _HALF.sub(_escaped, json.dumps(value, ensure_ascii=False, indent=indent, **options))


def is_unicode(text: str) -> bool:
    """Say whether a text is one: JSON can hold a half of a surrogate pair by itself, which no file in UTF-8 can."""
    return _HALF.search(text) is None


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


class Stream(io.TextIOWrapper):
    """Standard output or standard error of the process.

    On a terminal, control characters in what is written are shown, but for those of displays of progress. What cannot be
    written to standard error is dropped: a message that nobody reads changes no result.
    """

    on_terminal = is_error = False

    def write(self, text: str, /) -> int:
        """Write, as :meth:`io.TextIOWrapper.write`.

        Raises
        ------
        StorageError
            Standard output is closed, or what it leads to is full.
        BrokenPipeError
            Its reader is gone.
        """
        if self.on_terminal:
            progress = _PROGRESS.match(text)
            end = progress.end() if progress else 0
            text = text[:end] + printable(text[end:])
        try:
            return super().write(text)
        except OSError as error:
            self._fail(error)
        return len(text)

    def flush(self) -> None:
        """Bring all that was written on its way; raises as :meth:`write` does."""
        try:
            super().flush()
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> None:
        if self.is_error:
            give_up(self)
        else:
            _cannot_write(self, error)


def open_streams() -> None:
    """Make the process's output streams such as can be written whatever the text, the locale and the terminal."""
    for number in range(3):  # a file that is opened would otherwise take a closed stream's place, and what is printed to it
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, _WRITE_ONLY if number == 2 else _READ_ONLY), True)
    codecs.register_error("asr", _bytes_of_names)
    sys.stdout, sys.stderr = _stream(sys.stdout, 1), _stream(sys.stderr, 2)


def _stream(standing: TextIO | None, number: int) -> Stream:
    encoding = "utf-8" if standing is None else standing.encoding
    on_terminal = os.isatty(number)
    errors = "backslashreplace" if on_terminal or number == 2 else "asr"
    if standing is not None:
        standing.flush()
    buffer = io.BufferedWriter(io.FileIO(number, "w", closefd=False))
    stream = Stream(buffer, encoding=encoding, errors=errors, line_buffering=on_terminal or number == 2)
    stream.on_terminal, stream.is_error = on_terminal, number == 2
    return stream


def _bytes_of_names(error: UnicodeError) -> tuple[str | bytes, int]:
    """Write the bytes of a file name that is not text as they are, and other characters that an encoding lacks as escapes."""
    assert isinstance(error, UnicodeEncodeError)
    error.end = error.start + 1
    code = ord(error.object[error.start])
    if error.encoding == "utf-8" and 0xDC80 <= code <= 0xDCFF:
        return bytes([code - 0xDC00]), error.end
    return codecs.backslashreplace_errors(error)


def print_utf8(text: str) -> None:
    """Write what programs read, such as JSON, to standard output: in UTF-8 whatever the locale, as text on a terminal.

    Parameters
    ----------
    text
        All of it, line ends too; the bytes of a file name in it that are no text are written as they are.

    Raises
    ------
    StorageError
        Standard output is closed, or what it leads to is full.
    BrokenPipeError
        Its reader is gone.
    """
    stream = sys.stdout
    try:
        if stream.isatty():
            stream.write(text)
        else:
            stream.flush()
            stream.buffer.write(text.encode("utf-8", "surrogateescape"))
        stream.flush()
    except OSError as error:
        _cannot_write(stream, error)


def _cannot_write(stream: TextIO, error: OSError) -> NoReturn:
    """Raise the error about standard output that cannot be written; it is said once."""
    give_up(stream)
    if isinstance(error, BrokenPipeError):
        raise error
    raise lost(error) from error


def lost(error: OSError) -> StorageError:
    """Return the error about standard output that cannot be written."""
    return StorageError(f"standard output cannot be written: {error.strerror or error}")


def give_up(stream: TextIO) -> None:
    """Drop what a stream still holds and all that will be written to it: the interpreter would complain when it ends."""
    with suppress(OSError, AttributeError):  # what is no stream of the process needs nothing
        os.dup2(os.open(os.devnull, _WRITE_ONLY), stream.fileno())


def say(command: str, message: str) -> None:
    """Print what a command has to say of its work, one line on standard error."""
    print(f"asr {command}: {one_line(message)}", file=sys.stderr, flush=True)


def tell(line: str) -> None:
    """Print a line about work that goes on, as long as somebody reads it: a display does not end what it is about."""
    try:
        print(line, flush=True)
    except (OSError, StorageError):
        give_up(sys.stdout)


def log_handler() -> logging.Handler:
    """Return what shows messages on standard output, as long as somebody reads it: a log does not end the work it is about."""
    import logging

    class Handler(logging.StreamHandler[TextIO]):
        def handleError(self, record: logging.LogRecord) -> None:
            if isinstance(sys.exc_info()[1], OSError | StorageError):
                give_up(self.stream)
            else:
                super().handleError(record)

    return Handler(sys.stdout)


@contextmanager
def showing_messages(*files: Path) -> Iterator[None]:
    """Show the messages of asr as plain lines on standard output, and keep them in files as well, inside the block."""
    import logging

    root = logging.getLogger("asr")
    handlers = [log_handler()]
    for path in files:
        path.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(path, encoding="utf-8", errors="backslashreplace"))
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
        root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        for handler in handlers:
            root.removeHandler(handler)
            handler.close()
