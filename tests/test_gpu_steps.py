"""The kernels of the cells: in Triton's interpreter they give what the plain loops give, and they compile for GPUs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from asr.config import RecurrentConfig
from asr.model import steps
from asr.model.cells import build_cell

pytest.importorskip("triton", reason="Triton is made for Linux")

INTERPRETED = """
import torch
from asr.model import gpu_steps, steps

def arrays(n_frames, n_batch, size, n_gates, dtype):
    rows = n_gates * size
    draw = lambda *shape: torch.randn(*shape, dtype=dtype)
    start = draw(n_batch, size), draw(n_batch, size)
    return draw(n_frames, n_batch, rows), start, 0.3 * draw(rows, size)

def run(loops, gates, start, weight, peepholes, d_outputs, d_c):
    gates = gates.clone()
    cells, squashed, outputs = (gates.new_empty(*gates.shape[:2], weight.shape[1]) for _ in range(3))
    loops.run_forward(gates, cells, squashed, outputs, start, weight, peepholes)
    back = loops.run_backward((gates, cells, squashed), start[1], d_outputs, d_c, weight, peepholes)
    return gates, cells, squashed, outputs, *back

torch.manual_seed(3)
shapes = ((4, 3, 150), (1, 1, 1), (6, 2, 5), (2, 19, 64))
for dtype, tolerance, tried in ((torch.float64, 1e-12, shapes), (torch.float32, 1e-5, shapes[:1])):
    for kind in ("plain", "peephole", "coupled"):
        for n_frames, n_batch, size in tried:
            given = arrays(n_frames, n_batch, size, 3 if kind == "coupled" else 4, dtype)
            peepholes = torch.randn(3, size, dtype=dtype) if kind == "peephole" else None
            d_outputs = torch.randn(n_batch, n_frames, size, dtype=dtype).transpose(0, 1)
            gradients = d_outputs, torch.randn(n_batch, size, dtype=dtype)
            before = [tensor.clone() for tensor in (*given[1], *gradients)]
            expected = torch.zeros(3, size, dtype=dtype) if kind == "plain" else peepholes  # the loops have no plain LSTM
            pairs = zip(run(gpu_steps, *given, peepholes, *gradients), run(steps, *given, expected, *gradients), strict=True)
            for ours, theirs in pairs:
                torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)
            assert all(map(torch.equal, before, (*given[1], *gradients)))
print("agree")
"""


def test_kernels_agree_with_the_plain_loops() -> None:
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    result = subprocess.run([sys.executable, "-c", INTERPRETED], capture_output=True, text=True, env=environment, check=False)
    assert result.stdout == "agree\n", result.stderr


@pytest.mark.parametrize("kernel", ["_forward", "_backward"])
def test_kernels_compile_for_gpus(kernel: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the eighth generation (A100) and of the ninth (H100)."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from asr.model import gpu_steps

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    function = getattr(gpu_steps, kernel)
    for n_gates, with_peepholes in ((4, False), (4, True), (3, False)):
        chosen = {"size": 384, "rows": 16, "units": 64, "depth": 64, "n_gates": n_gates, "with_peepholes": with_peepholes}
        kinds = dict.fromkeys(chosen, "constexpr") | dict.fromkeys(("first", "last", "n_frames", "n_batch"), "i32")
        kinds |= {"arrived": "*i32", "weight": "*bf16"}
        signature = {parameter.name: kinds.get(parameter.name, "*fp32") for parameter in function.params}
        for generation in (80, 90):
            source = ASTSource(fn=function, signature=signature, constexprs=chosen)
            compiled = triton.compile(source, target=GPUTarget("cuda", generation, 32))
            assert compiled.asm["cubin"]


def test_a_device_that_triton_does_not_know_is_no_obstacle(caplog: pytest.LogCaptureFixture) -> None:
    """Here the CPU: its tensors are no memory of a GPU."""
    from asr.model import gpu_steps

    gpu_steps.usable.cache_clear()
    assert not gpu_steps.usable(torch.device("cpu"))
    assert "Triton cannot be used on cpu" in caplog.text
    gpu_steps.usable.cache_clear()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("name", ["peephole_lstm", "coupled_lstm"])
def test_a_gpu_agrees_with_the_cpu(name: str) -> None:
    torch.manual_seed(5)
    cell = build_cell(RecurrentConfig(cell=name, hidden_size=96), 40)
    x = torch.randn(7, 50, 40)
    found = []
    for device in ("cpu", "cuda"):
        placed = cell.to(device)
        placed.zero_grad()
        outputs, _ = placed(x.to(device))
        (outputs * torch.arange(96, device=device)).sum().backward()
        gradients = [parameter.grad for parameter in placed.parameters() if parameter.grad is not None]
        found.append([tensor.detach().cpu() for tensor in (outputs, *gradients)])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


def test_the_plain_loops_serve_the_cpu() -> None:
    from asr.model.cells import _loops

    assert _loops(torch.zeros(1)) is steps
