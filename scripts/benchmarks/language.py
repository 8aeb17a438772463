"""An LSTM language model: training and a decoder's steps."""

from __future__ import annotations

import argparse
import itertools
import time
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, Trainer
from torch.utils.data import DataLoader

from asr.engine.run import choose_precision, set_up_torch
from asr.errors import ConfigError
from asr.language.config import LstmConfig, compose_training
from asr.language.lstm import LstmModel, LstmNetwork
from asr.language.lstm_module import LstmModule
from asr.language.units import Words
from benchmarks.measure import RUNS, add_overrides, seconds

DESCRIPTION = "training steps of an LSTM language model and single steps of a decoder, one thread: words a second"


class Clock(Callback):
    """Notes when each step has ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, *args: Any) -> None:
        self.ends.append(time.perf_counter())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the benchmark's arguments."""
    add_overrides(parser, "lm.hidden_size=1024")


def run(args: argparse.Namespace) -> None:
    """Print the medians of training steps, and of a decoder's steps with several numbers of hypotheses."""
    config = compose_training(["lm=lstm", "lm.accelerator=cpu", "lm.threads=1", *args.overrides]).lm
    if not isinstance(config, LstmConfig):
        raise ConfigError("lm=ngram: has no training steps; the benchmark is of lm=lstm")
    precision = choose_precision(config, "lm")
    set_up_torch(config, seed=1)
    n_units = config.vocabulary_size + 2
    counts = torch.from_numpy(1e7 / np.arange(1, n_units + 1)).long()  # Zipf's law
    network = LstmNetwork(config, n_units)
    model = LstmModel(network, Words(), [str(index) for index in range(n_units - 2)], None, "")
    module = LstmModule(config, model, counts, seed=1, total_steps=1000)
    size = config.rows * (config.steps + 1)
    texts = [torch.multinomial(counts.double(), size, replacement=True).view(config.rows, -1) for _ in range(RUNS + 3)]
    clock = Clock()
    plain: Any = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(accelerator="cpu", precision=precision, max_epochs=1, callbacks=[clock], **plain)
    windows: Any = [(text[:, :-1], text[:, 1:]) for text in texts]
    trainer.fit(module, DataLoader(windows, batch_size=None))
    ends = clock.ends[2:]  # the first steps make the kernels
    rates = [config.rows * config.steps / (end - start) for start, end in itertools.pairwise(ends)]
    n_parameters = sum(parameter.numel() for parameter in network.parameters())
    print(
        f"language model training, {n_parameters:,} parameters, {precision}, {config.rows} x "
        f"{config.steps} words a step, {config.samples} sampled: median {median(rates):.0f} words/s, {min(rates):.0f} to "
        f"{max(rates):.0f} over {RUNS} steps"
    )
    network.eval()
    for n in (1, 16, 64, 256):
        state = model.start(n)
        found = [seconds(partial(model.step, [model.begin] * n, state)) for _ in range(RUNS)]
        print(f"one word in each of {n:3} hypotheses: median {1000 * median(found):.2f} ms, {n / median(found):.0f} words/s")
