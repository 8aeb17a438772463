"""The moving average of the weights."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from beeps import assert_equal_weights, small_config, weights, write_beeps
from safetensors.torch import load_file

from asr.model.acoustic import SpeechModel
from asr.training import train
from asr.training.module import SpeechModule


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_beeps(tmp_path_factory.mktemp("beeps"))


AVERAGING = ("trainer.average_epochs=0.5", "trainer.batch_s=6", "model.cnn.norm=batch", "corpus.dev=[]")


def test_the_package_holds_the_moving_average(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The average is computed once more, in float64, from the weights after each step."""
    trail: list[dict[str, torch.Tensor]] = []
    original = SpeechModule.optimizer_step

    def step(self: SpeechModule, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        trail.append({name: tensor.double() for name, tensor in self.model.state_dict().items()})

    monkeypatch.setattr(SpeechModule, "optimizer_step", step)
    config = small_config(corpus, tmp_path / "run", *AVERAGING)
    assert train(config) == 0
    keep = 1 - 1 / (0.5 * len(trail) / 2)
    average = trail[0]
    for n_before, newest in enumerate(trail[1:], start=1):
        kept = min(keep, n_before / (n_before + 9))
        average = {name: kept * tensor + (1 - kept) * newest[name] for name, tensor in average.items()}
    packaged = load_file(tmp_path / "run" / "package" / "model.safetensors")
    assert any("running_var" in name for name in packaged)
    for name, tensor in packaged.items():
        torch.testing.assert_close(tensor.double(), average[name], rtol=1e-4, atol=1e-5)
    last = weights(config)
    assert not torch.allclose(packaged["acoustic.head.0.weight"], last["model.acoustic.head.0.weight"], atol=1e-4)


def test_averaging_leaves_the_training_as_it_is(corpus: Path, tmp_path: Path) -> None:
    plain, averaged = (
        small_config(corpus, tmp_path / name, *AVERAGING, f"trainer.average_epochs={epochs}")
        for name, epochs in (("plain", 0), ("averaged", 3))
    )
    assert train(plain) == train(averaged) == 0
    state = {name: tensor for name, tensor in weights(averaged).items() if not name.startswith("average.")}
    assert_equal_weights(weights(plain), state)


def test_validation_is_of_the_average(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    original = SpeechModel.forward

    def forward(self: SpeechModel, *args: Any) -> Any:
        asked.append((self.training, next(self.parameters()).requires_grad))
        return original(self, *args)

    monkeypatch.setattr(SpeechModel, "forward", forward)
    assert train(small_config(corpus, tmp_path / "run", "trainer.average_epochs=1", "trainer.epochs=1")) == 0
    assert set(asked) == {(False, False)}


@pytest.mark.parametrize(("before", "after"), [(0, 1), (1, 0)])
def test_a_run_may_begin_or_cease_to_average(corpus: Path, tmp_path: Path, before: int, after: int) -> None:
    def run(epochs: int, average_epochs: int) -> dict[str, torch.Tensor]:
        config = small_config(
            corpus, tmp_path / "run", *AVERAGING, f"trainer.average_epochs={average_epochs}", f"trainer.epochs={epochs}"
        )
        assert train(config) == 0
        return weights(config)

    run(1, before)
    state = run(2, after)
    assert any(name.startswith("average.") for name in state) == bool(after)
    if after:
        assert not torch.equal(state["average.acoustic.head.0.weight"], state["model.acoustic.head.0.weight"])


def test_corpus_statistics_are_part_of_the_average(corpus: Path, tmp_path: Path) -> None:
    config = small_config(corpus, tmp_path / "run", *AVERAGING, "frontend.normalisation=corpus", "trainer.epochs=1")
    assert train(config) == 0
    packaged, last = load_file(tmp_path / "run" / "package" / "model.safetensors"), weights(config)
    for name in ("frontend.mean", "frontend.std"):
        torch.testing.assert_close(packaged[name], last[f"model.{name}"])


def test_the_average_does_not_count_as_parameters(corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def announced(name: str, *overrides: str) -> str:
        with caplog.at_level(logging.INFO, "asr"):
            assert train(small_config(corpus, tmp_path / name, "trainer.epochs=1", *overrides)) == 0
        return next(line.split()[0] for line in caplog.messages if " parameters, " in line)

    plain = announced("plain")
    caplog.clear()
    assert announced("averaged", "trainer.average_epochs=2") == plain
