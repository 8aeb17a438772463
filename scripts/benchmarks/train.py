"""Training on a recipe's own data: what the loader gives, what the model takes, and what both do together."""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

import torch

from asr.compose import compose
from asr.config import Config
from asr.data.batch import Batch
from asr.data.batches import TrainingLoader, evaluation_loader, training_loader
from asr.data.chain import Chain, build_chain
from asr.data.manifest import read_manifest, transcript
from asr.data.reading import AudioMemory
from asr.engine.run import choose_precision, uses_gpu
from asr.text import build_tokenizer
from asr.training.data import count_workers
from asr.training.module import SpeechModule
from benchmarks.measure import add_overrides, markdown

if TYPE_CHECKING:
    from lhotse import CutSet

DESCRIPTION = (
    "seconds of audio a second of a recipe's loader alone (its audio in memory, perturbed), of training steps alone, and of "
    "both; trainer.threads and trainer.accelerator say where"
)
HALF = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
WARM_UP = 2  # batches: the first ones make the kernels


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the benchmark's arguments."""
    add_overrides(parser, "+recipe=librispeech/mini trainer.accelerator=cpu trainer.threads=1")
    parser.add_argument(
        "--workers", type=int, nargs="+", default=[-1], metavar="N", help="worker processes, each in turn (default: the run's)"
    )
    parser.add_argument("--batches", type=int, default=20, metavar="N", help="batches to measure (default: 20)")


def run(args: argparse.Namespace) -> None:
    """Print a table: loader, model and both, by worker processes."""
    config = compose(args.overrides)
    on_gpu = uses_gpu(config.trainer)
    torch.set_num_threads(config.trainer.threads or torch.get_num_threads())
    torch.set_flush_denormal(True)
    torch.manual_seed(config.seed)
    cuts = read_manifest(config.corpus.train, config.corpus.manifests)
    module = SpeechModule(config, build_tokenizer(config.tokens, lambda: map(transcript, cuts)), total_steps=1000)
    precision = choose_precision(config.trainer, "trainer")
    step = _steps(module.to("cuda" if on_gpu else "cpu").train(), precision)
    memory = AudioMemory(config.frontend.sample_rate, config.trainer.cache_gib, cuts)
    chain = build_chain(config, cuts)
    workers = [count_workers(config, on_gpu) if n < 0 else n for n in args.workers]
    reading = evaluation_loader(cuts, config, memory=memory, n_workers=max(workers))
    read_rate = _rate(iter(reading), lambda batch: None, 0)
    reading.close()
    loader = _loader(cuts, config, chain, memory, 0)
    model_rate = _rate(islice(_batches(loader), WARM_UP + args.batches), step, WARM_UP, ready=True)
    where = torch.cuda.get_device_name() if on_gpu else f"CPU, {torch.get_num_threads()} threads"
    print(
        f"{module.n_parameters:,} parameters, {precision}, {where}; {args.batches} batches of at most "
        f"{config.trainer.batch_s:g} s; seconds of audio a second. Reading all files, {max(workers)} workers: {read_rate:.0f}",
        flush=True,
    )
    rows = []
    for n_workers in workers:
        rates = []
        for action in (lambda batch: None, step):
            loader = _loader(cuts, config, chain, memory, n_workers)
            n_first = WARM_UP + 2 * n_workers  # what workers made while the kernels were made is not counted for them
            rates.append(_rate(islice(_batches(loader), n_first + args.batches), action, n_first))
            loader.close()
        loaded, both = rates
        rows.append([str(n_workers), f"{loaded:.0f}", f"{model_rate:.0f}", f"{both:.0f}", f"{both / model_rate:.0%}"])
    print(markdown(["workers", "loader alone", "model alone", "both", "of the model alone"], *rows))


def _loader(cuts: CutSet, config: Config, chain: Chain, memory: AudioMemory, n_workers: int) -> TrainingLoader:
    endless = dataclasses.replace(config, trainer=dataclasses.replace(config.trainer, epochs=100000))
    return training_loader(cuts, endless, chain=chain, memory=memory, n_workers=n_workers, pinned=uses_gpu(config.trainer))


def _batches(loader: TrainingLoader) -> Iterator[Batch]:
    return (batch for epoch in range(loader.n_epochs) for batch in loader.epoch(epoch))


def _steps(module: SpeechModule, precision: str) -> Callable[[Batch], None]:
    """Return a function that trains on a batch and waits for the device."""
    optimizer = torch.optim.AdamW(module.parameters())
    device = next(module.parameters()).device

    def step(batch: Batch) -> None:
        batch = batch.to(device, non_blocking=True)
        with torch.autocast(device.type, HALF.get(precision), enabled=precision in HALF):
            loss = module.training_loss(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        loss.item()

    return step


def _rate(batches: Iterator[Batch], action: Callable[[Batch], None], n_first: int, *, ready: bool = False) -> float:
    """Return seconds of audio a second, those of the first batches not counted, and none for making them if they are ready."""
    audio_s, start = 0.0, time.perf_counter()
    for index, batch in enumerate(list(batches) if ready else batches):
        if index == n_first:
            audio_s, start = 0.0, time.perf_counter()
        action(batch)
        audio_s += batch.audio_s
    return audio_s / (time.perf_counter() - start)
