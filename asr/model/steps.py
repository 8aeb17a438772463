"""The loops over time of the cells that torch does not have, on any device; :mod:`asr.model.gpu_steps` has the same for GPUs.

They hold the recurrent product and a few elementwise operations. On the way back, what does not depend on the step after is
done before the loop, for all steps at once.
"""

from __future__ import annotations

import torch


def run_forward(
    gates: torch.Tensor,
    cells: torch.Tensor,
    squashed: torch.Tensor,
    outputs: torch.Tensor,
    start: tuple[torch.Tensor, torch.Tensor],
    weight: torch.Tensor,
    peepholes: torch.Tensor | None,
) -> None:
    """Fill in gates, which hold the input's projections, cells, their hyperbolic tangents and outputs, step after step.

    Parameters
    ----------
    gates
        ``(frame, batch, row)``, contiguous: rows of i, f, g and o with peepholes, else of f, o and g.
    cells, squashed, outputs
        ``(frame, batch, hidden_size)``.
    start
        Output and cell before the first frame, ``(batch, hidden_size)``.
    weight
        Of the recurrent product, ``(row, hidden_size)``.
    peepholes
        ``(3, hidden_size)``, of the peephole LSTM; none for the coupled one.
    """
    h, c = start
    size = weight.shape[1]
    for step, gate in enumerate(gates):
        add_product(gate, h, weight)
        if peepholes is not None:
            i_f_g_o = gate.view(-1, 4, size)
            i_f_g_o[:, :2].addcmul_(c[:, None], peepholes[:2])
            gate[:, : 2 * size].sigmoid_()
            gate[:, 2 * size : 3 * size].tanh_()
            i, f, g, o = i_f_g_o.unbind(1)
            c = torch.mul(f, c, out=cells[step]).addcmul_(i, g)
            o.addcmul_(c, peepholes[2]).sigmoid_()
        else:
            gate[:, : 2 * size].sigmoid_()
            gate[:, 2 * size :].tanh_()
            f, o, g = gate.view(-1, 3, size).unbind(1)
            c = torch.lerp(g, c, f, out=cells[step])
        h = torch.mul(o, torch.tanh(c, out=squashed[step]), out=outputs[step])


def run_backward(
    saved: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    first_c: torch.Tensor,
    d_outputs: torch.Tensor,
    d_c: torch.Tensor,
    weight: torch.Tensor,
    peepholes: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Go back over the steps.

    Parameters
    ----------
    saved
        Gates, cells and their hyperbolic tangents, as :func:`run_forward` leaves them.
    first_c
        The cell before the first frame.
    d_outputs, d_c
        Gradients of all outputs and of the last cell.
    weight, peepholes
        As in :func:`run_forward`.

    Returns
    -------
    d_gates, d_h, d_c
        Gradients of the gates' sums ``(frame, batch, row)``, and of output and cell before the first frame.
    """
    gates, cells, squashed = saved
    before = torch.cat([first_c[None], cells[:-1]])
    if peepholes is not None:
        return _peephole_back(gates, before, squashed, d_outputs, d_c.clone(), weight, peepholes)
    return _coupled_back(gates, before, squashed, d_outputs, d_c.clone(), weight)


def _peephole_back(
    gates: torch.Tensor,
    before: torch.Tensor,
    squashed: torch.Tensor,
    d_outputs: torch.Tensor,
    d_c: torch.Tensor,
    weight: torch.Tensor,
    peepholes: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    shape = (*before.shape[:2], 4, before.shape[2])
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
    d_h = torch.zeros_like(d_c)
    for step in range(len(gates) - 1, -1, -1):
        d_h += d_outputs[step]
        d_c.addcmul_(d_h, through[step])
        d_i_f_g[step] *= d_c[:, None]
        d_o[step] *= d_h
        d_c *= back[step]
        d_h = product(d_gates[step], weight, d_h)
    return d_gates, d_h, d_c


def _coupled_back(
    gates: torch.Tensor,
    before: torch.Tensor,
    squashed: torch.Tensor,
    d_outputs: torch.Tensor,
    d_c: torch.Tensor,
    weight: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    shape = (*before.shape[:2], 3, before.shape[2])
    f, o, g = gates.view(shape).unbind(2)
    d_gates = torch.empty_like(gates)
    d_f, d_o, d_g = d_gates.view(shape).unbind(2)
    torch.mul(before - g, f * (1 - f), out=d_f)
    torch.mul(squashed, o * (1 - o), out=d_o)
    torch.mul(1 - f, 1 - g * g, out=d_g)
    through = o * (1 - squashed * squashed)
    d_h = torch.zeros_like(d_c)
    for step in range(len(gates) - 1, -1, -1):
        d_h += d_outputs[step]
        d_c.addcmul_(d_h, through[step])
        d_f[step] *= d_c
        d_o[step] *= d_h
        d_g[step] *= d_c
        d_c *= f[step]
        d_h = product(d_gates[step], weight, d_h)
    return d_gates, d_h, d_c


def add_product(gate: torch.Tensor, h: torch.Tensor, weight: torch.Tensor) -> None:
    """Add the recurrent product, in the weight's precision, to ``(batch, row)`` sums."""
    if weight.dtype == gate.dtype:
        gate.addmm_(h, weight.t())
    else:
        gate += torch.mm(h.to(weight.dtype), weight.t())


def product(d_gate: torch.Tensor, weight: torch.Tensor, d_h: torch.Tensor) -> torch.Tensor:
    """Return the gradient of the output before a step, in the place of that after it."""
    if weight.dtype == d_gate.dtype:
        return torch.mm(d_gate, weight, out=d_h)
    return d_h.copy_(torch.mm(d_gate.to(weight.dtype), weight))
