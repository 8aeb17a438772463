"""Checkpoints to resume from, the model package of the best epoch, and a clean stop."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from asr.errors import StorageError
from asr.training.module import SpeechModule
from asr.training.processes import any_process, lost_another

logger = logging.getLogger(__name__)

LAST = "last.ckpt"


class Stopped(Exception):
    """The user asked to stop; everything is saved."""


class Checkpoints(Callback):
    """Write ``last.ckpt`` and, whenever the development set's WER (CER where that is equal) improves, the model package.

    With ``optim.loss=ctc_crf`` and a decoder without a language model it is the loss that has to improve.

    ``last.ckpt`` is written at each epoch's end, every ``minutes`` between, and when the run is interrupted (SIGINT or
    SIGTERM; a second SIGINT stops at once). It is written beside its place and renamed, so it is always whole.

    Parameters
    ----------
    folder
        Output folder of the run.
    minutes
        Longest time between two checkpoints; 0 writes them at the ends of epochs only.
    write_package
        Called with the module when the weights are the best so far.
    has_dev
        Without a development set the newest weights are the best.
    """

    def __init__(self, folder: Path, minutes: float, write_package: Callable[[Any], None], has_dev: bool) -> None:
        self.folder = folder
        self.minutes = minutes
        self.write_package = write_package
        self.has_dev = has_dev
        self.best_wer = self.best_cer = float("inf")
        self.best_merit = (float("inf"), float("inf"))
        self.best_epoch = 0
        self.stop_requested = False
        self.saved_at = time.monotonic()
        self._handlers: dict[int, Any] = {}

    def state_dict(self) -> dict[str, Any]:
        return {
            "best_wer": self.best_wer,
            "best_cer": self.best_cer,
            "best_merit": self.best_merit,
            "best_epoch": self.best_epoch,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best_wer = state_dict["best_wer"]
        self.best_cer = state_dict["best_cer"]
        self.best_merit = state_dict.get("best_merit", (self.best_wer, self.best_cer))  # older runs have no other loss
        self.best_epoch = state_dict["best_epoch"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Later than Lightning sets its own, which speaks to the other processes out of the handler and so can block them all.
        def request_stop(number: int, frame: FrameType | None) -> None:
            if self.stop_requested:
                if number == signal.SIGINT:
                    raise KeyboardInterrupt
                return  # SIGTERM comes twice where a group of processes has it, and one passes it on
            self.stop_requested = True
            logger.info("stopping after this batch; press Ctrl-C again to stop without saving")

        for number in (signal.SIGINT, signal.SIGTERM):
            self._handlers[number] = signal.signal(number, request_stop)
        self.saved_at = time.monotonic()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        while self._handlers:
            signal.signal(*self._handlers.popitem())

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.current_epoch + 1 == trainer.max_epochs:  # its weights may be the best, so it is always validated
            trainer.check_val_every_n_epoch = 1
        due = self.minutes > 0 and time.monotonic() - self.saved_at > 60 * self.minutes
        # The decisions are not kept: a request that comes while they are made would be lost.
        due, stop = any_process(trainer, due), any_process(trainer, self.stop_requested)
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
                self.write_package(pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self.has_dev and trainer.is_global_zero:
            self.write_package(pl_module)
        self.save_last(trainer)
        stop = any_process(trainer, self.stop_requested)
        if stop and trainer.current_epoch + 1 != trainer.max_epochs:
            raise Stopped

    def save_last(self, trainer: Trainer) -> None:
        """Write ``last.ckpt`` whole, or leave the one before."""
        path = self.folder / LAST
        partial = path.with_suffix(".part")
        try:
            trainer.save_checkpoint(partial)
            if trainer.is_global_zero:
                os.replace(partial, path)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
            if isinstance(error, RuntimeError) and lost_another(error):
                raise
            raise StorageError(
                f"cannot write {path}: {error}. The checkpoint before it is kept; free some space and go on."
            ) from error
        finally:
            if trainer.is_global_zero:
                partial.unlink(missing_ok=True)
        self.saved_at = time.monotonic()
