"""Every error a user can cause.

::

    AsrError
    ├── UserError               the user's mistake: exit code 2
    │   ├── ConfigError         a key, a value or a combination that cannot be
    │   ├── DataError           a manifest, a table, a transcript, a corpus folder
    │   ├── AudioError          a file that holds no usable audio
    │   ├── TextError           a character the tokenizer does not know
    │   └── PackageError        a model package that is broken or not ours
    └── Failure                 nobody's mistake: exit code 1
        ├── TrainingDiverged    the loss is no longer a finite number
        ├── OutOfMemory         the machine, or what it allows, has no more
        └── StorageError        the disk is full or cannot be written

A message says what is wrong, where, what was found, what was expected, and what to do about it.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator

LEFT_OUT = 3
"""Exit code of a command that is done, but had to leave out something of what it was given."""

INTERRUPTED = 130
"""Exit code of what the user stopped: 128 and the number of SIGINT, as shells have it."""

WRONG_PATH = frozenset({errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP})
"""Numbers of the system's errors that come of a path which cannot be, not of the disk."""


class AsrError(Exception):
    """Root of all errors raised on purpose; ``exit_code`` is what the command line returns."""

    exit_code = 1


class UserError(AsrError):
    """Something the user gave cannot be used."""

    exit_code = 2


class ConfigError(UserError):
    """A configuration key, value or combination of them that cannot be used."""


class DataError(UserError):
    """A manifest, table, transcript or corpus folder that cannot be used."""


class AudioError(UserError):
    """A file or array that holds no usable audio."""


class TextError(UserError):
    """Text with characters that the tokenizer does not know."""


class PackageError(UserError):
    """A model package that is incomplete, corrupt or not one of ours."""


class Failure(AsrError):
    """The program could not go on, through no mistake of the user."""


class TrainingDiverged(Failure):
    """The training loss is no longer a finite number."""


class OutOfMemory(Failure):
    """There is not enough memory."""


class StorageError(Failure):
    """A file could not be written: the disk is full or not writable."""


_MEMORY_WORDS = ("allocate memory", "bad_alloc", "failed to map segment", "malloc", "out of memory", "can't start new thread")


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what it was raised after, also where it does not show that."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def lacks_memory(error: BaseException) -> bool:
    """Say whether an error, or what it was made of, is that there is not enough memory; libraries say so in many ways."""
    for link in chain(error):
        if isinstance(link, MemoryError) or (isinstance(link, OSError) and link.errno == errno.ENOMEM):
            return True
        if isinstance(link, (RuntimeError, ImportError, OSError)) and any(word in str(link) for word in _MEMORY_WORDS):
            return True
    return False
