"""The recurrent cells by name, with their equations and initialisation.

``x`` is the input of a frame, ``h`` and ``c`` are the output and the cell of the frame before, ``h'`` and ``c'`` those of this
frame; ``*`` is the elementwise product. torch has fused kernels for the first three::

    rnn   h' = tanh(W x + U h + b), or max(0, ...) with activation=relu           (Elman 1990)

    lstm  i = sigmoid(W_i x + U_i h + b_i)     f = sigmoid(W_f x + U_f h + b_f)   (Hochreiter and Schmidhuber 1997;
          g = tanh(W_g x + U_g h + b_g)        o = sigmoid(W_o x + U_o h + b_o)    Gers et al. 2000)
          c' = f * c + i * g                   h' = o * tanh(c')

    gru   r = sigmoid(W_r x + U_r h + b_r)     z = sigmoid(W_z x + U_z h + b_z)   (Cho et al. 2014)
          n = tanh(W_n x + b_n + r * (U_n h + d_n))
          h' = (1 - z) * n + z * h

The others are written here. What does not depend on the step before is done for all steps at once: the input projections, and
on the way back the derivatives of the activations and the products that give the weights' gradients. The loop over time holds
the recurrent product and a few elementwise operations, and its backward pass is written out instead of recorded step by step.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from asr.config import RecurrentConfig

LstmState = tuple[torch.Tensor, torch.Tensor]


class _Peephole(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, projected: torch.Tensor, weight: torch.Tensor, h: torch.Tensor, c: torch.Tensor, peepholes: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        gates, cells, squashed, outputs = _buffers(projected, weight)
        size = weight.shape[1]
        start = h, c
        for step, gate in enumerate(gates):
            _add_product(gate, h, weight)
            i_f_g_o = gate.view(-1, 4, size)
            i_f_g_o[:, :2].addcmul_(c[:, None], peepholes[:2])
            gate[:, : 2 * size].sigmoid_()
            gate[:, 2 * size : 3 * size].tanh_()
            i, f, g, o = i_f_g_o.unbind(1)
            c = torch.mul(f, c, out=cells[step]).addcmul_(i, g)
            o.addcmul_(c, peepholes[2]).sigmoid_()
            h = torch.mul(o, torch.tanh(c, out=squashed[step]), out=outputs[step])
        ctx.save_for_backward(gates, cells, squashed, outputs, weight, peepholes, *start)
        return outputs, cells[-1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_outputs: torch.Tensor, d_c: torch.Tensor) -> tuple[torch.Tensor, ...]:
        gates, cells, squashed, outputs, weight, peepholes, first_h, first_c = ctx.saved_tensors
        before = torch.cat([first_c[None], cells[:-1]])
        shape = (*cells.shape[:2], 4, cells.shape[2])
        i, f, g, o = gates.view(shape).unbind(2)
        d_gates = torch.empty_like(gates)
        d_i, d_f, d_g, d_o = d_gates.view(shape).unbind(2)
        # First how each gate's sum moves the cell, and that of o the output; the loop multiplies by what comes back to these.
        torch.mul(g, i * (1 - i), out=d_i)
        torch.mul(before, f * (1 - f), out=d_f)
        torch.mul(i, 1 - g * g, out=d_g)
        torch.mul(squashed, o * (1 - o), out=d_o)
        through = torch.addcmul(o * (1 - squashed * squashed), d_o, peepholes[2])
        back = torch.addcmul(f, d_i, peepholes[0]).addcmul_(d_f, peepholes[1])
        d_i_f_g = d_gates.view(shape)[:, :, :3]
        d_h, d_c = torch.zeros_like(first_h), d_c.clone()
        for step in range(len(cells) - 1, -1, -1):
            d_h += d_outputs[step]
            d_c.addcmul_(d_h, through[step])
            d_i_f_g[step] *= d_c[:, None]
            d_o[step] *= d_h
            d_c *= back[step]
            d_h = _product(d_gates[step], weight, d_h)
        d_peepholes = torch.stack([(part * cell).sum((0, 1)) for part, cell in ((d_i, before), (d_f, before), (d_o, cells))])
        return d_gates, _weight_gradient(d_gates, first_h, outputs, weight), d_h, d_c, d_peepholes


class _Coupled(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, projected: torch.Tensor, weight: torch.Tensor, h: torch.Tensor, c: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        gates, cells, squashed, outputs = _buffers(projected, weight)
        size = weight.shape[1]
        start = h, c
        for step, gate in enumerate(gates):
            _add_product(gate, h, weight)
            gate[:, : 2 * size].sigmoid_()
            gate[:, 2 * size :].tanh_()
            f, o, g = gate.view(-1, 3, size).unbind(1)
            c = torch.lerp(g, c, f, out=cells[step])
            h = torch.mul(o, torch.tanh(c, out=squashed[step]), out=outputs[step])
        ctx.save_for_backward(gates, cells, squashed, outputs, weight, *start)
        return outputs, cells[-1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_outputs: torch.Tensor, d_c: torch.Tensor) -> tuple[torch.Tensor, ...]:
        gates, cells, squashed, outputs, weight, first_h, first_c = ctx.saved_tensors
        before = torch.cat([first_c[None], cells[:-1]])
        shape = (*cells.shape[:2], 3, cells.shape[2])
        f, o, g = gates.view(shape).unbind(2)
        d_gates = torch.empty_like(gates)
        d_f, d_o, d_g = d_gates.view(shape).unbind(2)
        torch.mul(before - g, f * (1 - f), out=d_f)
        torch.mul(squashed, o * (1 - o), out=d_o)
        torch.mul(1 - f, 1 - g * g, out=d_g)
        through = o * (1 - squashed * squashed)
        d_h, d_c = torch.zeros_like(first_h), d_c.clone()
        for step in range(len(cells) - 1, -1, -1):
            d_h += d_outputs[step]
            d_c.addcmul_(d_h, through[step])
            d_f[step] *= d_c
            d_o[step] *= d_h
            d_g[step] *= d_c
            d_c *= f[step]
            d_h = _product(d_gates[step], weight, d_h)
        return d_gates, _weight_gradient(d_gates, first_h, outputs, weight), d_h, d_c


def _buffers(projected: torch.Tensor, weight: torch.Tensor) -> list[torch.Tensor]:
    """Return a copy of the projections for the gates, and room for cells, their hyperbolic tangents and outputs."""
    room = [projected.new_empty(*projected.shape[:2], weight.shape[1]) for _ in range(3)]
    return [projected.clone(memory_format=torch.contiguous_format), *room]


def _add_product(gate: torch.Tensor, h: torch.Tensor, weight: torch.Tensor) -> None:
    """Add the recurrent product, in the weight's precision, to ``(batch, row)`` sums."""
    if weight.dtype == gate.dtype:
        gate.addmm_(h, weight.t())
    else:
        gate += torch.mm(h.to(weight.dtype), weight.t())


def _product(d_gate: torch.Tensor, weight: torch.Tensor, d_h: torch.Tensor) -> torch.Tensor:
    """Return the gradient of the output before a step, in the place of that after it."""
    if weight.dtype == d_gate.dtype:
        return torch.mm(d_gate, weight, out=d_h)
    return d_h.copy_(torch.mm(d_gate.to(weight.dtype), weight))


def _weight_gradient(d_gates: torch.Tensor, first_h: torch.Tensor, outputs: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    before = torch.cat([first_h[None], outputs[:-1]])
    return d_gates.flatten(0, 1).to(weight.dtype).t() @ before.flatten(0, 1).to(weight.dtype)


class VariantLstm(nn.Module):
    """One layer, in one direction, of a kind of LSTM; it is called as :class:`torch.nn.LSTM` with ``batch_first`` is.

    Parameters
    ----------
    input_size
        Values in each input frame.
    hidden_size
        Units.
    """

    gates: ClassVar[str]
    """The gates, in the order in which the weights hold their rows."""
    function: ClassVar[type[torch.autograd.Function]]
    """Runs over the frames: from :meth:`arguments` to outputs ``(frame, batch, hidden_size)`` and the last cell."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        rows = len(self.gates) * hidden_size
        self.hidden_size = hidden_size
        self.weight_ih_l0 = nn.Parameter(torch.zeros(rows, input_size))
        self.weight_hh_l0 = nn.Parameter(torch.zeros(rows, hidden_size))
        self.bias_l0 = nn.Parameter(torch.zeros(rows))

    def forward(self, x: torch.Tensor, state: LstmState | None = None) -> tuple[torch.Tensor, LstmState]:
        """Read ``(batch, frame, input_size)``.

        Parameters
        ----------
        x
            The input.
        state
            Output and cell before the first frame, ``(1, batch, hidden_size)`` each; zeros by default.

        Returns
        -------
        y
            ``(batch, frame, hidden_size)``.
        state
            After the last frame.
        """
        y, c = self.function.apply(*self.arguments(x, state))
        return y.transpose(0, 1), (y[-1:], c[None])

    def arguments(self, x: torch.Tensor, state: LstmState | None = None) -> tuple[torch.Tensor, ...]:
        """Return the input's projections ``(frame, batch, row)``, the weights of the recurrent product, output and cell."""
        projected = functional.linear(x, self.weight_ih_l0, self.bias_l0).transpose(0, 1)
        dtype = torch.promote_types(x.dtype, torch.float32)
        zero = x.new_zeros(1, len(x), self.hidden_size, dtype=dtype)
        h, c = (zero, zero) if state is None else state
        weight: torch.Tensor = self.weight_hh_l0
        if torch.is_autocast_enabled(x.device.type):
            weight = weight.to(torch.get_autocast_dtype(x.device.type))
        return projected.to(dtype), weight, h[0], c[0]


class PeepholeLSTM(VariantLstm):
    """LSTM whose gates see the cell (Gers and Schmidhuber, "Recurrent nets that time and count", 2000).

    Input and forget gate see the old cell, the output gate the new one::

        i = sigmoid(W_i x + U_i h + p_i * c + b_i)     f = sigmoid(W_f x + U_f h + p_f * c + b_f)
        g = tanh(W_g x + U_g h + b_g)                  c' = f * c + i * g
        o = sigmoid(W_o x + U_o h + p_o * c' + b_o)    h' = o * tanh(c')

    The rows of ``weight_peephole_l0``, ``(3, hidden_size)``, are p_i, p_f and p_o.
    """

    gates = "ifgo"
    function = _Peephole

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.weight_peephole_l0 = nn.Parameter(torch.zeros(3, hidden_size))

    def arguments(self, x: torch.Tensor, state: LstmState | None = None) -> tuple[torch.Tensor, ...]:
        """Return those of every kind, and the peepholes."""
        return *super().arguments(x, state), self.weight_peephole_l0


class CoupledLSTM(VariantLstm):
    """LSTM that takes in exactly as much as it forgets (Greff et al., "LSTM: a search space odyssey", 2017).

    There is no input gate of its own::

        f = sigmoid(W_f x + U_f h + b_f)     i = 1 - f     g = tanh(W_g x + U_g h + b_g)     c' = f * c + i * g
        o = sigmoid(W_o x + U_o h + b_o)     h' = o * tanh(c')
    """

    gates = "fog"
    function = _Coupled


_FUSED: dict[str, type[nn.RNN | nn.LSTM | nn.GRU]] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
_VARIANTS: dict[str, type[VariantLstm]] = {"peephole_lstm": PeepholeLSTM, "coupled_lstm": CoupledLSTM}


def build_cell(config: RecurrentConfig, input_size: int) -> nn.RNNBase | VariantLstm:
    """Return one recurrent layer of one direction, initialised as the configuration says.

    Biases are zero but for the forget gate's, which starts open (Jozefowicz et al. 2015); peepholes are zero.
    """
    cell: nn.RNNBase | VariantLstm
    if config.cell in _VARIANTS:
        cell = _VARIANTS[config.cell](input_size, config.hidden_size)
    else:
        options = {"nonlinearity": config.activation} if config.cell == "rnn" else {}
        cell = _FUSED[config.cell](input_size, config.hidden_size, batch_first=True, **options)
    order = cell.gates if isinstance(cell, VariantLstm) else {"lstm": "ifgo", "gru": "rzn", "rnn": "h"}[config.cell]
    for name, parameter in cell.named_parameters():
        if parameter.is_meta:
            continue  # a shape without values; torch.nn.init on one loads torch's compiler, which takes a second
        with torch.no_grad():
            if name.startswith(("bias", "weight_peephole")):
                parameter.zero_()
            else:
                kind = config.input_init if name.startswith("weight_ih") else config.recurrent_init
                for gate in parameter.split(config.hidden_size):
                    _INITS[kind](gate)
            if name in ("bias_l0", "bias_ih_l0") and "f" in order:
                parameter.view(-1, config.hidden_size)[order.index("f")] = config.forget_bias
    return cell


_INITS = {
    "xavier": nn.init.xavier_uniform_,  # Glorot and Bengio 2010
    "orthogonal": nn.init.orthogonal_,  # Saxe et al. 2014
    "identity": nn.init.eye_,  # Le et al. 2015, for rectified units
    "uniform": lambda gate: nn.init.uniform_(gate, -(gate.shape[0] ** -0.5), gate.shape[0] ** -0.5),  # torch's own
}
