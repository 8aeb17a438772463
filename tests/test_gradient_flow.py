"""Gradients by layer and by distance: right, drawn, and without influence on training."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from asr.config import CnnConfig, FrontendConfig, ModelConfig, RecurrentConfig
from asr.model.acoustic import SpeechModel
from asr.training.gradient_flow import LINES, PICTURE, GradientFlow, distances, layers_of, write_picture


def model_of(cell: str, **options: Any) -> SpeechModel:
    torch.manual_seed(2)
    cnn = CnnConfig(channels=[4], time_kernels=[3], frequency_kernels=[3], time_strides=[2], frequency_strides=[2])
    recurrent = RecurrentConfig(cell=cell, layers=2, hidden_size=12, norm="none", **options)
    return SpeechModel(FrontendConfig(n_mels=16), ModelConfig(cnn=cnn, recurrent=recurrent), n_tokens=5)


def batch_of(n_samples: list[int]) -> Any:
    generator = torch.Generator().manual_seed(4)
    return SimpleNamespace(
        waveforms=0.1 * torch.randn(len(n_samples), max(n_samples), generator=generator), n_samples=torch.tensor(n_samples)
    )


def test_distances_are_those_of_the_products_of_derivatives() -> None:
    model = model_of("rnn", bidirectional=False)
    found = distances(model, batch_of([8000]))["recurrent 1"]
    cell: Any = model.acoustic.recurrent.layers[0].forward_cell
    inputs: list[torch.Tensor] = []
    handle = model.acoustic.recurrent.layers[0].register_forward_pre_hook(lambda module, args: inputs.append(args[0]))
    with torch.no_grad():
        model.eval()(*vars(batch_of([8000])).values())
        h = cell(inputs[0])[0][0].double()
    handle.remove()
    from_input, from_output = cell.weight_ih_l0.detach().double(), cell.weight_hh_l0.detach().double()
    back = torch.randn(1, 12, generator=torch.Generator().manual_seed(1))[0].double()
    norms = []
    for output in reversed(h):
        back = back * (1 - output**2)
        norms.append(float((back @ from_input).norm()))
        back = back @ from_output
    np.testing.assert_allclose(found, np.array(norms[: len(found)]) / norms[0], rtol=1e-3)


def test_a_plain_network_forgets_what_an_open_lstm_keeps() -> None:
    batch = batch_of([16000, 12000])
    plain = distances(model_of("rnn", recurrent_init="xavier"), batch)["recurrent 1"]
    gated = distances(model_of("lstm", forget_bias=6.0), batch)["recurrent 1"]
    assert plain[30] < 1e-2 * gated[30]


@pytest.mark.parametrize("cell", ["gru", "peephole_lstm", "coupled_lstm", "window_mlp", "none"])
def test_every_cell(cell: str, tmp_path: Path) -> None:
    model = model_of(cell)
    found = distances(model, batch_of([8000, 400, 1]))
    assert list(found) == ([] if cell in ("window_mlp", "none") else ["recurrent 1", "recurrent 2"])
    assert all(shares[0] == pytest.approx(1.0) and np.isfinite(shares).all() for shares in found.values())
    assert model.training
    row = {"epoch": 1, "layers": dict.fromkeys(layers_of(model.acoustic), 1.0), "distances": found}
    write_picture([row], tmp_path / PICTURE)
    assert ElementTree.parse(tmp_path / PICTURE).getroot().tag.endswith("svg")


def test_each_epoch_adds_a_line_and_resuming_replaces_what_came_after(tmp_path: Any) -> None:
    model = model_of("gru")
    scalars: dict[str, float] = {}
    writer = SimpleNamespace(log_metrics=lambda values, step: scalars.update(values))
    module = SimpleNamespace(model=model)
    flow = GradientFlow(tmp_path)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    output: Any = model.acoustic.head[-1]
    output.bias.grad[:2] = torch.tensor([3.0, 4.0])
    for epoch in (0, 1, 1):
        flow.on_train_batch_start(None, module, batch_of([4000]), 0)  # type: ignore[arg-type]
        flow.on_before_optimizer_step(None, module, None)  # type: ignore[arg-type]
        flow.on_before_optimizer_step(None, module, None)  # type: ignore[arg-type]
        trainer: Any = SimpleNamespace(is_global_zero=True, current_epoch=epoch, global_step=epoch + 1, loggers=[writer])
        flow.on_train_epoch_end(trainer, module)
    rows = [json.loads(line) for line in (tmp_path / LINES).read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2]
    assert rows[0]["layers"] == {**dict.fromkeys(layers_of(model.acoustic), 0.0), "head": 5.0}
    assert scalars["gradient_norm/head"] == 5.0
    assert (tmp_path / PICTURE).stat().st_size > 1000
