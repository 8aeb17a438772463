"""A step of the cells in one kernel, for GPUs; Triton compiles it.

On a GPU a step of a few elementwise operations costs the time to start them, not to compute. Here all of a step but the
recurrent product is one kernel, on the way forward and back, so that a step starts two kernels in place of ten. The loops give
what those of :mod:`asr.model.steps` give; in the tests Triton's interpreter runs them without a GPU.
"""

from __future__ import annotations

import functools
import logging

import torch
import triton
import triton.language as tl

from asr.model.steps import add_product, product

logger = logging.getLogger(__name__)

_BLOCK = 256


@triton.jit
def _tanh(x):  # type: ignore[no-untyped-def]
    return 2 * tl.sigmoid(2 * x) - 1


@triton.jit
def _peephole_forward(gate, peepholes, c, cell, squashed, output, n, size, block: tl.constexpr):  # type: ignore[no-untyped-def]
    place = tl.program_id(0) * block + tl.arange(0, block)
    inside = place < n
    unit = place % size
    at = place // size * (4 * size) + unit
    before = tl.load(c + place, inside, 0)
    i = tl.sigmoid(tl.load(gate + at, inside, 0) + tl.load(peepholes + unit) * before)
    f = tl.sigmoid(tl.load(gate + at + size, inside, 0) + tl.load(peepholes + size + unit) * before)
    g = _tanh(tl.load(gate + at + 2 * size, inside, 0))
    now = f * before + i * g
    o = tl.sigmoid(tl.load(gate + at + 3 * size, inside, 0) + tl.load(peepholes + 2 * size + unit) * now)
    flat = _tanh(now)
    tl.store(gate + at, i, inside)
    tl.store(gate + at + size, f, inside)
    tl.store(gate + at + 2 * size, g, inside)
    tl.store(gate + at + 3 * size, o, inside)
    tl.store(cell + place, now, inside)
    tl.store(squashed + place, flat, inside)
    tl.store(output + place, o * flat, inside)


@triton.jit
def _peephole_backward(  # type: ignore[no-untyped-def]
    gate, peepholes, c, squashed, d_output, d_h, d_c, d_gate, n, size, block: tl.constexpr
):
    place = tl.program_id(0) * block + tl.arange(0, block)
    inside = place < n
    unit = place % size
    at = place // size * (4 * size) + unit
    i = tl.load(gate + at, inside, 0)
    f = tl.load(gate + at + size, inside, 0)
    g = tl.load(gate + at + 2 * size, inside, 0)
    o = tl.load(gate + at + 3 * size, inside, 0)
    flat = tl.load(squashed + place, inside, 0)
    d_output_and_h = tl.load(d_output + place, inside, 0) + tl.load(d_h + place, inside, 0)
    d_o = d_output_and_h * flat * o * (1 - o)
    d_now = (
        tl.load(d_c + place, inside, 0) + d_output_and_h * o * (1 - flat * flat) + d_o * tl.load(peepholes + 2 * size + unit)
    )
    d_i = d_now * g * i * (1 - i)
    d_f = d_now * tl.load(c + place, inside, 0) * f * (1 - f)
    tl.store(d_gate + at, d_i, inside)
    tl.store(d_gate + at + size, d_f, inside)
    tl.store(d_gate + at + 2 * size, d_now * i * (1 - g * g), inside)
    tl.store(d_gate + at + 3 * size, d_o, inside)
    d_before = d_now * f + d_i * tl.load(peepholes + unit) + d_f * tl.load(peepholes + size + unit)
    tl.store(d_c + place, d_before, inside)


@triton.jit
def _coupled_forward(gate, c, cell, squashed, output, n, size, block: tl.constexpr):  # type: ignore[no-untyped-def]
    place = tl.program_id(0) * block + tl.arange(0, block)
    inside = place < n
    at = place // size * (3 * size) + place % size
    f = tl.sigmoid(tl.load(gate + at, inside, 0))
    o = tl.sigmoid(tl.load(gate + at + size, inside, 0))
    g = _tanh(tl.load(gate + at + 2 * size, inside, 0))
    now = f * tl.load(c + place, inside, 0) + (1 - f) * g
    flat = _tanh(now)
    tl.store(gate + at, f, inside)
    tl.store(gate + at + size, o, inside)
    tl.store(gate + at + 2 * size, g, inside)
    tl.store(cell + place, now, inside)
    tl.store(squashed + place, flat, inside)
    tl.store(output + place, o * flat, inside)


@triton.jit
def _coupled_backward(  # type: ignore[no-untyped-def]
    gate, c, squashed, d_output, d_h, d_c, d_gate, n, size, block: tl.constexpr
):
    place = tl.program_id(0) * block + tl.arange(0, block)
    inside = place < n
    at = place // size * (3 * size) + place % size
    f = tl.load(gate + at, inside, 0)
    o = tl.load(gate + at + size, inside, 0)
    g = tl.load(gate + at + 2 * size, inside, 0)
    flat = tl.load(squashed + place, inside, 0)
    d_output_and_h = tl.load(d_output + place, inside, 0) + tl.load(d_h + place, inside, 0)
    d_now = tl.load(d_c + place, inside, 0) + d_output_and_h * o * (1 - flat * flat)
    tl.store(d_gate + at, d_now * (tl.load(c + place, inside, 0) - g) * f * (1 - f), inside)
    tl.store(d_gate + at + size, d_output_and_h * flat * o * (1 - o), inside)
    tl.store(d_gate + at + 2 * size, d_now * (1 - f) * (1 - g * g), inside)
    tl.store(d_c + place, d_now * f, inside)


def run_forward(
    gates: torch.Tensor,
    cells: torch.Tensor,
    squashed: torch.Tensor,
    outputs: torch.Tensor,
    start: tuple[torch.Tensor, torch.Tensor],
    weight: torch.Tensor,
    peepholes: torch.Tensor | None,
) -> None:
    """As :func:`asr.model.steps.run_forward`."""
    h, c = (tensor.contiguous() for tensor in start)
    n, size = c.numel(), c.shape[1]
    grid = (triton.cdiv(n, _BLOCK),)
    with torch.cuda.device_of(gates):
        for step, gate in enumerate(gates):
            add_product(gate, h, weight)
            arrays = gate, c, cells[step], squashed[step], outputs[step]
            if peepholes is None:
                _coupled_forward[grid](*arrays, n, size, block=_BLOCK)
            else:
                _peephole_forward[grid](gate, peepholes, *arrays[1:], n, size, block=_BLOCK)
            h, c = outputs[step], cells[step]


def run_backward(
    saved: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    first_c: torch.Tensor,
    d_outputs: torch.Tensor,
    d_c: torch.Tensor,
    weight: torch.Tensor,
    peepholes: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """As :func:`asr.model.steps.run_backward`."""
    gates, cells, squashed = saved
    d_gates, d_outputs = torch.empty_like(gates), d_outputs.contiguous()
    d_h, d_c = torch.zeros_like(first_c), d_c.clone(memory_format=torch.contiguous_format)
    n, size = d_c.numel(), d_c.shape[1]
    grid = (triton.cdiv(n, _BLOCK),)
    with torch.cuda.device_of(gates):
        for step in range(len(cells) - 1, -1, -1):
            before = cells[step - 1] if step else first_c.contiguous()
            arrays = before, squashed[step], d_outputs[step], d_h, d_c, d_gates[step]
            if peepholes is None:
                _coupled_backward[grid](gates[step], *arrays, n, size, block=_BLOCK)
            else:
                _peephole_backward[grid](gates[step], peepholes, *arrays, n, size, block=_BLOCK)
            d_h = product(d_gates[step], weight, d_h)
    return d_gates, d_h, d_c


@functools.cache
def usable(device: torch.device) -> bool:
    """Say whether Triton can make and start a kernel on a device; it needs a C compiler and a processor that it knows."""
    try:
        one = torch.zeros(1, 1, 1, device=device)
        gates, weight = torch.zeros(1, 1, 3, device=device), torch.zeros(3, 1, device=device)
        run_forward(gates, one, one.clone(), one.clone(), (one[0].clone(), one[0].clone()), weight, None)
        torch.cuda.synchronize(device)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        logger.warning(f"Triton cannot be used on {device}, so that the recurrent layers are slower: {reason}")
        return False
    return True
