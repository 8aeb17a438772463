"""Training that is stopped, killed or runs out of disk: it repeats exactly, and goes on where it was."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from beeps import assert_equal_weights, small_config, weights, write_beeps
from lightning.pytorch import Trainer
from safetensors.torch import load_file

from asr.config import Config
from asr.config_mapping import to_yaml
from asr.data.batch import Batch
from asr.errors import ConfigError, Failure, StorageError, TrainingDiverged
from asr.files import locked
from asr.text import build_tokenizer
from asr.training import train
from asr.training.module import SpeechModule


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_beeps(tmp_path_factory.mktemp("beeps"))


@pytest.fixture
def config(corpus: Path, tmp_path: Path) -> Config:
    return small_config(corpus, tmp_path / "run")


def test_two_runs_give_the_same_weights_and_another_seed_does_not(corpus: Path, tmp_path: Path) -> None:
    runs = [
        small_config(corpus, tmp_path / "one"),
        small_config(corpus, tmp_path / "two"),
        small_config(corpus, tmp_path / "three", "seed=2"),
    ]
    for run in runs:
        assert train(run) == 0
    one, two, three = map(weights, runs)
    assert_equal_weights(one, two)
    assert not torch.equal(one["model.acoustic.head.0.weight"], three["model.acoustic.head.0.weight"])


@pytest.mark.parametrize(
    ("stop_step", "overrides"),
    [
        (2, []),
        (7, []),
        (7, ["trainer.average_epochs=0.5", "augment=robust", "augment.mp3_kbps=[]", "model.cnn.norm=batch"]),
        (27, ["trainer.epochs=3", "trainer.workers=2", "augment.speed=[0.9,1.1]"]),
    ],
    ids=["early", "late", "averaged and augmented", "third epoch, with workers"],
)
def test_a_stopped_run_resumes_to_the_same_weights(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_step: int, overrides: list[str]
) -> None:
    """Stopped in the middle of an epoch by a signal, as by Ctrl-C, then run again with the same command."""
    whole = small_config(corpus, tmp_path / "whole", "trainer.batch_s=6", *overrides)
    assert train(whole) == 0
    stopped = small_config(corpus, tmp_path / "stopped", "trainer.batch_s=6", *overrides)
    original = SpeechModule.training_step

    def step(self: SpeechModule, batch: Any, batch_idx: int) -> torch.Tensor:
        if self.global_step == stop_step - 1:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, batch, batch_idx)

    monkeypatch.setattr(SpeechModule, "training_step", step)
    assert train(stopped) == 130
    monkeypatch.undo()
    assert not list((tmp_path / "stopped").glob("*-part"))
    assert train(stopped) == 0
    assert_equal_weights(weights(whole), weights(stopped))
    assert_equal_weights(*(load_file(tmp_path / run / "package" / "model.safetensors") for run in ("whole", "stopped")))


def test_what_masks_and_dropout_draw_follows_from_the_place_in_the_run(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was drawn before: a resumed process, the second of two as well, draws what it would have drawn."""
    module = SpeechModule(config, build_tokenizer(config.tokens), total_steps=10)

    def drawn(epoch: int, batch_idx: int, rank: int) -> float:
        place = {"current_epoch": epoch, "global_rank": rank, "global_step": 1}
        for name, value in place.items():
            monkeypatch.setattr(SpeechModule, name, value)
        torch.rand(3)
        module.on_train_batch_start(cast("Batch", None), batch_idx)
        return torch.rand(()).item()

    places = list(itertools.product(range(2), range(3), range(2)))
    numbers = [drawn(*place) for place in places]
    assert len(set(numbers)) == len(places)
    assert [drawn(*place) for place in reversed(places)] == numbers[::-1]


def test_the_signal_may_come_twice(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once from outside and once from the sweep that has it as well: the run still saves and ends."""
    calls = itertools.count()

    def decide(trainer: Any, flag: bool) -> bool:
        if next(calls) == 1:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)
        return flag

    monkeypatch.setattr("asr.engine.saving.any_process", decide)
    assert train(config) == 130


def test_a_second_process_does_not_train_in_the_same_folder(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asr.files.PATIENCE_S", 0.2)
    folder = Path(config.output)
    with locked(folder / "train.log"), pytest.raises(ConfigError, match="another process is training there"):
        train(config)
    assert not (folder / "last.ckpt").exists()
    with locked(folder / "train.log"):  # it was released
        pass


def test_a_complete_run_is_not_trained_again(config: Config) -> None:
    assert train(config) == 0
    before = weights(config)
    assert train(config) == 0
    assert_equal_weights(before, weights(config))


def test_divergence_names_the_batch_and_keeps_the_checkpoint(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    assert train(config) == 0
    good = weights(config)
    monkeypatch.setattr("asr.training.module.ctc_loss", lambda *args, **kwargs: torch.tensor(float("nan"), requires_grad=True))
    with pytest.raises(TrainingDiverged, match=r"loss is nan in epoch 3, batch 1, utterances .*train-0"):
        train(replace(config, trainer=replace(config.trainer, epochs=3)))
    assert_equal_weights(good, weights(config))


def test_a_full_disk_keeps_the_checkpoint_before(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    assert train(config) == 0
    good = weights(config)

    def full(content: Any, stream: Any) -> None:
        stream.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(StorageError, match=r"last\.ckpt.*No space left"):
        train(replace(config, trainer=replace(config.trainer, epochs=3)))
    assert_equal_weights(good, weights(config))
    assert not list(Path(config.output).glob("*-part"))


def test_a_run_stopped_in_the_last_batch_of_an_epoch_ends_that_epoch_first(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config(corpus, tmp_path / "run", "trainer.batch_s=1000")
    original = SpeechModule.training_step

    def step(self: SpeechModule, batch: Any, batch_idx: int) -> torch.Tensor:
        monkeypatch.setattr(SpeechModule, "training_step", original)
        os.kill(os.getpid(), signal.SIGINT)
        return original(self, batch, batch_idx)

    def every_batch_is_the_last(self: Trainer) -> bool:
        return True

    monkeypatch.setattr(SpeechModule, "training_step", step)
    monkeypatch.setattr(Trainer, "is_last_batch", property(every_batch_is_the_last))
    assert train(config) == 130
    assert (tmp_path / "run" / "package").is_dir(), "the epoch was not validated"
    assert torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["SpeechData"]["batches_done"] == 0


def group_lives(number: int) -> bool:
    try:
        os.killpg(number, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(
    ("overrides", "to_group"),
    [(["trainer.workers=2"], True), pytest.param(["trainer.devices=2", "trainer.workers=1"], False, marks=pytest.mark.slow)],
    ids=["one process and its workers", "two processes"],
)
def test_processes_stop_together(corpus: Path, tmp_path: Path, overrides: list[str], to_group: bool) -> None:
    """SIGTERM to the group, as by a scheduler, or to the main process alone: all is saved, and nothing is left behind."""
    config = small_config(corpus, tmp_path / "run", "trainer.epochs=5000", *overrides)
    settings = tmp_path / "settings.yaml"
    settings.write_text(to_yaml(config))
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, yaml\nfrom asr.config_mapping import from_mapping\nfrom asr.training import train\n"
        f"sys.exit(train(from_mapping(yaml.safe_load(open({str(settings)!r})))))\n"
    )
    with open(tmp_path / "log", "w") as log:
        process = subprocess.Popen([sys.executable, str(script)], stdout=log, stderr=log, start_new_session=True)
    deadline = time.monotonic() + 120
    while not (tmp_path / "run" / "last.ckpt").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    if to_group:
        os.killpg(process.pid, signal.SIGTERM)
    else:
        process.terminate()
    try:
        code = process.wait(60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    text = (tmp_path / "log").read_text()
    assert code == 130, text
    assert "Traceback" not in text
    deadline = time.monotonic() + 20
    while group_lives(process.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not group_lives(process.pid)


def test_a_lost_worker_is_named(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    original = SpeechModule.training_step

    def step(self: SpeechModule, batch: Any, batch_idx: int) -> torch.Tensor:
        for process in multiprocessing.active_children():
            process.kill()
        time.sleep(0.2)
        return original(self, batch, batch_idx)

    monkeypatch.setattr(SpeechModule, "training_step", step)
    with pytest.raises(Failure, match=r"process that reads audio was lost .*worker.*trainer\.workers"):
        train(replace(config, trainer=replace(config.trainer, workers=1)))
    assert not multiprocessing.active_children()


def test_a_request_to_stop_is_not_lost_while_the_processes_decide(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = itertools.count()

    def decide(trainer: Any, flag: bool) -> bool:
        if next(calls) == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return flag

    monkeypatch.setattr("asr.engine.saving.any_process", decide)
    assert train(config) == 130
