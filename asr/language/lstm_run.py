"""What a run keeps on the disk to go on from, and how it is asked to stop."""

from __future__ import annotations

import dataclasses
import logging
import signal
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from asr.errors import ConfigError, DataError
from asr.files import replacing
from asr.language.config import LstmTraining
from asr.language.lstm import State
from asr.language.lstm_step import Stepper

logger = logging.getLogger(__name__)

LAST = "last.ckpt"
# What may be changed when a run goes on.
_FREE = frozenset(
    {"epochs", "validations", "patience", "checkpoint_minutes", "accelerator", "precision", "threads", "held_out"}
)


@dataclass
class Position:
    """How far a run has come.

    Attributes
    ----------
    epoch
        Epochs that are complete.
    window
        Windows of the next one that are done.
    best
        Lowest perplexity on dev so far.
    stale
        Measurements since then.
    state
        What the network remembers of the window before.
    """

    epoch: int = 0
    window: int = 0
    best: float = float("inf")
    stale: int = 0
    state: State | None = None


def save_run(working: Path, config: LstmTraining, text_hash: str, stepper: Stepper, position: Position) -> None:
    """Write the checkpoint, whole or not at all.

    Raises
    ------
    StorageError
        It cannot be written; the one before is kept.
    """
    content = {
        "settings": _settings(config),
        "text": text_hash,
        "stepper": stepper.state_dict(),
        "position": {name: getattr(position, name) for name in ("epoch", "window", "best", "stale")},
        "state": [list(pair) for pair in position.state.layers] if position.state is not None else None,
    }
    with replacing(working / LAST) as stream:
        torch.save(content, stream)


def find_run(working: Path, config: LstmTraining, text_hash: str, device: torch.device) -> tuple[Position, Any] | None:
    """Return where an earlier run stopped, and what its :class:`Stepper` has to take up; None where there is none.

    Raises
    ------
    ConfigError
        There is a run that this one cannot go on with.
    DataError
        Its checkpoint is corrupt.
    """
    path = working / LAST
    if not path.exists():
        return None
    if not config.resume:
        raise ConfigError(f"{working} holds a run already, and resume=false: remove it, choose another output, or resume it")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)  # states of generators live there
        settings, position, layers = content["settings"], Position(**content["position"]), content["state"]
        before, stepper = content["text"], content["stepper"]
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, zipfile.BadZipFile, ValueError) as error:
        raise DataError(
            f"{path}: not a checkpoint, or corrupt ({type(error).__name__}); remove {working} to begin anew"
        ) from None
    different = sorted(key for key, value in _settings(config).items() if settings.get(key) != value)
    if different:
        raise ConfigError(
            f"{working} holds a run with another lm.{different[0]} ({settings.get(different[0])}): it cannot be resumed with "
            "this one. Choose another output, or give the same settings"
        )
    if before != text_hash:
        raise ConfigError(f"{working} holds a run on another text: choose another output, or remove it to begin anew")
    if layers is not None:
        position.state = State(tuple((h.to(device), c.to(device)) for h, c in layers))
    logger.info(f"going on from {path}")
    return position, stepper


def _settings(config: LstmTraining) -> dict[str, Any]:
    kept = {key: value for key, value in dataclasses.asdict(config.lm).items() if key not in _FREE}
    return {**kept, "seed": config.seed}


class Interruption:
    """Whether the user has asked to stop: by SIGINT or SIGTERM once, to save first; a second SIGINT stops at once."""

    def __init__(self) -> None:
        self.requested = False

    def _request(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        logger.info("stopping after this step; press Ctrl-C again to stop without saving")

    @contextmanager
    def watch(self) -> Iterator[Interruption]:
        """Listen for the signals inside the block."""
        before = {number: signal.signal(number, self._request) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
