"""An LSTM language model: training and a decoder's steps."""

from __future__ import annotations

import argparse
import time
from functools import partial
from statistics import median

import numpy as np
import torch

from asr.errors import ConfigError
from asr.language.config import LstmConfig, compose_training
from asr.language.lstm import LstmModel, LstmNetwork
from asr.language.lstm_step import Stepper
from asr.language.lstm_training import choose_device
from asr.language.units import Words
from benchmarks.measure import RUNS, add_overrides, seconds

DESCRIPTION = "training steps of an LSTM language model and single steps of a decoder, one thread: words a second"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the benchmark's arguments."""
    add_overrides(parser, "lm.hidden_size=1024")


def run(args: argparse.Namespace) -> None:
    """Print the medians of training steps, and of a decoder's steps with several numbers of hypotheses."""
    config = compose_training(["lm=lstm", "lm.accelerator=cpu", "lm.threads=1", *args.overrides]).lm
    if not isinstance(config, LstmConfig):
        raise ConfigError("lm=ngram: has no training steps; the benchmark is of lm=lstm")
    precision = choose_device(config)[1]
    torch.manual_seed(1)
    n_units = config.vocabulary_size + 2
    counts = torch.from_numpy(1e7 / np.arange(1, n_units + 1)).long()  # Zipf's law
    network = LstmNetwork(config, n_units).train()
    stepper = Stepper(config, network, counts, seed=1, total_steps=1000, precision=precision)
    state, times = None, []
    for _ in range(RUNS + 2):
        text = torch.multinomial(counts.double(), config.rows * (config.steps + 1), replacement=True).view(config.rows, -1)
        start = time.perf_counter()
        _, state = stepper.step(text[:, :-1], text[:, 1:], state)
        times.append(time.perf_counter() - start)
    rates = [config.rows * config.steps / elapsed for elapsed in times[2:]]  # the first ones make the kernels
    n_parameters = sum(parameter.numel() for parameter in network.parameters())
    print(
        f"language model training, {n_parameters:,} parameters, {str(precision).removeprefix('torch.')}, {config.rows} x "
        f"{config.steps} words a step, {config.samples} sampled: median {median(rates):.0f} words/s, {min(rates):.0f} to "
        f"{max(rates):.0f} over {RUNS} steps"
    )
    model = LstmModel(network, Words(), [str(index) for index in range(n_units - 2)], None, "")
    for n in (1, 16, 64, 256):
        state = model.start(n)
        found = [seconds(partial(model.step, [model.begin] * n, state)) for _ in range(RUNS)]
        print(f"one word in each of {n:3} hypotheses: median {1000 * median(found):.2f} ms, {n / median(found):.0f} words/s")
