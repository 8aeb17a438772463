"""What happens inside a recurrent cell: its gates and states, frame by frame."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from asr.model.cells import CoupledLSTM, VariantLstm, run_steps

NAMES = {
    "i": "input gate",
    "f": "forget gate",
    "g": "candidate",
    "o": "output gate",
    "c": "cell",
    "r": "reset gate",
    "z": "update gate",
    "n": "candidate",
    "h": "output",
}
"""What the letters of the equations in :mod:`asr.model.cells` stand for."""


@torch.no_grad()
def gate_values(cell: nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the values that a cell computes on its way through one utterance.

    torch's fused kernels keep their gates to themselves. These follow from what the kernels return: a frame's sums depend
    on its input and on the output of the frame before alone. The package's own cells hand out those that they computed.

    Parameters
    ----------
    cell
        As :func:`asr.model.cells.build_cell` returns it.
    x
        ``(frame, input value)``, in the order in which the cell reads.

    Returns
    -------
    dict of str to torch.Tensor
        ``(frame, unit)`` for each letter of the cell's equations, in the order in which they are computed; see :data:`NAMES`.
    """
    if isinstance(cell, VariantLstm):
        return _of_variant(cell, x)
    assert isinstance(cell, nn.RNNBase)
    h = cell(x[None])[0][0]
    before = torch.cat([torch.zeros_like(h[:1]), h[:-1]])
    weights = dict(cell.named_parameters())
    from_input = functional.linear(x, weights["weight_ih_l0"], weights["bias_ih_l0"])
    from_output = functional.linear(before, weights["weight_hh_l0"], weights["bias_hh_l0"])
    if isinstance(cell, nn.LSTM):
        return _of_lstm(from_input + from_output, h)
    if isinstance(cell, nn.GRU):
        return _of_gru(from_input, from_output, h)
    return {"h": h}


def _of_lstm(sums: torch.Tensor, h: torch.Tensor) -> dict[str, torch.Tensor]:
    i, f, g, o = sums.chunk(4, dim=1)
    i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
    c = torch.empty_like(h)
    last = torch.zeros_like(h[0])
    for frame, kept in enumerate(f):
        last = c[frame] = kept * last + i[frame] * g[frame]
    return {"i": i, "f": f, "g": g, "c": c, "o": o, "h": h}


def _of_gru(from_input: torch.Tensor, from_output: torch.Tensor, h: torch.Tensor) -> dict[str, torch.Tensor]:
    (x_r, x_z, x_n), (h_r, h_z, h_n) = from_input.chunk(3, dim=1), from_output.chunk(3, dim=1)
    r = torch.sigmoid(x_r + h_r)
    return {"r": r, "z": torch.sigmoid(x_z + h_z), "n": torch.tanh(x_n + r * h_n), "h": h}


def _of_variant(cell: VariantLstm, x: torch.Tensor) -> dict[str, torch.Tensor]:
    gates, c, _, h = (found[:, 0] for found in run_steps(*cell.arguments(x[None])))
    parts = dict(zip(cell.gates, gates.chunk(len(cell.gates), dim=1), strict=True))
    i = 1 - parts["f"] if isinstance(cell, CoupledLSTM) else parts["i"]
    return {"i": i, "f": parts["f"], "g": parts["g"], "c": c, "o": parts["o"], "h": h}
