"""What only a GPU can show: layers and trainings that run there, at the precision that is chosen by itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from beeps import LEARNING, small_config, write_beeps

from asr.config import RecurrentConfig
from asr.crf import denominator, estimate_ngram
from asr.engine.run import choose_precision
from asr.model.cells import build_cell
from asr.model.recurrent import RecurrentLayer
from asr.training import train

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]

CELLS = ["rnn", "lstm", "gru", "peephole_lstm", "coupled_lstm"]


@pytest.mark.parametrize("cell", CELLS)
def test_both_directions_at_once_give_what_the_cpu_gives(cell: str) -> None:
    torch.manual_seed(5)
    layer = RecurrentLayer(RecurrentConfig(cell=cell, hidden_size=96, dropout=0.0), 40)
    x, n_frames = torch.randn(7, 50, 40), torch.tensor([50, 41, 33, 20, 11, 3, 1])
    weight = torch.where(torch.arange(50)[None, :, None] < n_frames[:, None, None], torch.randn(7, 50, 192), 0)
    found = []
    for device in ("cpu", "cuda"):
        placed = layer.to(device)
        placed.zero_grad()
        outputs = placed(x.to(device), n_frames.to(device)) * (weight != 0).to(device)
        (outputs * weight.to(device)).sum().backward()
        gradients = [parameter.grad for parameter in placed.parameters() if parameter.grad is not None]
        found.append([tensor.detach().cpu() for tensor in (outputs, *gradients)])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("cell", ["lstm", "peephole_lstm", "coupled_lstm"])
@pytest.mark.parametrize(("n_batch", "size"), [(7, 96), (40, 320), (300, 384)])
def test_kernels_over_all_steps_give_what_the_cpu_gives(cell: str, n_batch: int, size: int) -> None:
    """Some programs, many that wait for each other, and more than a GPU can run at once."""
    torch.manual_seed(7)
    cell_module = build_cell(RecurrentConfig(cell=cell, hidden_size=size), 64)
    x = torch.randn(n_batch, 60, 64)
    found = []
    for device, autocast in (("cpu", False), ("cuda", True)):
        placed = cell_module.to(device)
        placed.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=autocast):
            outputs, (_, c) = placed(x.to(device))
        (outputs.float() * torch.linspace(-1, 1, size, device=device)).mean().backward()
        gradients = [parameter.grad for parameter in placed.parameters() if parameter.grad is not None]
        found.append([tensor.detach().float().cpu() for tensor in (outputs, c, *gradients)])
    for ours, theirs in zip(*found, strict=True):
        assert (ours - theirs).norm() <= 0.02 * ours.norm()


def test_memory_is_not_given_anew_while_the_other_stream_reads_it() -> None:
    """The same numbers from every one of many steps, whose memory is taken from and given back to the same pool."""
    torch.manual_seed(6)
    layers = torch.nn.ModuleList(RecurrentLayer(RecurrentConfig(hidden_size=64, dropout=0.0), 128) for _ in range(4)).cuda()
    x, n_frames = torch.randn(16, 100, 128, device="cuda"), torch.full((16,), 100, device="cuda")
    first: list[torch.Tensor] = []
    for _ in range(30):
        layers.zero_grad()
        y = x * 1.0
        for layer in layers:
            y = layer(y, n_frames)
        y.square().mean().backward()
        gradients = [parameter.grad.clone() for parameter in layers.parameters() if parameter.grad is not None]
        first = first or gradients
        for ours, theirs in zip(gradients, first, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("cell", CELLS)
def test_learns_at_the_default_precision(cell: str, tmp_path: Path) -> None:
    corpus = write_beeps(tmp_path / "beeps")
    config = small_config(
        corpus, tmp_path / "run", *LEARNING, "trainer.accelerator=gpu", "trainer.precision=auto", f"model.recurrent.cell={cell}"
    )
    assert choose_precision(config.trainer, "trainer") == "bf16-mixed"
    assert train(config) == 0
    facts = yaml.safe_load((tmp_path / "run" / "package" / "config.yaml").read_text())["training"]
    assert facts["dev_wer"]["rate"] < 0.5


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_denominator_gives_what_the_cpu_gives(order: int) -> None:
    torch.manual_seed(7)
    ngram = estimate_ngram([torch.randint(1, 30, (40,)).tolist() for _ in range(20)], 30, order)
    log_probs = (3 * torch.randn(5, 200, 30)).log_softmax(2)
    n_frames = torch.tensor([200, 150, 77, 1, 0])
    found = []
    for device in ("cpu", "cuda"):
        placed = log_probs.to(device).requires_grad_()
        with torch.autocast("cuda", torch.bfloat16):
            log_z = denominator(placed, n_frames.to(device), ngram.to(device))
        (gradient,) = torch.autograd.grad(log_z.sum(), placed)
        found.append((log_z.detach().cpu(), gradient.cpu()))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_learns_by_ctc_crf(tmp_path: Path) -> None:
    corpus = write_beeps(tmp_path / "beeps")
    config = small_config(corpus, tmp_path / "run", *LEARNING, "trainer.accelerator=gpu", "optim.loss=ctc_crf")
    assert train(config) == 0
    facts = yaml.safe_load((tmp_path / "run" / "package" / "config.yaml").read_text())["training"]
    assert facts["dev_wer"]["rate"] < 0.5
