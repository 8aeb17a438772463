"""The loops over time of the LSTMs as one kernel each way, for GPUs; Triton compiles them.

A step of a recurrent layer is a small product whose time on a GPU is that of starting it. Here one kernel takes all steps. Its
programs share the work: each has some rows of the batch and some units, for which it reads the outputs of all units a step
before; so the programs of the same rows wait for each other at each step. That needs all of them to be on the GPU at the same
time; where they do not fit, a kernel is started for each step. The loops give what those of :mod:`asr.model.steps` give; in the
tests Triton's interpreter runs them without a GPU.
"""

from __future__ import annotations

import functools
import logging
from typing import Any

import torch
import triton
import triton.language as tl

from asr.model.steps import product

logger = logging.getLogger(__name__)

_ROWS = 16
"""Utterances a program has: the least that a matrix unit takes."""

_MOST_UNITS = 64
"""Units a program has at most."""

_DEPTH = 64
"""Terms of a product that are loaded at once."""


@triton.jit
def _tanh(x):  # type: ignore[no-untyped-def]
    return 2 * tl.sigmoid(2 * x) - 1


@triton.jit
def _await(arrived, n):  # type: ignore[no-untyped-def]
    """Wait until so many programs have arrived; what they wrote before can then be read."""
    while tl.atomic_add(arrived, 0, sem="acquire", scope="gpu") < n:
        pass


@triton.jit
def _arrive(arrived):  # type: ignore[no-untyped-def]
    tl.debug_barrier()
    tl.atomic_add(arrived, 1, sem="release", scope="gpu")


@triton.jit
def _forward(  # type: ignore[no-untyped-def]
    gates, cells, squashed, outputs, h, c, weight, peepholes, arrived, first, last, n_batch,
    size: tl.constexpr, n_gates: tl.constexpr, with_peepholes: tl.constexpr,
    rows: tl.constexpr, units: tl.constexpr, depth: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * rows + tl.arange(0, rows)[:, None]
    unit = tl.program_id(1) * units + tl.arange(0, units)[None, :]
    inside = (row < n_batch) & (unit < size)
    place = row * size + unit
    t = first
    while t < last:
        frame = tl.cast(t, tl.int64) * n_batch * size
        if t > first:
            _await(arrived + tl.program_id(0), (t - first) * tl.num_programs(1))
        if t > 0:
            h = outputs + frame - n_batch * size
            c = cells + frame - n_batch * size
        at = gates + frame * n_gates + row * (n_gates * size) + unit
        a = tl.load(at, inside, 0)
        b = tl.load(at + size, inside, 0)
        d = tl.load(at + 2 * size, inside, 0)
        if n_gates == 4:
            e = tl.load(at + 3 * size, inside, 0)
        for k in range(0, size, depth):
            column = k + tl.arange(0, depth)
            known = (row < n_batch) & (column < size)[None, :]
            x = tl.load(h + row * size + column[None, :], known, 0, cache_modifier=".cg").to(weight.dtype.element_ty)
            w = weight + unit * size + column[:, None]
            held = (column < size)[:, None] & (unit < size)
            a = tl.dot(x, tl.load(w, held, 0), a, input_precision="ieee", out_dtype=a.dtype)
            b = tl.dot(x, tl.load(w + size * size, held, 0), b, input_precision="ieee", out_dtype=a.dtype)
            d = tl.dot(x, tl.load(w + 2 * size * size, held, 0), d, input_precision="ieee", out_dtype=a.dtype)
            if n_gates == 4:
                e = tl.dot(x, tl.load(w + 3 * size * size, held, 0), e, input_precision="ieee", out_dtype=a.dtype)
        before = tl.load(c + place, inside, 0)
        if n_gates == 4:  # i, f, g, o
            if with_peepholes:
                a += before * tl.load(peepholes + unit, unit < size, 0)
                b += before * tl.load(peepholes + size + unit, unit < size, 0)
            a = tl.sigmoid(a)
            b = tl.sigmoid(b)
            d = _tanh(d)
            now = b * before + a * d
            if with_peepholes:
                e += now * tl.load(peepholes + 2 * size + unit, unit < size, 0)
            e = tl.sigmoid(e)
            flat = _tanh(now)
            output = e * flat
            tl.store(at + 3 * size, e, inside)
        else:  # f, o, g
            a = tl.sigmoid(a)
            b = tl.sigmoid(b)
            d = _tanh(d)
            now = a * before + (1 - a) * d
            flat = _tanh(now)
            output = b * flat
        tl.store(at, a, inside)
        tl.store(at + size, b, inside)
        tl.store(at + 2 * size, d, inside)
        tl.store(cells + frame + place, now, inside)
        tl.store(squashed + frame + place, flat, inside)
        tl.store(outputs + frame + place, output, inside)
        _arrive(arrived + tl.program_id(0))
        t += 1


@triton.jit
def _backward(  # type: ignore[no-untyped-def]
    gates, cells, squashed, first_c, d_outputs, d_c, d_gates, weight, peepholes, arrived, first, last, n_frames, n_batch,
    size: tl.constexpr, n_gates: tl.constexpr, with_peepholes: tl.constexpr,
    rows: tl.constexpr, units: tl.constexpr, depth: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * rows + tl.arange(0, rows)[:, None]
    unit = tl.program_id(1) * units + tl.arange(0, units)[None, :]
    inside = (row < n_batch) & (unit < size)
    place = row * size + unit
    t = last - 1
    while t >= first:
        frame = tl.cast(t, tl.int64) * n_batch * size
        if t < last - 1:
            _await(arrived + tl.program_id(0), (last - 1 - t) * tl.num_programs(1))
        d_h = tl.load(d_outputs + frame + place, inside, 0)
        if t < n_frames - 1:
            later = d_gates + (frame + n_batch * size) * n_gates
            for k in range(0, n_gates * size, depth):
                column = k + tl.arange(0, depth)
                held = column < n_gates * size
                x = tl.load(
                    later + row * (n_gates * size) + column[None, :],
                    (row < n_batch) & held[None, :],
                    0,
                    cache_modifier=".cg",
                ).to(weight.dtype.element_ty)
                w = tl.load(weight + column[:, None] * size + unit, held[:, None] & (unit < size), 0)
                d_h = tl.dot(x, w, d_h, input_precision="ieee", out_dtype=d_h.dtype)
        before = first_c
        if t > 0:
            before = cells + frame - n_batch * size
        at = frame * n_gates + row * (n_gates * size) + unit
        a = tl.load(gates + at, inside, 0)
        b = tl.load(gates + at + size, inside, 0)
        d = tl.load(gates + at + 2 * size, inside, 0)
        flat = tl.load(squashed + frame + place, inside, 0)
        c = tl.load(before + place, inside, 0)
        d_now = tl.load(d_c + place, inside, 0)
        if n_gates == 4:  # i, f, g, o
            e = tl.load(gates + at + 3 * size, inside, 0)
            d_e = d_h * flat * e * (1 - e)
            d_now += d_h * e * (1 - flat * flat)
            if with_peepholes:
                d_now += d_e * tl.load(peepholes + 2 * size + unit, unit < size, 0)
            d_a = d_now * d * a * (1 - a)
            d_b = d_now * c * b * (1 - b)
            d_d = d_now * a * (1 - d * d)
            d_now *= b
            if with_peepholes:
                d_now += d_a * tl.load(peepholes + unit, unit < size, 0)
                d_now += d_b * tl.load(peepholes + size + unit, unit < size, 0)
            tl.store(d_gates + at + 3 * size, d_e, inside)
        else:  # f, o, g
            d_b = d_h * flat * b * (1 - b)
            d_now += d_h * b * (1 - flat * flat)
            d_a = d_now * (c - d) * a * (1 - a)
            d_d = d_now * (1 - a) * (1 - d * d)
            d_now *= a
        tl.store(d_gates + at, d_a, inside)
        tl.store(d_gates + at + size, d_b, inside)
        tl.store(d_gates + at + 2 * size, d_d, inside)
        tl.store(d_c + place, d_now, inside)
        _arrive(arrived + tl.program_id(0))
        t -= 1


def run_forward(
    gates: torch.Tensor,
    cells: torch.Tensor,
    squashed: torch.Tensor,
    outputs: torch.Tensor,
    start: tuple[torch.Tensor, torch.Tensor],
    weight: torch.Tensor,
    peepholes: torch.Tensor | None,
) -> None:
    """As :func:`asr.model.steps.run_forward`; four rows a unit without peepholes are those of a plain LSTM."""
    h, c = (tensor.contiguous() for tensor in start)
    plan = _Plan(c, weight, peepholes, len(gates))
    for first, last in plan.launches:
        _forward[plan.grid](
            gates, cells, squashed, outputs, h, c, weight, plan.peepholes, plan.arrived(), first, last, len(c), **plan.constants
        )


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
    first_c, d_outputs, d_gates = first_c.contiguous(), d_outputs.contiguous(), torch.empty_like(gates)
    d_c = d_c.clone(memory_format=torch.contiguous_format)
    plan = _Plan(first_c, weight, peepholes, len(gates))
    arrays = gates, cells, squashed, first_c, d_outputs, d_c, d_gates, weight, plan.peepholes
    for first, last in reversed(plan.launches):
        _backward[plan.grid](*arrays, plan.arrived(), first, last, len(gates), len(first_c), **plan.constants)
    return d_gates, product(d_gates[0], weight, torch.empty_like(first_c)), d_c


class _Plan:
    """How the work of a layer is divided.

    Parameters
    ----------
    state
        ``(batch, hidden_size)``, of any content.
    weight, peepholes
        Of the layer.
    n_frames
        Steps.
    """

    def __init__(self, state: torch.Tensor, weight: torch.Tensor, peepholes: torch.Tensor | None, n_frames: int) -> None:
        n_batch, size = state.shape
        units = min(_MOST_UNITS, max(16, triton.next_power_of_2(size)))
        self.grid = triton.cdiv(n_batch, _ROWS), triton.cdiv(size, units)
        self.peepholes = weight if peepholes is None else peepholes.contiguous()
        self.constants: dict[str, Any] = {
            "size": size,
            "n_gates": weight.shape[0] // size,
            "with_peepholes": peepholes is not None,
            "rows": _ROWS,
            "units": units,
            "depth": min(_DEPTH, units),
        }
        all_at_once = self.grid[1] == 1 or self.grid[0] * self.grid[1] <= _most_programs(state.device)
        self.launches = [(0, n_frames)] if all_at_once else [(t, t + 1) for t in range(n_frames)]
        self._device = state.device

    def arrived(self) -> torch.Tensor:
        """Return counters of the programs that have done a step, for each share of the rows."""
        return torch.zeros(self.grid[0], dtype=torch.int32, device=self._device)


@functools.cache
def _most_programs(device: torch.device) -> int:
    """Programs that can wait for each other: those of both directions of a layer have to be on the GPU at the same time."""
    if device.type != "cuda":
        return 0  # Triton's interpreter, which runs one program after the other
    return torch.cuda.get_device_properties(device).multi_processor_count // 2


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
