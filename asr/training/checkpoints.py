"""Checkpoints to resume from, the model package of the best epoch, and a clean stop."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins import CheckpointIO

from asr.checkpoint import LAST, read_checkpoint, write_checkpoint
from asr.errors import PackageError, StorageError
from asr.interrupts import Interruption
from asr.package import read_package, weights_hash
from asr.training.module import SpeechModule
from asr.training.processes import any_process
from asr.training.resume import RUN, RunRecord

logger = logging.getLogger(__name__)

_KEPT = ("best_wer", "best_cer", "best_merit", "best_epoch", "package_hash")


class Stopped(Exception):
    """The user asked to stop; everything is saved."""


class CheckpointFiles(CheckpointIO):
    """How Lightning writes and reads checkpoints: as :mod:`asr.checkpoint` does, with what is noted of the run.

    Parameters
    ----------
    record
        Of the run.
    """

    def __init__(self, record: RunRecord) -> None:
        self.record = record

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        write_checkpoint(Path(path).parent, {**checkpoint, RUN: self.record.to_mapping()})

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        return read_checkpoint(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)


class Checkpoints(Callback):
    """Write ``last.ckpt`` and, whenever the development set's WER (CER where that is equal) improves, the model package.

    With ``optim.loss=ctc_crf`` and a decoder without a language model it is the loss that has to improve.

    ``last.ckpt`` is written at each epoch's end, every ``minutes`` between, and when the run is interrupted (SIGINT or
    SIGTERM; a second SIGINT stops at once).

    Parameters
    ----------
    folder
        Output folder of the run.
    package
        The model package's.
    minutes
        Longest time between two checkpoints; 0 writes them at the ends of epochs only.
    write_package
        Called with the module when the weights are the best so far.
    has_dev
        Without a development set the newest weights are the best.
    comparable
        Whether the error rates of a run that is resumed can be compared with those to come; otherwise the best epoch is chosen
        anew.

    Attributes
    ----------
    began
        Whether the checkpoint, where there is one, was taken up, and training began.
    """

    def __init__(
        self,
        folder: Path,
        package: Path,
        minutes: float,
        write_package: Callable[[Any], None],
        *,
        has_dev: bool,
        comparable: bool = True,
    ) -> None:
        self.folder = folder
        self.package = package
        self.minutes = minutes
        self.write_package = write_package
        self.has_dev = has_dev
        self.comparable = comparable
        self.began = False
        self.forget_best()
        self.interruption = Interruption("batch")
        self._watching = ExitStack()
        self.saved_at = time.monotonic()

    def forget_best(self) -> None:
        """Let the best epoch be chosen among those to come."""
        self.best_wer = self.best_cer = float("inf")
        self.best_merit: tuple[float, ...] = (float("inf"), float("inf"))
        self.best_epoch = 0
        self.package_hash: str | None = None

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _KEPT}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best_wer, self.best_cer = float(state_dict["best_wer"]), float(state_dict["best_cer"])
        self.best_merit = tuple(map(float, state_dict["best_merit"]))
        self.best_epoch, self.package_hash = int(state_dict["best_epoch"]), state_dict["package_hash"]

    def package_fault(self) -> str | None:
        """Return what is wrong with the package that the run has written; None where it has written none, or it is whole."""
        if self.package_hash is None:
            return None
        try:
            package = read_package(self.package)
        except PackageError as error:
            return str(error)
        if package.checkpoint_hash == self.package_hash:
            return None
        epoch = package.facts.get("epoch")
        if self.has_dev and epoch != self.best_epoch:
            return f"{self.package}: is of epoch {epoch}, which was trained after the checkpoint was written"
        return f"{self.package}: its weights are not those that were written"

    def finish(self, module: SpeechModule) -> None:
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
        self._write(module)

    def _write(self, module: LightningModule) -> None:
        self.write_package(module)
        self.package_hash = weights_hash(self.package)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.began = True
        fault = self.package_fault() if trainer.is_global_zero else None
        if fault is not None:
            logger.warning(f"{fault}. The best epoch's weights are lost; the best of those to come takes their place")
        if fault is not None or not self.comparable:
            self.forget_best()

        # Later than Lightning sets its own, which speaks to the other processes out of the handler and so can block them all.
        self._watching.enter_context(self.interruption.watch())
        self.saved_at = time.monotonic()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._watching.close()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.current_epoch + 1 == trainer.max_epochs:  # its weights may be the best, so it is always validated
            trainer.check_val_every_n_epoch = 1
        due = self.minutes > 0 and time.monotonic() - self.saved_at > 60 * self.minutes
        # The decisions are not kept: a request that comes while they are made would be lost.
        due, stop = any_process(trainer, due), any_process(trainer, self.interruption.requested)
        if trainer.is_last_batch:  # the epoch is validated and ends first: a run is resumed in an epoch, or before one
            return
        if due or stop:
            self.save_last(trainer)
        if stop:
            raise Stopped

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, SpeechModule)
        assert pl_module.last_score is not None
        if pl_module.merit < self.best_merit:
            self.best_merit, self.best_epoch = pl_module.merit, trainer.current_epoch + 1
            self.best_wer, self.best_cer = pl_module.last_score.wer.rate, pl_module.last_score.cer.rate
            if trainer.is_global_zero:
                self._write(pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self.has_dev and trainer.is_global_zero:
            self._write(pl_module)
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
