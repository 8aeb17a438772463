"""The training that is killed: it says on a pipe what it does, so that moments can be chosen by steps and not by the clock."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from asr.config import Config
from asr.config_mapping import from_mapping, read_mapping
from asr.engine.module import TrainingModule
from asr.engine.saving import Checkpoints
from asr.language.config import LstmTraining
from asr.language.lstm_training import train_lstm
from asr.training import train

AnyConfig: TypeAlias = Config | LstmTraining

STEP = b"."
SAVED = b"s"
SAVED_LATE = b"S"
"""A checkpoint in the middle of an epoch after the first."""


def report_to(pipe: int) -> None:
    """Let this process write a byte to a pipe for each step that it begins and each checkpoint that it has written."""
    step, save = TrainingModule.on_train_batch_start, Checkpoints.save_last

    def reported_step(self: TrainingModule, batch: Any, batch_idx: int) -> None:
        os.write(pipe, STEP)
        step(self, batch, batch_idx)

    def reported_save(self: Checkpoints, trainer: Any) -> None:
        save(self, trainer)
        late = trainer.current_epoch > 0 and not trainer.is_last_batch
        os.write(pipe, SAVED_LATE if late else SAVED)

    TrainingModule.on_train_batch_start = reported_step  # type: ignore[method-assign]
    Checkpoints.save_last = reported_save  # type: ignore[method-assign]


def run(config: AnyConfig, pipe: int | None) -> int:
    """Train, and return the exit code."""
    if pipe is not None and os.environ.get("LOCAL_RANK", "0") == "0":
        report_to(pipe)
    return train(config) if isinstance(config, Config) else train_lstm(config)


if __name__ == "__main__":  # of two processes: Lightning starts the second with the same command
    settings = yaml.safe_load(Path(sys.argv[1]).read_text())
    found = read_mapping(settings, LstmTraining) if "lm" in settings else from_mapping(settings)
    sys.exit(run(found, int(sys.argv[2]) if sys.argv[2] else None))
