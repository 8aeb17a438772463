"""What the engine needs to know of a network that it trains."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule

from asr.errors import TrainingDiverged

TRAINED = "trained_s"
"""Where a checkpoint holds the seconds that training has taken."""


class TrainingModule(LightningModule):
    """A network with its loss, optimiser and validation.

    Parameters
    ----------
    seed
        With the place in the run it decides what masks and dropout draw.
    """

    section: str
    """Of the settings of the learning rate and of clipping, for messages."""

    rate: str
    """How :attr:`amount` a second is shown, as a format."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed
        self.merit: tuple[float, ...] = (float("inf"),)
        """What the best weights have least of, as the newest validation has found it; the same in all processes."""
        self.amount = 0.0
        """Seconds of audio, words, ... that this process has trained on since the epoch began."""
        self.losses: list[float] = []
        """Loss of each batch since the epoch began."""
        self.trained_s = 0.0
        """Seconds that training steps have taken since the run began; part of the checkpoint."""

    @property
    def epochs_trained(self) -> float:
        """How many epochs the newest weights were trained for, the present one included."""
        return self.current_epoch + 1

    def validation_line(self) -> str:
        """Return what the newest validation has found, for a person who watches."""
        raise NotImplementedError

    def training_line(self) -> str:
        """Return how the newest batches fared."""
        return f"loss {self.losses[-1]:.3f} gradient {self.trainer.callback_metrics['train/gradient_norm']:.2f}"

    def taken_up(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """Return a checkpoint's weights as this module has them, where it keeps others than the run before."""
        return dict(state)

    def on_train_epoch_start(self) -> None:
        self.amount = 0.0
        self.losses = []

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        # What masks and dropout draw follows from the batch's place in the run, so a resumed run draws the same on every rank.
        place = (self.seed, self.current_epoch, batch_idx, self.global_rank)
        torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1)[0]))

    def note(self, loss: torch.Tensor, amount: float, batch_size: int, batch_idx: int, what: str = "") -> None:
        """Log the loss of a batch, which adds to :attr:`amount`; raises TrainingDiverged where it is not finite."""
        value = loss.item()
        if not math.isfinite(value):
            raise TrainingDiverged(
                f"the loss is {value} in epoch {self.current_epoch + 1}, batch {batch_idx + 1}{what}. The last good checkpoint "
                f"is kept. Try a lower {self.section}.lr or {self.section}.clip_norm, a longer {self.section}.warmup_fraction"
                f"{', or look at these utterances' if what else ''}."
            )
        self.amount += amount
        self.losses.append(value)
        self.log("train/loss", loss, batch_size=batch_size)

    def clip(self, tensors: Iterable[torch.Tensor], limit: float, optimizer: Any) -> None:
        """Scale gradients down to a norm (0 is off), and log it; raises TrainingDiverged where it is not finite."""
        norm = torch.nn.utils.clip_grad_norm_(tensors, limit or math.inf)
        if not torch.isfinite(norm) and self.trainer.precision != "16-mixed":
            raise TrainingDiverged(
                f"the gradient's norm is {norm.item()} in epoch {self.current_epoch + 1}, step {self.global_step + 1}. The "
                f"last good checkpoint is kept. Try a lower {self.section}.lr or a longer {self.section}.warmup_fraction."
            )
        self.log("train/gradient_norm", norm)
        self.log("train/lr", optimizer.param_groups[0]["lr"])

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.trained_s = float(checkpoint[TRAINED])
        checkpoint["state_dict"] = self.taken_up(checkpoint["state_dict"])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[TRAINED] = self.trained_s
