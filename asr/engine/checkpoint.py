"""Checkpoints: what a training goes on from, in a file that knows its own hash; the one before is kept beside it."""

from __future__ import annotations

import hashlib
import logging
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch

from asr.errors import DataError, TrainingDiverged, lacks_memory
from asr.files import keep_as, replacing, sync

logger = logging.getLogger(__name__)

LAST = "last.ckpt"
PREVIOUS = "previous.ckpt"

# A checkpoint is a zip file that torch.load reads; the hash is the comment at its end.
_MARK = b"asr checkpoint sha256 "
_N_COMMENT = len(_MARK) + 64
_LENGTH = _N_COMMENT.to_bytes(2, "little")
_NO_LENGTH = bytes(2)
_BLOCK_BYTES = 1 << 20


def write_checkpoint(folder: Path, content: Mapping[str, Any]) -> None:
    """Write a folder's last checkpoint, whole or not at all; the one before is kept.

    Parameters
    ----------
    folder
        Where it goes.
    content
        Tensors and plain values, by names, in lists and mappings.

    Raises
    ------
    TrainingDiverged
        A tensor holds NaN or infinity; the checkpoints are left as they are.
    StorageError
        It cannot be written; the checkpoints are left as they are.
    """
    path = folder / LAST
    if (name := _not_finite(content)) is not None:
        raise TrainingDiverged(
            f"{name} holds NaN or infinity, so it is not written to {path}: the last good checkpoint is kept. Try a lower "
            "learning rate, or a longer warm-up."
        )
    with replacing(path) as stream:
        hashing = _Hashing(stream)
        try:
            torch.save(dict(content), hashing)  # type: ignore[arg-type]
        except RuntimeError as error:
            raise hashing.failure or error from None  # torch says nothing of a full disk but that it is at a wrong place
        stream.seek(-len(_NO_LENGTH), os.SEEK_END)
        stream.write(_LENGTH + _MARK + hashing.digest.hexdigest().encode())
        if path.exists():
            keep_as(path, folder / PREVIOUS)
        else:
            (folder / PREVIOUS).unlink(missing_ok=True)  # of another run, whose last checkpoint was removed


def last_checkpoint(folder: Path, advice: str) -> dict[str, Any] | None:
    """Return a folder's last checkpoint; where it is damaged the one before takes its place, which is logged.

    Parameters
    ----------
    folder
        Where they lie.
    advice
        Ends the message where there is none that can be used.

    Returns
    -------
    dict or None
        Tensors are on the CPU; None where there is none.

    Raises
    ------
    DataError
        None of them can be read.
    """
    path, before = folder / LAST, folder / PREVIOUS
    if not path.exists():
        return None
    try:
        return read_checkpoint(path)
    except DataError as error:
        damage = str(error)
    if not before.exists():
        raise DataError(f"{damage}. {advice}")
    try:
        content = read_checkpoint(before)
    except DataError as error:
        raise DataError(f"{damage}; nor the one before it: {error}. {advice}") from None
    os.replace(before, path)
    sync(folder)
    logger.warning(f"{damage}; going on from the checkpoint before it")
    return content


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint of ours; no code in it is run.

    Raises
    ------
    DataError
        It cannot be read, is damaged, or is none that this version of asr has written.
    """
    try:
        with open(path, "rb") as stream:
            _check_hash(stream)
            stream.seek(0)
            content = torch.load(stream, map_location="cpu", weights_only=True)
        if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
            raise ValueError("it holds no names")
        if (name := _not_finite(content)) is not None:
            raise ValueError(f"{name} holds NaN or infinity")
    except Exception as error:  # torch raises many kinds for what it cannot read
        if lacks_memory(error):
            raise
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())[:200]
        raise unreadable(path, reason) from None
    return content


def unreadable(path: Path, reason: object, advice: str = "") -> DataError:
    """Return the error about a file that is no checkpoint, or not one of this version of asr."""
    return DataError(f"{path}: cannot be read as a checkpoint ({reason}){f'. {advice}' if advice else ''}")


def check_like(name: str, found: object, wanted: torch.Tensor) -> None:
    """Make sure that what a checkpoint holds can take a tensor's place.

    Raises
    ------
    ValueError
        It is no tensor, or of another shape or type.
    """
    if not isinstance(found, torch.Tensor):
        raise ValueError(f"{name} is no tensor")
    if found.shape != wanted.shape or found.dtype != wanted.dtype:
        raise ValueError(
            f"tensor {name} is {found.dtype} of shape {tuple(found.shape)}, expected {wanted.dtype} of {tuple(wanted.shape)}"
        )


def load_optimiser(optimizer: torch.optim.Optimizer, state: Mapping[str, Any], names: Mapping[torch.Tensor, str]) -> None:
    """Let Adam take up a state that is of all its parameters, and of its settings.

    Parameters
    ----------
    optimizer
        Adam or AdamW, as the run configures it.
    state
        What its ``state_dict`` was.
    names
        Of its parameters.

    Raises
    ------
    KeyError, TypeError, ValueError, AttributeError, RuntimeError
        A part of the state is absent, or other than it should be.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    moments = state["state"]
    keys = {key for of_one in moments.values() for key in of_one}
    for number, parameter in enumerate(parameters if moments else []):
        for key in keys:
            name = f"{key} of {names[parameter]}"
            if key not in moments.get(number, {}):
                raise ValueError(f"{name} is absent")
            check_like(name, moments[number][key], torch.zeros(()) if key == "step" else parameter)
            if key == "exp_avg_sq" and bool((moments[number][key] < 0).any()):
                raise ValueError(f"{name} has values below 0, which no mean of squares has")
    if len({float(of_one["step"]) for of_one in moments.values()}) > 1:
        raise ValueError("the optimiser's counts of steps differ")
    for configured, group in zip(optimizer.state_dict()["param_groups"], state["param_groups"], strict=True):
        for key, value in configured.items():
            if key != "lr" and (type(group[key]), group[key]) != (type(value), value):
                raise ValueError(f"the optimiser's {key} is {group[key]!r}, expected {value!r}")
        if not 0 <= group["lr"] <= configured.get("initial_lr", math.inf):
            raise ValueError(f"the learning rate is {group['lr']}")
    optimizer.load_state_dict(dict(state))


class _Hashing:
    """A file to write to, with the hash of what was written, and why more could not be."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self.digest = hashlib.sha256()
        self.failure: OSError | None = None

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        try:
            return self.stream.write(data)
        except OSError as error:
            self.failure = error
            raise

    def flush(self) -> None:
        self.stream.flush()


def _check_hash(stream: BinaryIO) -> None:
    n_bytes = stream.seek(0, os.SEEK_END) - len(_LENGTH) - _N_COMMENT
    stream.seek(max(0, n_bytes))
    end = stream.read()
    if n_bytes < 0 or not end.startswith(_LENGTH + _MARK):
        raise ValueError("there is no hash at its end: it is cut, damaged, foreign or of another version of asr")
    digest = hashlib.sha256()
    stream.seek(0)
    while n_bytes:
        block = stream.read(min(n_bytes, _BLOCK_BYTES))
        n_bytes -= len(block)
        digest.update(block)
    digest.update(_NO_LENGTH)  # what torch had written there
    if digest.hexdigest().encode() != end[len(_LENGTH + _MARK) :]:
        raise ValueError("its content is not what the hash at its end says: it is damaged")


def _not_finite(content: object) -> str | None:
    """Return the name of a tensor that holds NaN or infinity, if there is one."""
    return next((name for name, tensor in _tensors(content, ()) if not bool(torch.isfinite(tensor).all())), None)


def _tensors(content: object, place: tuple[str, ...]) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the tensors of real numbers with their names."""
    if isinstance(content, torch.Tensor):
        if content.is_floating_point():
            yield ".".join(place), content
    elif isinstance(content, Mapping):
        for name, value in content.items():
            yield from _tensors(value, (*place, str(name)))
    elif isinstance(content, list | tuple):
        for number, value in enumerate(content):
            yield from _tensors(value, (*place, str(number)))
