"""Whether what a checkpoint holds fits the network and the optimiser that shall go on from it."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.trainer.connectors import checkpoint_connector

from asr.engine.checkpoint import check_like, load_optimiser
from asr.engine.module import TrainingModule
from asr.engine.resume import Terms
from asr.engine.saving import Checkpoints
from asr.errors import DataError, lacks_memory


def check_restorable(path: Path, checkpoint: Mapping[str, Any], module: TrainingModule, terms: Terms) -> None:
    """Make sure that a module that is not yet trained can take up weights, optimiser and schedule; it stays as it is.

    Raises
    ------
    DataError
        Naming the tensor that is absent, foreign, or of another shape or type.
    """
    try:
        checkpoint["callbacks"][Checkpoints.__qualname__]  # or the best epoch so far would be forgotten
        _check_weights(module.taken_up(checkpoint["state_dict"]), module)
        _check_optimiser(checkpoint, module)
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        if lacks_memory(error):
            raise
        reason = f"it lacks {error}" if isinstance(error, KeyError) else " ".join(str(error).split())[:300]
        raise DataError(f"{path}: cannot be gone on from: {reason}. {terms.anew}") from None


def misfit(error: Exception) -> bool:
    """Say whether an error means that a checkpoint does not fit: Lightning was giving its parts to those who take them up.

    Others that come before the first step have causes elsewhere: the GPU may be busy, or a log's folder be a file.
    """
    if lacks_memory(error) or isinstance(error, torch.AcceleratorError):
        return False
    modules = {frame.f_globals.get("__name__") for frame, _ in traceback.walk_tb(error.__traceback__)}
    return checkpoint_connector.__name__ in modules


def _check_weights(found: Mapping[str, Any], module: TrainingModule) -> None:
    wanted = module.state_dict()
    for name, tensor in wanted.items():
        if name not in found:
            raise ValueError(f"tensor {name} is absent")
        check_like(name, found[name], tensor)
    foreign = sorted(found.keys() - wanted.keys())
    if foreign:
        raise ValueError(f"tensor {foreign[0]} is not part of the network")


def _check_optimiser(checkpoint: Mapping[str, Any], module: TrainingModule) -> None:
    configured: Any = module.configure_optimizers()
    optimizer, schedule = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    ((state,), (progress,)) = checkpoint["optimizer_states"], checkpoint["lr_schedulers"]
    load_optimiser(optimizer, state, {parameter: name for name, parameter in module.named_parameters()})
    if checkpoint["global_step"] and not state["state"]:
        raise ValueError("the optimiser's moments are absent")
    if progress["base_lrs"] != schedule.base_lrs:
        raise ValueError(f"the schedule's peak is {progress['base_lrs']}, expected {schedule.base_lrs}")
    for key, value in schedule.state_dict().items():
        if type(progress[key]) is not type(value):
            raise ValueError(f"the schedule's {key} is {progress[key]!r}")
    schedule.load_state_dict(progress)
    if schedule.last_epoch != checkpoint["global_step"]:
        raise ValueError(f"its schedule is at step {schedule.last_epoch}, its weights at step {checkpoint['global_step']}")
