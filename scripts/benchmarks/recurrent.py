"""One recurrent layer of every kind."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from functools import partial
from statistics import median

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from asr.compose import compose
from asr.model.cells import build_cell
from asr.model.recurrent import RecurrentLayer, WindowLayer
from benchmarks.measure import add_overrides, seconds

DESCRIPTION = "one layer of every cell, forward and with backward, against torch.nn.LSTM, a plain loop and a PackedSequence"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the benchmark's arguments."""
    add_overrides(parser, "model.recurrent.hidden_size=512")
    parser.add_argument("--device", type=torch.device, default="cpu", help="cpu, on one thread (default), or cuda")


def run(args: argparse.Namespace) -> None:
    """Print a table: forward and backward of each layer at several lengths."""
    config = compose([*args.overrides, "model.recurrent.norm=none", "model.recurrent.dropout=0"]).model.recurrent
    torch.set_num_threads(1)
    device = args.device
    size = config.hidden_size
    packed = nn.LSTM(512, size, batch_first=True, bidirectional=True).to(device)
    both = RecurrentLayer(dataclasses.replace(config, cell="lstm", bidirectional=True), 512).to(device)
    peephole = build_cell(dataclasses.replace(config, cell="peephole_lstm"), 512).to(device)

    def run_packed(x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        sequence = pack_padded_sequence(x, lengths, batch_first=True)
        return pad_packed_sequence(packed(sequence)[0], batch_first=True)[0]

    plain = nn.LSTM(512, size, batch_first=True).to(device)

    def run_plain(x: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = plain(x)[0]
        return outputs

    names = ("rnn", "lstm", "gru", "peephole_lstm", "coupled_lstm", "window_mlp")
    cells = {
        name: RecurrentLayer(dataclasses.replace(config, cell=name, bidirectional=False), 512)
        if name != "window_mlp"
        else WindowLayer(dataclasses.replace(config, cell=name), 512)
        for name in names
    }
    for cell in cells.values():
        cell.to(device)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else "one thread"
    print(f"one layer of {size} units, 512 inputs, batch 16, {where}, float32; medians of 5 in turn, torch.nn.LSTM is 1")
    print(f"{'frames':>6}  {'layer':40} {'forward':>17} {'with backward':>17}")
    for n_frames in (100, 200, 400):
        x = torch.randn(16, n_frames, 512, device=device)
        whole = torch.full((16,), n_frames, device=device)
        ragged = torch.linspace(n_frames, 0.7 * n_frames, 16).long()
        runs: dict[str, Callable[[], torch.Tensor]] = {"torch.nn.LSTM": partial(run_plain, x)}
        runs |= {name: partial(cell, x, whole) for name, cell in cells.items()}
        runs["peephole_lstm, autograd through a loop"] = partial(_peephole_loop, peephole, x)
        runs["lstm, both directions"] = partial(both, x, ragged.to(device))
        runs["torch.nn.LSTM, both, PackedSequence"] = partial(run_packed, x, ragged)
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
        for turn in range(6):
            for name, action in runs.items():
                with torch.inference_mode():
                    forward = seconds(partial(_finish, action, device))
                training = seconds(partial(_finish, partial(_train, action), device))
                if turn:  # the first one makes the kernels
                    times[name].append((forward, training))
        found = {name: [median(column) for column in zip(*rows, strict=True)] for name, rows in times.items()}
        for name, (forward, training) in found.items():
            ratios = [value / base for value, base in zip((forward, training), found["torch.nn.LSTM"], strict=True)]
            print(
                f"{n_frames:6}  {name:40} {1000 * forward:8.1f} ms {ratios[0]:5.2f} {1000 * training:8.1f} ms {ratios[1]:5.2f}",
                flush=True,
            )


def _finish(action: Callable[[], object], device: torch.device) -> None:
    action()
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _train(forward: Callable[[], torch.Tensor]) -> None:
    forward().sum().backward()


def _peephole_loop(cell: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Run the cell as one would write it first: autograd records every operation of every step."""
    weights = dict(cell.named_parameters())
    recurrent = weights["weight_hh_l0"].t()
    projected = nn.functional.linear(x, weights["weight_ih_l0"], weights["bias_l0"])
    p_i, p_f, p_o = weights["weight_peephole_l0"]
    h = c = x.new_zeros(len(x), len(recurrent))
    outputs = []
    for step in projected.unbind(1):
        i, f, g, o = (step + h @ recurrent).chunk(4, 1)
        c = torch.sigmoid(f + p_f * c) * c + torch.sigmoid(i + p_i * c) * torch.tanh(g)
        h = torch.sigmoid(o + p_o * c) * torch.tanh(c)
        outputs.append(h)
    return torch.stack(outputs, 1)
