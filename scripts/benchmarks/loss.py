"""CTC-CRF's loss, against CTC's and against the network's step."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from statistics import median

import torch

from asr.compose import compose
from asr.config import Config
from asr.crf import CtcCrf
from asr.ctc import ctc_loss
from asr.data.batch import Batch
from asr.model.device import has_bfloat16
from asr.text import build_tokenizer
from asr.training.module import SpeechModule
from asr.training.schedule import build_optimizer
from benchmarks.measure import add_overrides, markdown

DESCRIPTION = "ctc and ctc_crf of each order, forward and backward, beside a training step with ctc, on noise"
RECIPE = "librispeech/mini_phones"
_TURNS = 6
_TOKENS_PER_S = 12.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the benchmark's arguments."""
    add_overrides(parser, "trainer.batch_s=200")
    parser.add_argument("--device", type=torch.device, default="cpu", help="cpu, on one thread (default), or cuda")
    parser.add_argument("--tokens", type=int, default=50, metavar="N", help="tokens, blank included (default: 50)")
    parser.add_argument("--utterance-s", type=float, default=14.0, metavar="S", help="length of the utterances (default: 14 s)")


def run(args: argparse.Namespace) -> None:
    """Print a table: time of each, and its share of the step."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    torch.manual_seed(1)
    alphabet = "".join(map(chr, range(0x4E00, 0x4E00 + args.tokens - 1)))
    config = compose([f"+recipe={RECIPE}", "tokens=characters", f"tokens.alphabet={alphabet!r}", *args.overrides])
    batch = _noise(config, alphabet, args.utterance_s).to(args.device)
    module = SpeechModule(config, build_tokenizer(config.tokens), total_steps=1000).to(args.device).train()
    optimizer = build_optimizer(module, config.optim)
    targets = module.encode(batch)
    with torch.no_grad():
        log_probs, n_frames = module.model(batch.waveforms, batch.n_samples)
    log_probs = log_probs.float().requires_grad_()
    runs: dict[str, Callable[[], object]] = {"a step with ctc": partial(_step, module, optimizer, batch)}
    runs["ctc"] = lambda: ctc_loss(log_probs, n_frames, targets).backward()
    fields = {order: CtcCrf(args.tokens, order, 0.1).to(args.device) for order in (1, 2, 3)}
    for order, field in fields.items():
        field.fit(targets)
        runs[f"ctc_crf, order {order}"] = partial(_train, field, log_probs, n_frames, targets)
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(_TURNS):
        for name, action in runs.items():
            elapsed = _seconds(action, args.device)
            if turn:  # the first one makes the kernels
                times[name].append(elapsed)
    where = torch.cuda.get_device_name(args.device) if args.device.type == "cuda" else "one thread"
    print(
        f"{len(targets)} utterances of {args.utterance_s:g} s, {log_probs.shape[1]} frames, {args.tokens} tokens, "
        f"{module.n_parameters:,} parameters, {where}; medians of {_TURNS - 1} in turn"
    )
    step = median(times["a step with ctc"])
    rows = [[name, f"{1000 * median(found):.1f} ms", f"{median(found) / step:.3f}"] for name, found in times.items()]
    print(markdown(["", "time", "of the step"], *rows))


def _noise(config: Config, alphabet: str, utterance_s: float) -> Batch:
    """Return a batch of the configured size whose transcripts are as long as those of phones are."""
    rate = config.frontend.sample_rate
    n = max(1, min(config.trainer.max_utterances, int(config.trainer.batch_s / utterance_s)))
    n_samples = torch.linspace(0.9 * utterance_s * rate, utterance_s * rate, n).long()
    indices = [torch.randint(len(alphabet), (int(_TOKENS_PER_S * length / rate),)) for length in n_samples]
    texts = tuple("".join(alphabet[index] for index in row) for row in indices)
    waveforms = 0.1 * torch.randn(n, int(n_samples.max()))
    return Batch(tuple(map(str, range(n))), waveforms, n_samples, texts, rate)


def _step(module: SpeechModule, optimizer: torch.optim.Optimizer, batch: Batch) -> None:
    device = batch.waveforms.device
    with torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16(device)):
        loss = module.training_loss(batch)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()


def _train(field: CtcCrf, log_probs: torch.Tensor, n_frames: torch.Tensor, targets: list[list[int]]) -> None:
    field(log_probs, n_frames, targets).backward()


def _seconds(action: Callable[[], object], device: torch.device) -> float:
    """Return how long an action takes; on a CPU its processor time, which other programs hardly change."""
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    start = clock()
    action()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - start
