"""The text of an LSTM's training in windows for truncated backpropagation through time, as the engine wants it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from asr.engine.data import CurrentEpoch, TrainingData
from asr.errors import ConfigError
from asr.language.config import LstmTraining
from asr.language.lstm_text import TrainingText

_DEV_BATCH = 1000  # sentences


class TextData(TrainingData):
    """A text in rows that are read side by side, window after window; the sentences have another order in each epoch.

    Parameters
    ----------
    text
        What to train on and to measure with.
    config
        The whole configuration.

    Raises
    ------
    ConfigError
        There are more processes than sentences to measure on.
    """

    def __init__(self, text: TrainingText, config: LstmTraining) -> None:
        super().__init__()
        self.text = text
        self.seed, self.rows, self.steps = config.seed, config.lm.rows, config.lm.steps
        self.n_rows = self.rows * config.lm.devices
        """Rows of all processes."""
        self.epoch_batches = math.ceil((len(text.train.values) + len(text.train)) // self.n_rows / self.steps)
        shares = ((number + 1) / config.lm.validations for number in range(config.lm.validations))
        self.validated_after = {math.ceil(self.epoch_batches * share) for share in shares}
        self.patience = config.lm.patience
        if 0 < len(text.dev) < config.lm.devices:
            raise ConfigError(
                f"lm.devices={config.lm.devices}: more processes than the {len(text.dev)} sentences to measure on"
            )

    def epoch(self, number: int, skip: int = 0) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield the windows of an epoch: units and what follows each, ``(row, step)`` int32."""
        assert self.trainer is not None
        rank = self.trainer.global_rank
        inputs, targets = as_rows(self.text.train.stream(len(self.text.vocabulary), (self.seed, number)), self.n_rows)
        mine = slice(rank * self.rows, (rank + 1) * self.rows)
        for window in range(skip, self.epoch_batches):
            steps = slice(window * self.steps, (window + 1) * self.steps)
            yield torch.from_numpy(inputs[mine, steps]), torch.from_numpy(targets[mine, steps])

    def train_dataloader(self) -> CurrentEpoch:
        return self.resumable(self)

    def val_dataloader(self) -> DataLoader[list[str]] | list[Any]:
        assert self.trainer is not None
        mine: Any = self.text.dev[self.trainer.global_rank :: self.trainer.world_size]
        return DataLoader(mine, _DEV_BATCH, collate_fn=list) if mine else []

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        return tuple(part.to(device) for part in batch) if isinstance(batch, tuple) else batch


def as_rows(stream: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut a stream into rows that are read side by side.

    Returns
    -------
    inputs, targets
        ``(row, step)``: each target is what follows its input in the stream. Less than a step of all rows is left out.
    """
    n_steps = (len(stream) - 1) // rows
    inputs = stream[: rows * n_steps].reshape(rows, n_steps)
    targets = stream[1 : rows * n_steps + 1].reshape(rows, n_steps)
    return inputs, targets
