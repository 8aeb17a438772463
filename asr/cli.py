"""``asr COMMAND ...``: finds the command, runs it, and turns errors into messages and exit codes.

Commands are modules of :mod:`asr.commands`. Only the one that is asked for is imported, so help is quick.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from asr.errors import (
    INTERRUPTED,
    LEFT_OUT,
    WRONG_PATH,
    AsrError,
    AudioError,
    ConfigError,
    Failure,
    OutOfMemory,
    StorageError,
    UserError,
    chain,
    lacks_memory,
)
from asr.option import nearest
from asr.output import give_up, lost, open_streams
from asr.version import __version__

COMMANDS = {
    "prepare": "check recordings and transcripts, and write the manifests that the other commands read",
    "train": "train a model with a recipe and overrides, and write a model package",
    "evaluate": "measure the error rates of a model on prepared manifests",
    "compare": "score what systems wrote, ours or anybody's, and say which differences are real",
    "transcribe": "turn audio files into text",
    "inspect": "show what a model computes on its way through an utterance, as a page with sound",
    "models": "list the models that ship with asr, or print the card of one",
    "tune": "find the decoder's settings on a development set, and write them into the model package",
    "compress": "write a copy of a model package whose weights take fewer bits",
    "lm": "train, measure and try out language models",
}
"""Command names with their summaries; each is a module of :mod:`asr.commands`."""

_WITH_ACTIONS = ("prepare", "lm")  # those that have subcommands

EXIT_CODES = (
    f"exit codes: 0 done; {Failure.exit_code} failed; {UserError.exit_code} something given cannot be used; "
    f"{LEFT_OUT} done, but something had to be left out; {INTERRUPTED} interrupted"
)
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG})
_DENIED = frozenset({errno.EACCES, errno.EPERM})
_BROKEN = frozenset({errno.EIO, errno.ESTALE})


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv
        Arguments without the program's name; those of the process by default.

    Returns
    -------
    int
        The command's own, or 1 failed; 2 something the user gave cannot be used; 3 done, with something left out; 130
        interrupted.
    """
    if argv is None:
        open_streams()
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = " ".join(["asr", *arguments[:1]]) if arguments[:1] and arguments[0] in COMMANDS else "asr"
    code = _guard(name, lambda: _run(arguments), leaves=argv is None)
    if code == INTERRUPTED and argv is None:  # a training that stopped as it was asked to
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except (OSError, StorageError) as error:
        give_up(sys.stdout)
        if not isinstance(error, BrokenPipeError):  # whose reader had enough (`asr ... | head`)
            _report(name, error if isinstance(error, StorageError) else lost(error), Failure.exit_code)
        return code or Failure.exit_code
    return code


def _run(arguments: Sequence[str]) -> int:
    try:
        run = parse(arguments)
    except SystemExit as stop:  # argparse leaves this way, for --help and for wrong arguments
        return stop.code if isinstance(stop.code, int) else 0
    return run()


def parse(arguments: Sequence[str]) -> Callable[[], int]:
    """Find the command and read its arguments.

    Returns
    -------
    Callable[[], int]
        Runs it; returns the exit code.

    Raises
    ------
    SystemExit
        After help was printed, or for arguments that cannot be read.
    """
    if not arguments or arguments[0] not in COMMANDS:
        parser = _overview()
        parser.parse_known_args(arguments[:1])
        if not arguments:
            parser.print_help()
            parser.exit(UserError.exit_code)
        hint = nearest(arguments[0], COMMANDS)
        parser.error(f"unknown command {arguments[0]!r}.{hint} There are: {', '.join(COMMANDS)}")
    name = arguments[0]
    module = importlib.import_module(f"asr.commands.{name}")
    parser = argparse.ArgumentParser(prog=f"asr {name}", description=COMMANDS[name], add_help=name != "train")
    module.add_arguments(parser)
    # Options may stand between positional arguments (`asr train a=1 --print-config b=2`), which argparse cannot do together
    # with subcommands, nor with names after `--` that begin with a dash.
    names = arguments[arguments.index("--") + 1 :] if "--" in arguments else ()
    intermixed = name not in _WITH_ACTIONS and not any(name.startswith("-") for name in names)
    read = parser.parse_intermixed_args if intermixed else parser.parse_args
    args = read(list(arguments[1:]))
    return lambda: int(module.run(args))


def _overview() -> argparse.ArgumentParser:
    lines = [f"  {name:11} {summary}" for name, summary in COMMANDS.items()]
    parser = argparse.ArgumentParser(
        prog="asr",
        usage="asr COMMAND ...",
        description="Train, measure and use CNN + LSTM + CTC speech recognisers.\n\ncommands:\n" + "\n".join(lines),
        epilog=f"`asr COMMAND --help` says what a command can be told.\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version")
    return parser


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(f"asr {__version__}")
        parser.exit()


def _guard(name: str, command: Callable[[], int], *, leaves: bool = False) -> int:
    """Run a command; what it raises becomes a message and an exit code. ``leaves`` says that the process ends with it."""
    try:
        return command()
    except KeyboardInterrupt:
        return _interrupted(name, leaves)
    except BrokenPipeError:
        return Failure.exit_code
    except Exception as error:
        # A library may have made something else of Ctrl-C; nothing that was given is at fault then.
        if isinstance(error, UserError) and any(isinstance(link, KeyboardInterrupt) for link in chain(error)):
            return _interrupted(name, leaves)
        known = _known(error)
        if known is not None:
            return _report(name, known, known.exit_code)
        traceback.print_exc()
        print(f"{name}: this is a fault in asr, not in what you gave it; please report it", file=sys.stderr)
        return Failure.exit_code


def _interrupted(name: str, leaves: bool) -> int:
    if leaves:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # who presses Ctrl-C again wants the same, and no traceback
    return _report(name, "interrupted", INTERRUPTED)


def _known(error: Exception) -> AsrError | None:
    """Return what a user is told of an error; None for a fault of ours."""
    # A file of sound may ask for memory that nobody has; any other error that is about memory is about nothing else.
    if not isinstance(error, AudioError) and lacks_memory(error):
        reason = " ".join(str(error).split()) or type(error).__name__
        return OutOfMemory(
            f"there is not enough memory: {reason}; close other programs, allow more (`ulimit -v`), or give it less at once "
            "(--batch-seconds, trainer.batch_s, a smaller beam)"
        )
    if isinstance(error, OSError):
        return _of_system(error)
    return error if isinstance(error, AsrError) else None


def _of_system(error: OSError) -> AsrError | None:
    """Return what a user is told of an error of the system that nobody met before; None for a fault of ours."""
    import shutil

    if isinstance(error, shutil.Error) and isinstance(error.args[0], list):  # of copying a folder; it names all files
        source, _, reason = error.args[0][-1]
        return StorageError(f"cannot copy {source}: {reason}; change its permissions, or free some space")
    place = f" {error.filename}" if error.filename else ""
    if error.errno in WRONG_PATH:
        return ConfigError(f"cannot use{place}: {error.strerror}; choose another name or folder")
    if error.errno in _DENIED and error.filename and (path := _unreadable(str(error.filename))):
        which = "" if path == str(error.filename) else f"; {path} may not be looked into"
        return ConfigError(f"cannot read{place}: {error.strerror}{which}; change the permissions, or name another")
    if error.errno in _DENIED:
        return StorageError(f"cannot write{place}: {error.strerror}; change the permissions, or choose another folder")
    if error.errno in _FULL:
        return StorageError(
            f"cannot write{place}: {error.strerror}; free some space or choose another folder, and run it again"
        )
    if error.errno in _BROKEN:
        return StorageError(f"cannot read or write{place}: {error.strerror}; look after the disk, and run it again")
    return None


def _unreadable(path: str) -> str | None:
    """Return what of a path may not be read, a folder above it or itself; None where the system denied something else."""
    place = Path(path)
    for folder in reversed(place.absolute().parents):
        if folder.is_dir() and not os.access(folder, os.X_OK):
            return str(folder)
    return path if place.exists() and not os.access(place, os.R_OK) else None


def _report(name: str, message: object, code: int) -> int:
    with suppress(OSError, StorageError, AttributeError):  # what was printed comes first
        sys.stdout.flush()
    print(f"{name}: {'error: ' if code != INTERRUPTED else ''}{message}", file=sys.stderr)
    return code
