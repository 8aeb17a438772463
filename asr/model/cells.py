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
on the way back the products that give the weights' gradients. The loop over time is in :mod:`asr.model.steps`, and its backward
pass is written out instead of recorded step by step. On a GPU one kernel takes all steps.
"""

from __future__ import annotations

import functools
import logging
import warnings
from types import ModuleType
from typing import Any, ClassVar

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from asr.config import RecurrentConfig
from asr.model import steps

logger = logging.getLogger(__name__)

LstmState = tuple[torch.Tensor, torch.Tensor]


class _Variant(torch.autograd.Function):
    """A layer over all frames: an LSTM with peepholes, the coupled one, or on a GPU the plain one; with its backward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        projected: torch.Tensor,
        weight: torch.Tensor,
        h: torch.Tensor,
        c: torch.Tensor,
        peepholes: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        gates, cells, squashed, outputs = run_steps(projected, weight, h, c, peepholes)
        ctx.save_for_backward(gates, cells, squashed, outputs, weight, peepholes, h, c)
        return outputs, cells[-1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_outputs: torch.Tensor, d_c: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        gates, cells, squashed, outputs, weight, peepholes, first_h, first_c = ctx.saved_tensors
        saved = gates, cells, squashed
        d_gates, d_h, d_first_c = _loops(gates).run_backward(saved, first_c, d_outputs, d_c, weight, peepholes)
        d_weight = _weight_gradient(d_gates, first_h, outputs, weight)
        d_peepholes = None if peepholes is None else _peephole_gradient(d_gates, first_c, cells)
        return d_gates, d_weight, d_h, d_first_c, d_peepholes


def run_steps(
    projected: torch.Tensor, weight: torch.Tensor, h: torch.Tensor, c: torch.Tensor, peepholes: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Run a layer over all frames and return its gates, cells, their hyperbolic tangents, and outputs.

    Parameters
    ----------
    projected, weight, h, c, peepholes
        From :meth:`VariantLstm.arguments`.
    """
    gates = projected.clone(memory_format=torch.contiguous_format)
    cells, squashed, outputs = (projected.new_empty(*projected.shape[:2], weight.shape[1]) for _ in range(3))
    _loops(gates).run_forward(gates, cells, squashed, outputs, (h, c), weight, peepholes)
    return gates, cells, squashed, outputs


def _loops(tensor: torch.Tensor) -> ModuleType:
    """Return the module whose loops are the fastest where a tensor is, and can compute in its precision."""
    gpu_steps = _gpu_steps() if tensor.is_cuda and tensor.dtype == torch.float32 else None
    return gpu_steps if gpu_steps is not None and gpu_steps.usable(tensor.device) else steps


@functools.cache
def _gpu_steps() -> ModuleType | None:
    try:
        from asr.model import gpu_steps
    except Exception as error:  # Triton is not there, or its installation is broken
        logger.warning(f"Triton cannot be imported, so that the recurrent layers are slower: {error}")
        return None
    return gpu_steps


def _weight_gradient(d_gates: torch.Tensor, first_h: torch.Tensor, outputs: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    before = torch.cat([first_h[None], outputs[:-1]])
    return d_gates.flatten(0, 1).to(weight.dtype).t() @ before.flatten(0, 1).to(weight.dtype)


def _peephole_gradient(d_gates: torch.Tensor, first_c: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
    d_i, d_f, _, d_o = d_gates.view(*cells.shape[:2], 4, cells.shape[2]).unbind(2)
    before = torch.cat([first_c[None], cells[:-1]])
    return torch.stack([(part * cell).sum((0, 1)) for part, cell in ((d_i, before), (d_f, before), (d_o, cells))])


def step_arguments(
    x: torch.Tensor, state: LstmState | None, weight_ih: torch.Tensor, weight_hh: torch.Tensor, bias: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return what a layer's steps begin with.

    Parameters
    ----------
    x
        ``(batch, frame, input_size)``.
    state
        Output and cell before the first frame, ``(1, batch, hidden_size)`` each; zeros where there is none.
    weight_ih, weight_hh, bias
        Of the input's product ``(row, input_size)`` and of the recurrent one ``(row, hidden_size)``, and their sum's.

    Returns
    -------
    projected, weight, h, c
        The input's projections ``(frame, batch, row)``; the weights of the recurrent product, in the type that autocast names;
        output and cell ``(batch, hidden_size)``. All but the weights are in float32 at least.
    """
    projected = functional.linear(x, weight_ih, bias).transpose(0, 1)
    dtype = torch.promote_types(x.dtype, torch.float32)
    zero = x.new_zeros(1, len(x), weight_hh.shape[1], dtype=dtype)
    h, c = (zero, zero) if state is None else state
    if torch.is_autocast_enabled(x.device.type):
        weight_hh = weight_hh.to(torch.get_autocast_dtype(x.device.type))
    return projected.to(dtype), weight_hh, h[0].to(dtype), c[0].to(dtype)


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
        y, c = _Variant.apply(*self.arguments(x, state))
        return y.transpose(0, 1), (y[-1:], c[None])

    def arguments(self, x: torch.Tensor, state: LstmState | None = None) -> tuple[torch.Tensor, ...]:
        """Return what :func:`run_steps` takes: see :func:`step_arguments`."""
        return step_arguments(x, state, self.weight_ih_l0, self.weight_hh_l0, self.bias_l0)


class PeepholeLSTM(VariantLstm):
    """LSTM whose gates see the cell (Gers and Schmidhuber, "Recurrent nets that time and count", 2000).

    Input and forget gate see the old cell, the output gate the new one::

        i = sigmoid(W_i x + U_i h + p_i * c + b_i)     f = sigmoid(W_f x + U_f h + p_f * c + b_f)
        g = tanh(W_g x + U_g h + b_g)                  c' = f * c + i * g
        o = sigmoid(W_o x + U_o h + p_o * c' + b_o)    h' = o * tanh(c')

    The rows of ``weight_peephole_l0``, ``(3, hidden_size)``, are p_i, p_f and p_o.
    """

    gates = "ifgo"

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


class _Fused(nn.RNNBase):
    """Makes a layer of torch's run in the type that autocast names, input and weights cast by us.

    Left to itself, autocast gives cuDNN float16 whatever type was asked for: another type than the rest of the network has, and
    one in which gradients below 6e-8 vanish.
    """

    def forward(self, x: torch.Tensor, state: Any = None) -> tuple[torch.Tensor, Any]:
        if not torch.is_autocast_enabled(x.device.type):
            result: tuple[torch.Tensor, Any] = super().forward(x, state)
            return result
        dtype = torch.get_autocast_dtype(x.device.type)
        weights = [weight.to(dtype) for weight in self.all_weights[0]]
        with torch.autocast(x.device.type, enabled=False):
            zero = x.new_zeros(1, len(x), self.hidden_size, dtype=dtype)
            if isinstance(self, nn.LSTM):
                h, c = (zero, zero) if state is None else state
                y, h, c = torch.lstm(x.to(dtype), (h.to(dtype), c.to(dtype)), weights, *self._options)
                return y, (h, c)
            h = zero if state is None else state.to(dtype)
            run = {"GRU": torch.gru, "RNN_TANH": torch.rnn_tanh, "RNN_RELU": torch.rnn_relu}[self.mode]
            return run(x.to(dtype), h, weights, *self._options)

    @property
    def _options(self) -> tuple[bool, int, float, bool, bool, bool]:
        """Biases, layers, dropout, training, both directions, batch first."""
        return True, 1, 0.0, self.training, False, True


class _FusedRnn(_Fused, nn.RNN):
    """See :class:`torch.nn.RNN`."""


class _FusedLstm(_Fused, nn.LSTM):
    """See :class:`torch.nn.LSTM`. On a GPU, in a half type, all steps are one kernel of ours; cuDNN starts several for each."""

    def forward(self, x: torch.Tensor, state: Any = None) -> tuple[torch.Tensor, Any]:
        loops = _loops(torch.empty(0, device=x.device)) if torch.is_autocast_enabled(x.device.type) else steps
        if loops is steps:
            return super().forward(x, state)
        weight_ih, weight_hh, bias_ih, bias_hh = self.all_weights[0]
        y, c = _Variant.apply(*step_arguments(x, state, weight_ih, weight_hh, bias_ih + bias_hh))
        y = y.to(torch.get_autocast_dtype(x.device.type))
        return y.transpose(0, 1), (y[-1:], c[None])


class _FusedGru(_Fused, nn.GRU):
    """See :class:`torch.nn.GRU`."""


# Weights that were just cast lie where they lie; cuDNN copies them, which takes no time beside the layer's.
warnings.filterwarnings("ignore", message="RNN module weights are not part of single contiguous chunk")

_FUSED: dict[str, type[_FusedRnn | _FusedLstm | _FusedGru]] = {"rnn": _FusedRnn, "lstm": _FusedLstm, "gru": _FusedGru}
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
