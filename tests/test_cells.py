"""Every recurrent cell against a step-by-step NumPy reference, forward and backward, and the layers that are made of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from recurrent_reference import REFERENCES, Layer, Reference
from torch import nn

from asr.config import RecurrentConfig
from asr.model.cells import build_cell
from asr.model.gates import NAMES, gate_values
from asr.model.recurrent import RecurrentLayer, RecurrentStack, WindowLayer

SIZES = [(1, 1, 1, 1), (3, 5, 4, 7), (2, 9, 13, 6), (5, 2, 3, 17)]  # batch, frames, input, hidden
TOLERANCES = [(torch.float64, 1e-9), (torch.float32, 1e-5)]


def config_of(name: str, hidden_size: int, **options: Any) -> RecurrentConfig:
    cell, _, activation = name.partition("-")
    return RecurrentConfig(
        cell=cell, activation=activation or "tanh", hidden_size=hidden_size, norm="none", dropout=0.0, **options
    )


def randomised(module: nn.Module, dtype: torch.dtype, seed: int = 3) -> Any:
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.data = 0.7 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return module.to(dtype)


def reference_of(name: str, cell: nn.Module) -> Reference:
    layer: Layer = {key.removesuffix("_l0"): value.detach().double().numpy() for key, value in cell.named_parameters()}
    return REFERENCES[name](layer)


def check(found: torch.Tensor | None, expected: np.ndarray, tolerance: float, what: str) -> None:
    assert found is not None
    scale = max(1.0, float(np.abs(expected).max(initial=0.0)))
    np.testing.assert_allclose(found.detach().double().numpy(), expected, rtol=0, atol=tolerance * scale, err_msg=what)


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES, ids=["float64", "float32"])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_outputs_states_and_gradients_are_those_of_the_reference(
    name: str, dtype: torch.dtype, tolerance: float, sizes: tuple[int, int, int, int]
) -> None:
    batch, n_frames, input_size, size = sizes
    cell = randomised(build_cell(config_of(name, size), input_size), dtype)
    reference = reference_of(name, cell)
    rng = np.random.default_rng(sum(sizes))
    shapes = [(batch, n_frames, input_size), (1, batch, size), (1, batch, size)]
    x, h, c = (torch.tensor(rng.standard_normal(shape), dtype=dtype, requires_grad=True) for shape in shapes)
    weights = [rng.standard_normal(shape) for shape in [(batch, n_frames, size), (batch, size), (batch, size)]]
    y, state = cell(x, (h, c) if reference.has_cell_state else h)
    last_h, last_c = state if reference.has_cell_state else (state, c)
    parts = zip((y, last_h[0], last_c[0]), weights, strict=True)
    sum((part * torch.tensor(weight, dtype=dtype)).sum() for part, weight in parts).backward()
    assert x.grad is not None
    assert h.grad is not None
    total: Layer = {key: np.zeros_like(value) for key, value in reference.layer.items()}
    for row in range(batch):
        inputs = [tensor.detach().double().numpy() for tensor in (x[row], h[0, row], c[0, row])]
        expected, expected_h, expected_c, steps = reference.run(*inputs)
        dx, dh, dc, gradients = reference.run_back(steps, *(weight[row] for weight in weights))
        total = {key: value + gradients[key] for key, value in total.items()}
        check(y[row], expected, tolerance, "output")
        check(last_h[0, row], expected_h, tolerance, "last output")
        check(x.grad[row], dx, tolerance, "input's gradient")
        check(h.grad[0, row], dh, tolerance, "first output's gradient")
        if c.grad is not None:
            check(last_c[0, row], expected_c, tolerance, "last cell")
            check(c.grad[0, row], dc, tolerance, "first cell's gradient")
    for key, parameter in cell.named_parameters():
        check(parameter.grad, total[key.removesuffix("_l0")], tolerance, f"gradient of {key}")


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_each_direction_reads_an_utterance_inside_its_own_length(name: str, bidirectional: bool) -> None:
    lengths = torch.tensor([6, 1, 4])
    layer = randomised(RecurrentLayer(config_of(name, 5, bidirectional=bidirectional), 3), torch.float64)
    x = torch.randn(3, 6, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64, requires_grad=True)
    y = layer(x, lengths)
    weight = torch.randn(y.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    inside = torch.arange(6) < lengths[:, None]
    (y * weight * inside[:, :, None]).sum().backward()
    assert x.grad is not None
    cells = [layer.forward_cell, *([layer.backward_cell] if bidirectional else [])]
    for row, length in enumerate(lengths.tolist()):
        d_input = np.zeros((length, 3))
        for place, cell in enumerate(cells):
            reference = reference_of(name, cell)
            order = slice(None, None, -1) if place else slice(None)
            units = slice(5 * place, 5 * place + 5)
            zero = np.zeros(5)
            expected, _, _, steps = reference.run(x[row, :length].detach().numpy()[order], zero, zero)
            check(y[row, :length, units], expected[order], 1e-9, "output")
            d_input += reference.run_back(steps, weight[row, :length, units].numpy()[order], zero, zero)[0][order]
        check(x.grad[row, :length], d_input, 1e-9, "input's gradient")
        assert not x.grad[row, length:].any()


@pytest.mark.parametrize(("name", "module"), [("rnn", nn.RNN), ("lstm", nn.LSTM), ("gru", nn.GRU)])
def test_torchs_own_modules_agree_and_their_weights_load(name: str, module: type[nn.RNN | nn.LSTM | nn.GRU]) -> None:
    ours = build_cell(config_of(name, 6), 4)
    theirs = module(4, 6, batch_first=True)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 5, 4)
    torch.testing.assert_close(ours(x)[0], theirs(x)[0], rtol=0, atol=0)


def test_without_peepholes_a_peephole_lstm_is_an_lstm() -> None:
    theirs = nn.LSTM(4, 6, batch_first=True)
    ours = build_cell(config_of("peephole_lstm", 6), 4)
    state = theirs.state_dict()
    bias = state.pop("bias_ih_l0") + state.pop("bias_hh_l0")
    ours.load_state_dict({**state, "bias_l0": bias, "weight_peephole_l0": torch.zeros(3, 6)})
    x = torch.randn(2, 5, 4)
    torch.testing.assert_close(ours(x)[0], theirs(x)[0])


@pytest.mark.parametrize("name", ["lstm", "peephole_lstm", "coupled_lstm"])
def test_initialisation(name: str) -> None:
    cell: Any = build_cell(config_of(name, 32, forget_bias=1.5), 16)
    order = "fog" if name == "coupled_lstm" else "ifgo"
    bias = sum(value for key, value in cell.named_parameters() if key.startswith("bias"))
    assert isinstance(bias, torch.Tensor)
    for place, gate in enumerate(order):
        rows = slice(32 * place, 32 * place + 32)
        assert bias[rows].tolist() == [1.5 if gate == "f" else 0.0] * 32
        recurrent = cell.weight_hh_l0[rows]
        torch.testing.assert_close(recurrent @ recurrent.t(), torch.eye(32))
        assert cell.weight_ih_l0[rows].abs().max() <= (6 / (32 + 16)) ** 0.5
    eye: Any = build_cell(config_of("rnn-relu", 8, recurrent_init="identity"), 4)
    assert torch.equal(eye.weight_hh_l0.data, torch.eye(8))
    for option in ("xavier", "orthogonal", "uniform"):
        other: Any = build_cell(config_of(name, 32, input_init=option, recurrent_init=option), 16)
        assert 0.01 < other.weight_ih_l0.std() < 0.5


@pytest.mark.parametrize("name", ["peephole_lstm", "coupled_lstm"])
def test_mixed_precision_keeps_the_cell_in_float32(name: str) -> None:
    cell = build_cell(config_of(name, 16), 8)
    x = torch.randn(3, 20, 8, requires_grad=True)
    exact = cell(x)[0]
    gradient = torch.autograd.grad(exact.sum(), x)[0]
    with torch.autocast("cpu", torch.bfloat16):
        y, (_, c) = cell(x)
    assert y.dtype == c.dtype == torch.float32
    torch.testing.assert_close(y, exact, rtol=0, atol=0.03)
    torch.testing.assert_close(torch.autograd.grad(y.sum(), x)[0], gradient, rtol=0.1, atol=0.1)


@pytest.mark.parametrize(("name", "kernel"), [("rnn", "rnn_tanh"), ("lstm", "lstm"), ("gru", "gru")])
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_autocast_does_not_choose_another_type_than_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, name: str, kernel: str, kind: torch.dtype
) -> None:
    """cuDNN's layers are cast to float16 by CUDA's autocast, whatever its type; a kernel that does so stands in for them."""

    def stand_in(x: torch.Tensor, state: Any, weights: Any, *options: Any) -> tuple[torch.Tensor, ...]:
        half = torch.float16 if torch.is_autocast_enabled("cpu") else x.dtype
        with torch.autocast("cpu", enabled=False):
            y = x.to(half) @ weights[0].to(half).t()[:, :16]
        return (y, y[:, -1], y[:, -1]) if name == "lstm" else (y, y[:, -1])

    monkeypatch.setattr(torch, kernel, stand_in)
    monkeypatch.setattr(torch._VF, kernel, stand_in, raising=False)  # what torch's module calls
    cell: Any = build_cell(config_of(name, 16), 8)
    with torch.autocast("cpu", kind):
        y = cell(torch.randn(3, 20, 8))[0]
    assert y.dtype == kind
    y.backward(torch.full_like(y, 1e-8))
    gradient = cell.weight_ih_l0.grad
    assert gradient.dtype == torch.float32
    assert (gradient[:16].abs().max() > 0) == (kind == torch.bfloat16)  # float16 has nothing below 6e-8: a scaler is its remedy


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru"])
def test_mixed_precision_of_torchs_own_modules(name: str) -> None:
    cell = build_cell(config_of(name, 16), 8)
    x = torch.randn(3, 20, 8, requires_grad=True)
    exact = cell(x)[0]
    gradient = torch.autograd.grad(exact.sum(), x)[0]
    with torch.autocast("cpu", torch.bfloat16):
        whole = cell(x)[0]
        first, state = cell(x[:, :7])
        second = cell(x[:, 7:], state)[0]
    assert whole.dtype == torch.bfloat16
    assert torch.equal(torch.cat([first, second], dim=1), whole)
    torch.testing.assert_close(whole.float(), exact, rtol=0, atol=0.03)
    torch.testing.assert_close(torch.autograd.grad(whole.float().sum(), x)[0], gradient, rtol=0.1, atol=0.1)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_window_layer_sees_its_window_and_no_more(bidirectional: bool) -> None:
    layer: Any = WindowLayer(config_of("window_mlp-relu", 5, window=2, bidirectional=bidirectional), 3)
    lengths = torch.tensor([8, 5])
    x = torch.randn(2, 8, 3)
    y = layer(x, lengths)
    padded = torch.zeros(12, 3)
    padded[2:7] = x[1, :5]
    for frame in range(5):
        window = padded[frame : frame + (5 if bidirectional else 3)]
        expected = torch.relu((layer.window.weight * window.t()).sum((1, 2)) + layer.window.bias)
        torch.testing.assert_close(y[1, frame], expected)


def test_projection_and_no_layers_at_all() -> None:
    lengths = torch.tensor([6, 4])
    x = torch.randn(2, 6, 12)
    stack = RecurrentStack(config_of("coupled_lstm", 8, projection=5, layers=2), 12)
    assert [tuple(y.shape) for y in stack(x, lengths)] == [(2, 6, 5), (2, 6, 5)]
    assert stack.output_size == 5
    bare = RecurrentStack(config_of("none", 8), 12)
    assert bare.output_size == 12
    torch.testing.assert_close(bare(x, lengths), [x])


@pytest.mark.parametrize("name", ["peephole_lstm", "coupled_lstm"])
def test_a_sequence_in_pieces_gives_what_it_gives_in_one(name: str) -> None:
    cell = build_cell(config_of(name, 6), 4)
    x = torch.randn(2, 9, 4)
    first, state = cell(x[:, :4])
    second, _ = cell(x[:, 4:], state)
    torch.testing.assert_close(torch.cat([first, second], dim=1), cell(x)[0])


@pytest.mark.parametrize("name", REFERENCES)
def test_gate_values_are_those_of_the_reference(name: str) -> None:
    cell = randomised(build_cell(config_of(name, 6), 4), torch.float64)
    x = torch.randn(9, 4, dtype=torch.float64)
    found = gate_values(cell, x)
    reference = reference_of(name, cell)
    outputs, _, _, steps = reference.run(x.numpy(), np.zeros(6), np.zeros(6))
    assert list(found) == {"rnn-tanh": ["h"], "rnn-relu": ["h"], "gru": ["r", "z", "n", "h"]}.get(name, list("ifgcoh"))
    check(found["h"], outputs, 1e-12, "h")
    torch.testing.assert_close(found["h"], cell(x[None])[0][0].detach(), rtol=0, atol=1e-14)
    for letter, values in found.items():
        if letter != "h":
            check(values, np.array([step.values[letter] for step in steps]), 1e-9, letter)
        assert letter in NAMES
