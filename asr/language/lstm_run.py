"""What a run keeps on the disk to go on from."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from asr.engine.checkpoint import LAST, last_checkpoint, write_checkpoint
from asr.errors import ConfigError, DataError, lacks_memory
from asr.language.config import LstmTraining
from asr.language.lstm import State
from asr.language.lstm_step import Stepper
from asr.language.lstm_text import TrainingText

logger = logging.getLogger(__name__)

# What may be changed when a run goes on: where and how fast it trains, and what is said.
_FREE = frozenset({"checkpoint_minutes", "accelerator", "threads", "held_out"})
_SAID = frozenset({"epochs", "validations", "patience", "precision"})


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


@dataclass(frozen=True)
class RunRecord:
    """What a checkpoint says of its run, to be compared with the one that goes on from it.

    Attributes
    ----------
    settings
        Of the section ``lm``, and the seed.
    text, dev
        Hashes of what is trained on and of what perplexity is measured on.
    precision
        What is computed in.
    """

    settings: Mapping[str, Any]
    text: str
    dev: str
    precision: str

    @classmethod
    def of(cls, config: LstmTraining, text: TrainingText, precision: torch.dtype) -> RunRecord:
        """Return what is to be noted of a run."""
        settings = {**dataclasses.asdict(config.lm), "seed": config.seed}
        return cls(settings, text.hash, text.dev_hash, str(precision).removeprefix("torch."))


def save_run(working: Path, record: RunRecord, stepper: Stepper, position: Position) -> None:
    """Write the checkpoint, whole or not at all; the one before is kept.

    Raises
    ------
    StorageError
        It cannot be written.
    TrainingDiverged
        The weights are not finite.
    """
    content = {
        "run": dataclasses.asdict(record),
        "stepper": stepper.state_dict(),
        "position": {name: getattr(position, name) for name in ("epoch", "window", "best", "stale")},
        "state": [list(pair) for pair in position.state.layers] if position.state is not None else None,
    }
    write_checkpoint(working, content)


def find_run(working: Path, record: RunRecord, stepper: Stepper, n_windows: int, *, resume: bool) -> Position | None:
    """Let a stepper go on from where an earlier run stopped, and return the place; None where there is none.

    Parameters
    ----------
    working
        The folder of the checkpoint.
    record
        Of the run that goes on.
    stepper
        Takes up what the checkpoint holds.
    n_windows
        Windows of an epoch.
    resume
        Whether it is to go on where there is one.

    Raises
    ------
    ConfigError
        There is a run that this one cannot go on with.
    DataError
        Its checkpoint is damaged, or does not fit.
    """
    path = working / LAST
    if not path.exists():
        return None
    if not resume:
        raise ConfigError(f"{working} holds a run already, and resume=false: remove it, choose another output, or resume it")
    content = last_checkpoint(working, f"Remove {working} to begin anew")
    assert content is not None
    try:
        before, place = RunRecord(**content["run"]), content["position"]
        position = Position(int(place["epoch"]), int(place["window"]), float(place["best"]), int(place["stale"]))
        logger.info(f"going on from {path}")
        if not _compare(working, before, record):
            position.best, position.stale = math.inf, 0
        stepper.load_state_dict(content["stepper"])
        position.state = _state(content["state"], before.precision, stepper)
        if not 0 <= position.window <= n_windows or stepper.n_steps != position.epoch * n_windows + position.window:
            raise ValueError(f"{stepper.n_steps} steps are not those of its place, window {position.window} of {n_windows}")
        if not 0 <= position.stale <= stepper.n_steps:
            raise ValueError(f"{position.stale} measurements without an improvement in {stepper.n_steps} steps")
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
        if lacks_memory(error):
            raise
        reason = f"it lacks {error}" if isinstance(error, KeyError) else " ".join(str(error).split())[:300]
        raise DataError(f"{path}: cannot be gone on from: {reason}. Remove {working} to begin anew") from None
    return position


def _compare(working: Path, before: RunRecord, now: RunRecord) -> bool:
    """Refuse what cannot change in a run, log what has, and say whether perplexities can be compared."""
    said = []
    for key, value in now.settings.items():
        old = before.settings[key]
        if old == value or key in _FREE:
            continue
        if key not in _SAID:
            raise ConfigError(
                f"{working} holds a run with another {_name(key)} ({old}, not {value}): it cannot be resumed with this one. "
                "Choose another output, or give the same settings"
            )
        said.append(f"{_name(key)}={value}, not {old}")
    if before.text != now.text:
        raise ConfigError(f"{working} holds a run on another text: choose another output, or remove it to begin anew")
    if said:
        logger.warning(f"from here on the run has {'; '.join(said)}")
    if before.precision != now.precision:
        logger.warning(f"from here on the run is computed in {now.precision}, not {before.precision}")
    if before.dev != now.dev:
        logger.warning("the sentences to measure perplexity on are others: the best weights are chosen among those to come")
    return before.dev == now.dev


def _name(key: str) -> str:
    return key if key == "seed" else f"lm.{key}"


def _state(layers: Any, precision: str, stepper: Stepper) -> State | None:
    """Return what the network remembers, on its device; it was computed in float32 or in the given precision."""
    if layers is None:
        return None
    config, device = stepper.config, stepper.rows.table.device
    tensors = [tensor for pair in layers for tensor in pair]
    sizes = {tuple(tensor.shape) for tensor in tensors}
    if len(layers) != config.layers or sizes != {(1, config.rows, config.hidden_size)}:
        raise ValueError(f"the network's memory has the sizes {sorted(sizes)} in {len(layers)} layers")
    types = {str(tensor.dtype).removeprefix("torch.") for tensor in tensors}
    if not types <= {"float32", precision}:
        raise ValueError(f"the network's memory is {', '.join(sorted(types))}, expected float32 or {precision}")
    exact = stepper.precision == torch.float32
    return State(tuple(tuple(t.to(device, torch.float32 if exact else t.dtype) for t in (h, c)) for h, c in layers))
