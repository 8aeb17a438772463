"""What a person watching a run sees: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

import logging
import sys
import time
from datetime import timedelta
from statistics import fmean
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from tqdm import tqdm

from asr.training.module import SpeechModule

logger = logging.getLogger(__name__)

PLAIN_INTERVAL_S = 30.0


def show_time(seconds: float) -> str:
    """Return ``h:mm:ss``."""
    return str(timedelta(seconds=round(seconds)))


class Progress(Callback):
    """Show loss, gradient norm, audio seconds a second and time left.

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
        self.bar: Any = None
        self.steps_here = 0
        self.train_s = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.start_epoch(trainer)  # an epoch that is resumed in its middle has no on_train_epoch_start

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.start_epoch(trainer)

    def start_epoch(self, trainer: Trainer) -> None:
        """Start the clock and the bar of an epoch."""
        self.close()
        self.epoch_start = self.shown = self.batch_end = time.monotonic()
        if self.kind == "bar" and trainer.is_global_zero:
            self.bar = tqdm(total=self.epoch_batches, desc=f"epoch {trainer.current_epoch + 1}/{self.epochs}", leave=False)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, SpeechModule)
        now = time.monotonic()
        self.train_s += now - self.batch_end
        pl_module.trained_s += now - self.batch_end
        self.batch_end = now
        self.steps_here += 1
        if not trainer.is_global_zero or self.kind == "none":
            return
        if self.bar is not None:
            self.bar.set_postfix_str(self.describe(trainer, pl_module), refresh=False)
            self.bar.update(batch_idx + 1 - self.bar.n)  # a resumed epoch begins in its middle
        elif now - self.shown > PLAIN_INTERVAL_S:
            self.shown = now
            logger.info(
                f"epoch {trainer.current_epoch + 1}/{self.epochs} batch {batch_idx + 1}/{self.epoch_batches} "
                f"{self.describe(trainer, pl_module)}"
            )

    def describe(self, trainer: Trainer, pl_module: LightningModule) -> str:
        """Return the newest figures in one line."""
        assert isinstance(pl_module, SpeechModule)
        metrics = trainer.callback_metrics
        rate = pl_module.audio_s * trainer.world_size / max(1e-9, self.batch_end - self.epoch_start)
        left = self.train_s / self.steps_here * max(0, self.epochs * self.epoch_batches - trainer.global_step)
        return (
            f"loss {metrics['train/loss']:.3f} gradient {metrics['train/gradient_norm']:.2f} "
            f"{rate:.0f}x real time, {show_time(left)} left"
        )

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.close()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        assert isinstance(pl_module, SpeechModule)
        metrics = trainer.callback_metrics
        rate = pl_module.audio_s * trainer.world_size / max(1e-9, self.batch_end - self.epoch_start)
        logger.info(
            f"epoch {trainer.current_epoch + 1}/{self.epochs}: train loss {fmean(pl_module.losses):.3f}, "
            f"dev loss {metrics['dev/loss']:.3f}, dev WER {metrics['dev/wer']:.2%}, dev CER {metrics['dev/cer']:.2%}, "
            f"{show_time(time.monotonic() - self.epoch_start)}, trained at {rate:.0f}x real time"
        )

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.close()

    def close(self) -> None:
        """End the bar of this epoch."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None
