"""KenLM's programs: lmplz counts n-grams and smooths them, build_binary packs them (Heafield et al. 2013)."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from asr.errors import ConfigError, Failure, StorageError
from asr.language.config import NgramConfig
from asr.progress import Progress

logger = logging.getLogger(__name__)

_STAGE = re.compile(r"^=== (\d/\d) (.*?) ===$", re.MULTILINE)
_SHOWN_CHARACTERS = 1500
_POINTER_BITS = 22  # of a trie's pointers in an array of their own: a fifth smaller, hardly slower


class DiscountError(Exception):
    """The text is too small, or too regular, for Kneser-Ney discounts to be estimated from it."""


def find_program(name: str) -> Path:
    """Find one of KenLM's programs in the environment's folder of programs, or on the PATH.

    Raises
    ------
    ConfigError
        It is in neither.
    """
    beside = Path(sys.executable).parent / name
    if os.access(beside, os.X_OK) and beside.is_file():
        return beside
    found = shutil.which(name)
    if found is None:
        raise ConfigError(
            f"KenLM's program {name}, which makes n-gram models, is neither in {beside.parent} nor on the PATH; "
            "`scripts/build-lmplz` of asr's repository builds it"
        )
    return Path(found)


def count_ngrams(lines: Iterable[str], n_lines: int, config: NgramConfig, work: Path, *, fallback: bool = False) -> Path:
    """Make an ARPA file from sentences.

    Parameters
    ----------
    lines
        Sentences, their units separated by spaces.
    n_lines
        How many there are.
    config
        Order, pruning, memory.
    work
        Folder for the ARPA file and lmplz's own temporary files.
    fallback
        Use fixed discounts where they cannot be estimated.

    Raises
    ------
    DiscountError
        The discounts cannot be estimated.
    Failure, StorageError
        lmplz failed; the message ends with what it said.
    """
    arpa = work / "lmplz.arpa"
    command = [str(find_program("lmplz")), "-o", str(config.order), "-S", f"{round(config.memory_gib * 1024)}M"]
    command += ["-T", f"{work}/sort", "--arpa", str(arpa), "--prune", *map(str, config.prune[: config.order])]
    command += ["--discount_fallback"] if fallback else []
    _run(command, work / "lmplz.log", lines, n_lines)
    return arpa


def pack(arpa: Path, target: Path, config: NgramConfig, work: Path) -> None:
    """Make a KenLM binary file from an ARPA file.

    Raises
    ------
    Failure, StorageError
        build_binary failed; the message ends with what it said.
    """
    bits = str(config.quantisation_bits)
    options = ["-q", bits, "-b", bits] if config.quantisation_bits else []
    options = [*options, "-a", str(_POINTER_BITS)] if config.binary == "trie" else []
    memory = f"{round(config.memory_gib * 1024)}M"
    command = [str(find_program("build_binary")), "-S", memory, "-T", f"{work}/sort", *options]
    _run([*command, config.binary, str(arpa), str(target)], work / "build_binary.log", (), 0)


def _run(command: Sequence[str], log: Path, lines: Iterable[str], n_lines: int) -> None:
    """Run a program, feed it lines, and log the stages that it reports."""
    with open(log, "wb") as stderr:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=stderr)
    try:
        _feed(process, lines, n_lines)
        _follow(process, log)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
    if process.returncode == -signal.SIGINT:  # Ctrl-C reached it first
        raise KeyboardInterrupt
    if process.returncode:
        raise _failure(Path(command[0]).name, process.returncode, log.read_text(encoding="utf-8", errors="replace"))


def _feed(process: subprocess.Popen[bytes], lines: Iterable[str], n_lines: int) -> None:
    assert process.stdin is not None
    # Where the program has ended, its exit code and its words say why.
    try:
        with contextlib.suppress(BrokenPipeError), Progress("counting", n_lines, "sentences") as progress:
            for line in lines:
                process.stdin.write(f"{line}\n".encode())
                progress.advance(1)
    finally:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()


def _follow(process: subprocess.Popen[bytes], log: Path) -> None:
    shown = 0
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.5)
        stages = _STAGE.findall(log.read_text(encoding="utf-8", errors="replace"))
        for number, name in stages[shown:]:
            logger.info(f"lmplz {number}: {name[0].lower()}{name[1:]}")
        shown = len(stages)
        if process.returncode is not None:
            return


def _failure(program: str, code: int, text: str) -> Exception:
    if "discount_fallback" in text:
        return DiscountError()
    said = " ".join(text[-_SHOWN_CHARACTERS:].replace("\r", "\n").split())
    if "No space left" in text:
        return StorageError(f"{program}: the disk is full. It said: {said}")
    advice = "lower lm.memory_gib" if "-S setting" in text or "Cannot allocate" in text or code == -9 else "see what it said"
    return Failure(f"{program} failed with exit code {code}; {advice}: {said}")
