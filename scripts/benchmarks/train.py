"""Training steps of one process and one thread."""

from __future__ import annotations

import argparse
import time
from statistics import median

import torch

from asr.compose import compose
from asr.data.batches import training_loader
from asr.data.manifest import read_manifest
from asr.text import build_tokenizer
from asr.training.module import SpeechModule
from asr.training.run import choose_precision
from benchmarks.measure import RUNS, add_overrides

DESCRIPTION = "training steps of one process and one thread on the recipe's own data: seconds of audio a second"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the benchmark's arguments."""
    add_overrides(parser, "+recipe=librispeech/mini")


def run(args: argparse.Namespace) -> None:
    """Print the median of the steps."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    config = compose([*args.overrides, "trainer.accelerator=cpu"])
    precision = choose_precision(config)
    torch.manual_seed(config.seed)
    cuts = read_manifest(config.corpus.train, config.corpus.manifests)
    module = SpeechModule(config, build_tokenizer(config.tokens), total_steps=1000).train()
    optimizer = torch.optim.AdamW(module.parameters())
    batches = iter(training_loader(cuts, config))
    rates = []
    for step in range(RUNS + 2):
        start = time.perf_counter()
        batch = next(batches)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
            loss = module.training_loss(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step >= 2:  # the first ones make the kernels
            rates.append(batch.audio_s / (time.perf_counter() - start))
    n_parameters = sum(parameter.numel() for parameter in module.model.parameters())
    print(
        f"training, {n_parameters:,} parameters, {precision}, one process, one thread, data loading included: median "
        f"{median(rates):.0f}x real time, {min(rates):.0f} to {max(rates):.0f} over {RUNS} steps"
    )
