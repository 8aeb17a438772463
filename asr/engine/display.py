"""What a person watching a run sees: a line that renews itself on a terminal, plain lines in a log."""

from __future__ import annotations

import logging
import sys
import time
from datetime import timedelta
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from asr.engine.module import TrainingModule
from asr.progress import Progress

logger = logging.getLogger(__name__)

PLAIN_INTERVAL_S = 30.0


def show_time(seconds: float) -> str:
    """Return ``h:mm:ss``."""
    return str(timedelta(seconds=round(seconds)))


class TrainingDisplay(Callback):
    """Show how training fares, how fast it is, and the time left.

    Parameters
    ----------
    kind
        ``bar``, ``plain``, ``none``, or ``auto``: a bar where standard error is a terminal.
    epochs
        Epochs of the whole run.
    epoch_batches
        Batches of an epoch (of one process).
    """

    def __init__(self, kind: str, epochs: int, epoch_batches: int) -> None:
        self.kind = ("bar" if sys.stderr.isatty() else "plain") if kind == "auto" else kind
        self.epochs = epochs
        self.epoch_batches = epoch_batches
        self.bar: Progress | None = None
        self.steps_here = 0
        self.train_s = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.bar = Progress("training", self.epochs * self.epoch_batches, "steps", in_logs=False)  # its clock starts here
        self.bar.resume(trainer.global_step)
        self.start_epoch()  # an epoch that is resumed in its middle has no on_train_epoch_start

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.start_epoch()

    def start_epoch(self) -> None:
        """Start the clocks of an epoch."""
        self.epoch_start = self.shown = self.batch_end = time.monotonic()
        self.epoch_train_s = 0.0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, TrainingModule)
        now = time.monotonic()
        passed, self.batch_end = now - self.batch_end, now
        self.train_s += passed
        self.epoch_train_s += passed
        pl_module.trained_s += passed
        self.steps_here += 1
        if not trainer.is_global_zero or self.kind == "none":
            return
        epoch = f"epoch {trainer.current_epoch + 1}/{self.epochs}"
        if self.kind == "bar":
            assert self.bar is not None
            self.bar.label = f"{epoch} {self.rate(trainer, pl_module)} {pl_module.training_line()}"  # the end may be cut
            self.bar.advance(1)
        elif now - self.shown > PLAIN_INTERVAL_S:
            self.shown = now
            left = self.train_s / self.steps_here * max(0, self.epochs * self.epoch_batches - trainer.global_step)
            logger.info(
                f"{epoch} batch {batch_idx + 1}/{self.epoch_batches} {pl_module.training_line()} "
                f"{self.rate(trainer, pl_module)}, {show_time(left)} left"
            )

    def rate(self, trainer: Trainer, module: TrainingModule) -> str:
        """Return how fast this epoch is trained, by all processes."""
        return module.rate.format(module.amount * trainer.world_size / max(1e-9, self.epoch_train_s))

    def clear(self) -> None:
        """Take the bar off the terminal."""
        if self.bar is not None:
            self.bar.clear()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.clear()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, TrainingModule)
        self.batch_end = time.monotonic()  # an epoch that is validated in its middle goes on
        if trainer.is_global_zero:
            batch = f" batch {trainer.fit_loop.epoch_loop.batch_idx + 1}/{self.epoch_batches}"
            logger.info(
                f"epoch {trainer.current_epoch + 1}/{self.epochs}{'' if trainer.is_last_batch else batch}: "
                f"{pl_module.validation_line()}, "
                f"{show_time(self.batch_end - self.epoch_start)}, trained at {self.rate(trainer, pl_module)}"
            )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.clear()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.clear()
