"""When a run writes its checkpoint and the package of its best weights, and when it ends before its last epoch."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins import CheckpointIO

from asr.engine.checkpoint import LAST, read_checkpoint, write_checkpoint
from asr.engine.data import TrainingData
from asr.engine.module import TrainingModule
from asr.engine.processes import any_process
from asr.engine.resume import RUN, RunRecord
from asr.errors import PackageError, StorageError
from asr.interrupts import Interruption

logger = logging.getLogger(__name__)

_KEPT = ("best_merit", "best_epoch", "package_hash", "n_worse")


class Stopped(Exception):
    """The user asked to stop; everything is saved."""


class Settled(Exception):
    """No better weights have come for so long that the run is complete."""


class Package(Protocol):
    """How a run keeps its best weights, in a folder."""

    path: Path

    def write(self, module: Any) -> str:
        """Write the module's weights, whole or not at all, and return their hash."""

    def read(self) -> tuple[str, float]:
        """Return the hash of the weights that are there, and their epoch; raises a PackageError where they are not whole."""


class CheckpointFiles(CheckpointIO):
    """How Lightning writes and reads checkpoints: as :mod:`asr.engine.checkpoint` does, with what is noted of the run."""

    def __init__(self, record: RunRecord) -> None:
        self.record = record

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        write_checkpoint(Path(path).parent, {**checkpoint, RUN: asdict(self.record)})

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        return read_checkpoint(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)


class Checkpoints(Callback):
    """Write ``last.ckpt`` and, whenever a validation finds weights that are better, the package.

    ``last.ckpt`` is written at each epoch's end, every ``minutes`` between, and when the run is interrupted (SIGINT or
    SIGTERM; a second SIGINT stops at once).

    Parameters
    ----------
    folder
        Of the checkpoints.
    package
        What is written of the best weights.
    minutes
        Longest time between two checkpoints; 0 writes them at the ends of epochs only.
    data
        Says after which batches an epoch is validated, and with how many validations in vain the run is complete.
    has_dev
        Without a development set the newest weights are the best.

    Attributes
    ----------
    comparable
        Whether what validation has found before the run is resumed can be compared with what it will find; otherwise the best
        weights are chosen anew.
    began
        Whether the checkpoint, where there is one, was taken up, and training began.
    """

    def __init__(self, folder: Path, package: Package, minutes: float, data: TrainingData, *, has_dev: bool) -> None:
        self.folder, self.package, self.minutes, self.data, self.has_dev = folder, package, minutes, data, has_dev
        self.comparable = True
        self.began = False
        self.forget_best()
        self.interruption = Interruption("batch")
        self._watching = ExitStack()
        self.saved_at = time.monotonic()

    def forget_best(self) -> None:
        """Let the best weights be chosen among those to come."""
        self.best_merit: tuple[float, ...] = (float("inf"), float("inf"))
        self.best_epoch: float = 0
        self.n_worse = 0
        self.package_hash: str | None = None

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _KEPT}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best_merit = tuple(map(float, state_dict["best_merit"]))
        self.best_epoch, self.package_hash = float(state_dict["best_epoch"]), state_dict["package_hash"]
        self.n_worse = int(state_dict.get("n_worse", 0))

    def package_fault(self) -> str | None:
        """Return what is wrong with the package that the run has written; None where it has written none, or it is whole."""
        if self.package_hash is None:
            return None
        try:
            found, epoch = self.package.read()
        except PackageError as error:
            return str(error)
        if found == self.package_hash:
            return None
        if self.has_dev and epoch != self.best_epoch:
            return f"{self.package.path}: is of epoch {epoch}, which was trained after the checkpoint was written"
        return f"{self.package.path}: its weights are not those that were written"

    def finish(self, module: TrainingModule) -> None:
        """Make sure that the package of a complete run is there; where it is lost, make it of the last weights.

        Raises
        ------
        StorageError
            It cannot be written.
        """
        fault = self.package_fault()
        if fault is None and self.package_hash is not None:
            return
        if fault is not None:
            logger.warning(f"{fault}. The package is made anew of the run's last weights")
        self.forget_best()
        self.package_hash = self.package.write(module)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.began = True
        fault = self.package_fault() if trainer.is_global_zero else None
        if fault is not None:
            logger.warning(f"{fault}. The best epoch's weights are lost; the best of those to come takes their place")
        if any_process(trainer, fault is not None) or not self.comparable:
            self.forget_best()

        # Later than Lightning sets its own, which speaks to the other processes out of the handler and so can block them all.
        self._watching.enter_context(self.interruption.watch())
        self.saved_at = time.monotonic()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._watching.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._watching.close()  # Lightning leaves out teardown then

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.current_epoch + 1 == trainer.max_epochs:  # its weights may be the best, so it is always validated
            trainer.check_val_every_n_epoch = 1
        validates = batch_idx + 1 in self.data.validated_after
        trainer.val_check_batch = batch_idx + 1 if validates else float("inf")
        due = self.minutes > 0 and time.monotonic() - self.saved_at > 60 * self.minutes
        # The decisions are not kept: a request that comes while they are made would be lost.
        due, stop = any_process(trainer, due), any_process(trainer, self.interruption.requested)
        if trainer.is_last_batch or validates:  # that comes first: a run is resumed between two batches, or before an epoch
            return
        if due or stop:
            self.save_last(trainer)
        if stop:
            raise Stopped

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, TrainingModule)
        self.n_worse += 1
        if pl_module.merit < self.best_merit:
            self.best_merit, self.best_epoch, self.n_worse = pl_module.merit, pl_module.epochs_trained, 0
            if trainer.is_global_zero:
                self.package_hash = self.package.write(pl_module)
        if 0 < self.data.patience <= self.n_worse:
            logger.info(f"no better weights in {self.n_worse} validations: training ends")
            raise Settled

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self.has_dev and trainer.is_global_zero:
            self.package_hash = self.package.write(pl_module)
        self.save_last(trainer)
        stop = any_process(trainer, self.interruption.requested)
        if stop and trainer.current_epoch + 1 != trainer.max_epochs:
            raise Stopped

    def save_last(self, trainer: Trainer) -> None:
        """Write ``last.ckpt`` whole, or leave the one before."""
        try:
            trainer.save_checkpoint(self.folder / LAST)
        except StorageError as error:
            raise StorageError(f"{error}. The checkpoint before it is kept; free some space and go on.") from error
        self.saved_at = time.monotonic()
