"""A run of several processes: what they decide together, and what happens when one of them ends early."""

from __future__ import annotations

import subprocess
from typing import Any, TypeVar

import torch
from lightning.pytorch import Trainer

from asr.errors import Failure

PATIENCE_S = 10.0
T = TypeVar("T")


def any_process(trainer: Trainer, flag: bool) -> bool:
    """Say whether a flag is set in any process of the run; all have to ask."""
    return flag if trainer.world_size == 1 else bool(trainer.strategy.reduce_boolean_decision(flag, all=False))


def gather(value: T, world_size: int) -> list[T]:
    """Return the values that all processes give, in the order of their ranks."""
    if world_size == 1:
        return [value]
    gathered: list[Any] = [None] * world_size
    torch.distributed.all_gather_object(gathered, value)
    return gathered


def lost_another(error: RuntimeError) -> bool:
    """Say whether an error means that another process of the run is no longer there."""
    return isinstance(error, torch.distributed.DistError) or "gloo" in str(error)


def failure_of_another(trainer: Trainer, error: RuntimeError, *, began: bool) -> Failure:
    """Return the error to end with after another process was lost, or was not found.

    Its exit code is that of the other process, where this one started it.

    Parameters
    ----------
    trainer
        Of this process.
    error
        What told it. One of the network may be what is wrong itself, and so may every one before all processes were there;
        otherwise another process has said what was wrong.
    began
        Whether training had begun.
    """
    code, rank = _code_of_started(trainer), trainer.global_rank
    failure = Failure(f"process {rank} of the run stops, because another one ended; see its message, if any")
    of_network = isinstance(error, (torch.distributed.DistNetworkError, torch.distributed.DistStoreError))
    if of_network or not (began or code):
        failure = Failure(
            f"process {rank} of the run cannot work with the others ({type(error).__name__}: "
            f"{' '.join(str(error).split())[:300]}). Where another one has said what was wrong, mend that; otherwise make sure "
            "that the processes can reach one another: MASTER_ADDR and MASTER_PORT, where they are set, have to be this "
            "machine's and free"
        )
    failure.exit_code = code or failure.exit_code
    return failure


def _code_of_started(trainer: Trainer) -> int:
    """Wait for the processes that this one started, end those that do not end, and return the last exit code of an error."""
    code = 0
    started: list[subprocess.Popen[Any]] = getattr(trainer.strategy.launcher, "procs", [])
    for process in started:
        try:
            code = max(process.wait(PATIENCE_S), 0) or code
        except subprocess.TimeoutExpired:
            process.kill()
    return code


def lost_worker(error: RuntimeError) -> bool:
    """Say whether an error means that a process that makes batches ended by itself."""
    return str(error).startswith("DataLoader worker")


def failure_of_worker(error: RuntimeError) -> Failure:
    """Return the error to end with after such a process was lost."""
    reason = " ".join(str(error).split())
    return Failure(
        f"a process that reads audio was lost ({reason}); the last checkpoint is kept. Where memory, or the shared memory "
        "(/dev/shm) of a container, was short, lower trainer.workers or trainer.batch_s"
    )
