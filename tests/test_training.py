"""Training on a corpus of beeps: it learns, repeats exactly, resumes, survives mishaps, and never augments validation."""

from __future__ import annotations

import itertools
import json
import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import yaml
from lightning.pytorch import Trainer
from safetensors.torch import load_file

from asr.compose import compose
from asr.config import Config, OptimConfig
from asr.config_mapping import to_yaml
from asr.ctc import ctc_loss
from asr.data.augment import SpecAugment
from asr.data.batches import longest_batch
from asr.data.lock import locked
from asr.data.manifest import read_manifest
from asr.errors import ConfigError, DataError, StorageError, TrainingDiverged
from asr.model.acoustic import SpeechModel
from asr.model.norm import LockedDropout
from asr.text import build_tokenizer
from asr.training import train
from asr.training.module import SpeechModule
from asr.training.run import choose_precision
from asr.training.schedule import build_optimizer, learning_rate_factor

SAMPLE_RATE = 8000
LEARNING = (
    "trainer.epochs=25",
    "trainer.batch_s=6",
    "augment=none",
    "model.cnn.norm=batch",
    "model.cnn.dropout=0",
    "model.recurrent.norm=batch",
    "model.recurrent.dropout=0",
    "model.head.dropout=0",
)
TONES_HZ = {"a": 500, "b": 1000, "c": 1700, " ": 0}


def beep(text: str, seed: int) -> np.ndarray:
    """Each letter is a tone of 0.15 s, a space is silence."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(int(0.15 * SAMPLE_RATE)) / SAMPLE_RATE
    gap = np.zeros(int(0.05 * SAMPLE_RATE))
    parts = [part for letter in text for part in (0.3 * np.sin(2 * np.pi * TONES_HZ[letter] * time_s), gap)]
    waveform = np.concatenate(parts)
    return (waveform + 0.005 * rng.standard_normal(len(waveform))).astype(np.float32)


def write_corpus(folder: Path, name: str, texts: list[str]) -> None:
    """Write audio and manifest, without the preparation that has tests of its own."""
    lines = []
    (folder / "audio").mkdir(parents=True, exist_ok=True)
    for i, text in enumerate(texts):
        path = folder / "audio" / f"{name}-{i:03}.wav"
        waveform = beep(text, seed=i)
        soundfile.write(path, waveform, SAMPLE_RATE)
        recording = {
            "id": path.stem,
            "sources": [{"type": "file", "channels": [0], "source": str(path)}],
            "sampling_rate": SAMPLE_RATE,
            "num_samples": len(waveform),
            "duration": len(waveform) / SAMPLE_RATE,
            "channel_ids": [0],
        }
        supervision = {
            "id": path.stem,
            "recording_id": path.stem,
            "start": 0.0,
            "duration": recording["duration"],
            "channel": 0,
            "text": text,
        }
        cut = {"id": path.stem, "start": 0.0, "duration": recording["duration"], "channel": 0, "type": "MonoCut"}
        lines.append(json.dumps({**cut, "supervisions": [supervision], "recording": recording}))
    (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("beeps")
    rng = np.random.default_rng(7)

    def text() -> str:
        return " ".join("".join(rng.choice(list("abc"), rng.integers(1, 4))) for _ in range(rng.integers(1, 4)))

    write_corpus(folder, "train", [text() for _ in range(48)])
    write_corpus(folder, "dev", [text() for _ in range(8)])
    return folder


@pytest.fixture
def config(corpus: Path, tmp_path: Path) -> Config:
    return small_config(corpus, tmp_path / "run")


def small_overrides(corpus: Path) -> list[str]:
    return [
        "tokens.alphabet=' abc'",
        f"corpus.train=[{corpus}/train.jsonl]",
        f"corpus.dev=[{corpus}/dev.jsonl]",
        "frontend.sample_rate=8000",
        "frontend.n_mels=20",
        "augment.time_masks=1",
        "augment.time_mask_s=0.05",
        "model.cnn.channels=[8]",
        "model.cnn.time_kernels=[3]",
        "model.cnn.frequency_kernels=[3]",
        "model.cnn.time_strides=[3]",
        "model.cnn.frequency_strides=[2]",
        "model.recurrent.layers=1",
        "model.recurrent.hidden_size=24",
        "optim.lr=0.02",
        "trainer.epochs=2",
        "trainer.batch_s=12",
        "trainer.accelerator=cpu",
        "trainer.precision=float32",
        "trainer.threads=1",
        "trainer.progress=plain",
    ]


def small_config(corpus: Path, output: Path, *overrides: str) -> Config:
    return compose([*small_overrides(corpus), f"output={output}", *overrides])


def weights(config: Config) -> dict[str, torch.Tensor]:
    """The model's weights in the run's last checkpoint."""
    checkpoint: dict[str, Any] = torch.load(Path(config.output) / "last.ckpt", weights_only=True)
    state: dict[str, torch.Tensor] = checkpoint["state_dict"]
    return state


def assert_equal_weights(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name, tensor in a.items():
        assert torch.equal(tensor, b[name]), name


def test_learns_and_writes_a_package(corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = small_config(corpus, tmp_path / "run", *LEARNING)
    with caplog.at_level(logging.INFO, "asr"):
        assert train(config) == 0
    folder = tmp_path / "run"
    facts = yaml.safe_load((folder / "package" / "config.yaml").read_text())["training"]
    assert facts["dev_wer"]["rate"] < 0.2
    assert {path.name for path in folder.iterdir()} == {
        "config.yaml",
        "last.ckpt",
        "package",
        "result.json",
        "tensorboard",
        "train.log",
    }
    assert "x real time" in (folder / "train.log").read_text()
    best = min(
        float(line.split("dev WER ")[1].split("%")[0]) for line in caplog.messages if "dev WER" in line and "train loss" in line
    )
    assert best == pytest.approx(100 * facts["dev_wer"]["rate"], abs=0.01)


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
    [(2, []), (7, []), (7, ["trainer.average_epochs=0.5", "augment=robust", "augment.mp3_kbps=[]", "model.cnn.norm=batch"])],
    ids=["early", "late", "averaged and augmented"],
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
    assert not (tmp_path / "stopped" / "last.part").exists()
    assert train(stopped) == 0
    assert_equal_weights(weights(whole), weights(stopped))
    assert_equal_weights(*(load_file(tmp_path / run / "package" / "model.safetensors") for run in ("whole", "stopped")))


def test_killed_run_resumes_and_ends(corpus: Path, tmp_path: Path) -> None:
    """Kill -9 leaves the checkpoint of the last epoch; the same command goes on from it to the end."""
    config = small_config(corpus, tmp_path / "run", "trainer.epochs=40")
    settings = tmp_path / "settings.yaml"
    settings.write_text(to_yaml(config))
    code = (
        "import sys, yaml; from asr.config_mapping import from_mapping; from asr.training import train; "
        f"sys.exit(train(from_mapping(yaml.safe_load(open({str(settings)!r})))))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    checkpoint = tmp_path / "run" / "last.ckpt"
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    assert process.wait() == -signal.SIGKILL, process.stderr.read().decode() if process.stderr else ""
    epoch = torch.load(checkpoint, weights_only=True)["epoch"]
    assert 0 <= epoch < 39
    assert train(replace(config, trainer=replace(config.trainer, epochs=epoch + 3))) == 0
    assert torch.load(checkpoint, weights_only=True)["epoch"] == epoch + 2


def test_a_second_process_does_not_train_in_the_same_folder(config: Config) -> None:
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


def test_validation_is_never_augmented(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Validation sees the recordings as they are, however strong the augmentation of training is."""
    config = small_config(
        corpus,
        tmp_path / "run",
        "augment.speed=[0.5,2.0]",
        "augment.time_masks=50",
        "augment.frequency_masks=50",
        "augment.room_fraction=1",
        "augment.noise=[white,babble]",
        "augment.noise_fraction=1",
        "augment.volume_fraction=1",
        "augment.telephone_fraction=1",
        "augment.mp3_kbps=[16]",
        "augment.mp3_fraction=1",
        "trainer.epochs=1",
    )
    masked: list[bool] = []
    seen: dict[str, int] = {}
    original_mask, original_step = SpecAugment.forward, SpeechModule.validation_step

    def mask(self: SpecAugment, features: torch.Tensor, n_frames: torch.Tensor) -> torch.Tensor:
        masked.append(self.training)
        return original_mask(self, features, n_frames)

    def step(self: SpeechModule, batch: Any, batch_idx: int) -> None:
        before = len(masked)
        for utterance, waveform, n in zip(batch.ids, batch.waveforms, batch.n_samples.tolist(), strict=True):
            expected, _ = soundfile.read(corpus / "audio" / f"{utterance}.wav", dtype="float32")
            torch.testing.assert_close(waveform[:n], torch.from_numpy(expected), atol=1e-4, rtol=0)
            seen[utterance] = seen.get(utterance, 0) + 1
        original_step(self, batch, batch_idx)
        assert len(masked) == before

    monkeypatch.setattr(SpecAugment, "forward", mask)
    monkeypatch.setattr(SpeechModule, "validation_step", step)
    assert train(config) == 0
    assert masked
    assert all(masked)
    assert seen == {f"dev-{i:03}": 1 for i in range(8)}


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

    def full(self: Any, path: Path, *args: Any, **kwargs: Any) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Trainer, "save_checkpoint", full)
    with pytest.raises(StorageError, match=r"last\.ckpt.*No space left"):
        train(replace(config, trainer=replace(config.trainer, epochs=3)))
    assert_equal_weights(good, weights(config))
    assert not list(Path(config.output).glob("*.part"))


def test_utterances_that_cannot_be_trained_on_are_named(corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_corpus(tmp_path, "odd", ["abc", "aab", "b" * 30, "a"])
    lines = (tmp_path / "odd.jsonl").read_text().splitlines()
    item = json.loads(lines[0])
    item["supervisions"][0]["text"] = "abcabcabcabcabc" * 3  # more labels than 0.6 s have frames
    lines[0] = json.dumps(item)
    (tmp_path / "odd.jsonl").write_text("\n".join(lines) + "\n")
    config = small_config(
        corpus, tmp_path / "run", f"corpus.train=[{tmp_path}/odd.jsonl]", "trainer.max_duration_s=3", "trainer.epochs=1"
    )
    with caplog.at_level(logging.INFO, "asr"):
        assert train(config) == 0
    text = "\n".join(caplog.messages)
    assert "2 of 4 training utterances are left out (1 transcript too long for the audio, 1 too long)" in text
    assert "odd-000: transcript too long for the audio: 45 tokens need 45 output frames" in text
    report = [json.loads(line) for line in (tmp_path / "run" / "left-out.jsonl").read_text().splitlines()]
    assert [item["id"] for item in report] == ["odd-000", "odd-002"]


def test_utterances_that_cannot_be_fitted_are_no_part_of_the_loss_on_dev(
    corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_corpus(tmp_path, "odd", ["abc", "aab"])
    first, second = (json.loads(line) for line in (tmp_path / "odd.jsonl").read_text().splitlines())
    first["supervisions"][0]["text"] = "abcabcabcabcabc" * 3
    for name, items in (("some", [first, second]), ("all", [first])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
        caplog.clear()
        config = small_config(corpus, tmp_path / name, f"corpus.dev=[{tmp_path}/{name}.jsonl]", "trainer.epochs=1")
        with caplog.at_level(logging.INFO, "asr"):
            assert train(config) == 0
        assert f"1 of {len(items)} utterances of corpus.dev are not part of dev/loss:" in caplog.messages
        assert any(message.startswith("  odd-000: 45 tokens need 45 output frames") for message in caplog.messages)
        (epoch,) = [message for message in caplog.messages if "dev loss" in message]
        assert "inf" not in epoch


def test_unknown_characters_are_refused_before_training(corpus: Path, tmp_path: Path) -> None:
    config = small_config(corpus, tmp_path / "run", "tokens.alphabet=' ab'")
    with pytest.raises(DataError, match=r"(?s)corpus\.train: \d+ of 48 transcripts cannot be written .*train-0\d\d.*'c'"):
        train(config)
    assert not (tmp_path / "run" / "last.ckpt").exists()


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


def test_the_last_epoch_is_validated_whatever_the_interval(corpus: Path, tmp_path: Path) -> None:
    assert train(small_config(corpus, tmp_path / "run", "trainer.epochs=1", "trainer.validate_every=3")) == 0
    assert (tmp_path / "run" / "package" / "model.safetensors").is_file()


def test_the_memory_trial_leaves_the_model_as_it_was(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = SpeechModule.try_memory

    def trial(self: SpeechModule, batch: Any) -> None:
        before = {name: tensor.clone() for name, tensor in self.state_dict().items()}
        original(self, batch)
        assert_equal_weights(before, dict(self.state_dict()))

    monkeypatch.setattr(SpeechModule, "try_memory", trial)
    norms = ("model.cnn.norm=batch", "model.recurrent.norm=batch")
    assert train(small_config(corpus, tmp_path / "run", "trainer.epochs=1", *norms)) == 0


def test_what_cannot_be_resumed_is_said(corpus: Path, tmp_path: Path) -> None:
    assert train(small_config(corpus, tmp_path / "run")) == 0
    with pytest.raises(ConfigError, match="has begun 2"):
        train(small_config(corpus, tmp_path / "run", "trainer.epochs=1"))
    with pytest.raises(ConfigError, match="another optim"):
        train(small_config(corpus, tmp_path / "run", "optim.intermediate_ctc=0.3"))
    (tmp_path / "run" / "last.ckpt").write_bytes(b"PK no checkpoint")
    with pytest.raises(DataError, match="cannot be read as a checkpoint"):
        train(small_config(corpus, tmp_path / "run"))


@pytest.mark.slow
def test_two_processes_stop_together(corpus: Path, tmp_path: Path) -> None:
    """SIGTERM to the main process alone: both save and end, and nothing is left behind."""
    overrides = yaml.safe_load(to_yaml(small_config(corpus, tmp_path / "run", "trainer.epochs=5000", "trainer.devices=2")))
    settings = tmp_path / "settings.yaml"
    settings.write_text(yaml.safe_dump(overrides))
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
    process.terminate()
    try:
        code = process.wait(60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    text = (tmp_path / "log").read_text()
    assert code == 130, text
    assert "Traceback" not in text
    time.sleep(3)
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def test_a_request_to_stop_is_not_lost_while_the_processes_decide(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = itertools.count()

    def decide(trainer: Any, flag: bool) -> bool:
        if next(calls) == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return flag

    monkeypatch.setattr("asr.training.checkpoints.any_process", decide)
    assert train(config) == 130


def test_another_model_cannot_resume_the_run(corpus: Path, tmp_path: Path) -> None:
    assert train(small_config(corpus, tmp_path / "run", "trainer.epochs=1")) == 0
    with pytest.raises(ConfigError, match="holds a run with another model"):
        train(small_config(corpus, tmp_path / "run", "model.recurrent.hidden_size=32"))
    with pytest.raises(ConfigError, match="resume=false"):
        train(small_config(corpus, tmp_path / "run", "resume=false"))


def test_empty_or_absent_manifests_are_refused(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"corpus\.train is empty"):
        train(small_config(corpus, tmp_path / "run", "corpus.train=[]"))
    with pytest.raises(DataError, match="nowhere"):
        train(small_config(corpus, tmp_path / "run", "corpus.train=[nowhere]"))
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(DataError, match="empty"):
        train(small_config(corpus, tmp_path / "run", f"corpus.train=[{tmp_path}/empty.jsonl]"))


def test_without_a_development_set_the_last_weights_are_packaged(corpus: Path, tmp_path: Path) -> None:
    config = small_config(corpus, tmp_path / "run", "corpus.dev=[]", "trainer.epochs=1")
    assert train(config) == 0
    packaged = load_file(tmp_path / "run" / "package" / "model.safetensors")
    last = weights(config)
    for name, tensor in packaged.items():
        assert torch.equal(tensor, last[f"model.{name}"])


def test_corpus_statistics_are_computed_and_kept(corpus: Path, tmp_path: Path) -> None:
    config = small_config(corpus, tmp_path / "run", "frontend.normalisation=corpus", "trainer.epochs=1")
    assert train(config) == 0
    state = load_file(tmp_path / "run" / "package" / "model.safetensors")
    assert state["frontend.mean"].abs().max() > 1
    assert not torch.equal(state["frontend.std"], torch.ones(20))


def test_schedule() -> None:
    cosine = OptimConfig(schedule="cosine", warmup_fraction=0.1, final_fraction=0.2)
    assert [round(learning_rate_factor(step, 100, cosine), 4) for step in (0, 4, 9, 10, 55, 100, 200)] == [
        0.1, 0.5, 1.0, 1.0, 0.6, 0.2, 0.2,
    ]  # fmt: skip
    constant = OptimConfig(schedule="constant", warmup_fraction=0.0)
    assert {learning_rate_factor(step, 10, constant) for step in range(12)} == {1.0}


def test_only_matrices_decay() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LayerNorm(2))
    decayed, spared = build_optimizer(module, OptimConfig(weight_decay=0.3)).param_groups
    assert [p.ndim for p in decayed["params"]] == [2]
    assert decayed["weight_decay"] == 0.3
    assert len(spared["params"]) == 3
    assert spared["weight_decay"] == 0.0


def test_the_corpus_of_this_file_is_read_back(corpus: Path) -> None:
    assert len(read_manifest([str(corpus / "train.jsonl")], corpus)) == 48


def test_the_intermediate_loss_is_that_of_the_layer_half_way_up(corpus: Path, tmp_path: Path) -> None:
    config = small_config(corpus, tmp_path, "model.recurrent.layers=2", "optim.intermediate_ctc=0.25")
    module = SpeechModule(config, build_tokenizer(config.tokens), total_steps=1).eval()
    batch = longest_batch(read_manifest(config.corpus.train, corpus), config)
    targets = module.encode(batch)
    with torch.no_grad():
        hidden, n_out = module.model.acoustic.hidden(*module.model.features(batch.waveforms, batch.n_samples))
        assert module.intermediate is not None
        first, last = (
            ctc_loss(head(layer).log_softmax(2), n_out, targets)
            for head, layer in ((module.intermediate, hidden[0]), (module.model.acoustic.head, hidden[1]))
        )
        assert float(first) != pytest.approx(float(last), rel=1e-3)
        assert float(module.training_loss(batch)) == pytest.approx(0.75 * float(last) + 0.25 * float(first), rel=1e-5)


def test_two_views_agree_where_nothing_is_masked_and_draw_together_where_it_is(corpus: Path, tmp_path: Path) -> None:
    def module_of(weight: float) -> SpeechModule:
        config = small_config(corpus, tmp_path, f"optim.consistency={weight}", "augment.time_masks=4")
        torch.manual_seed(1)
        return SpeechModule(config, build_tokenizer(config.tokens), total_steps=1)

    plain, consistent, heavy = map(module_of, (0.0, 0.05, 5.0))
    batch = longest_batch(read_manifest(plain.config.corpus.train, corpus), plain.config)

    def loss(module: SpeechModule) -> float:
        torch.manual_seed(2)
        return module.training_loss(batch).item()

    assert loss(consistent.eval()) == pytest.approx(loss(plain.eval()), rel=1e-5)
    without, once, hundredfold = (loss(module.train()) for module in (module_of(1e-9), consistent, heavy))
    assert once > without
    assert (hundredfold - without) == pytest.approx(100 * (once - without), rel=1e-2)
    assert train(small_config(corpus, tmp_path / "run", "optim.consistency=0.2")) == 0


def test_masks_and_dropout_grow_over_the_first_steps(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    strengths = []
    original = SpeechModule.training_loss

    def loss(self: SpeechModule, batch: Any) -> torch.Tensor:
        regularised = [module for module in self.modules() if isinstance(module, SpecAugment | LockedDropout)]
        strengths.append({module.strength for module in regularised})
        return original(self, batch)

    monkeypatch.setattr(SpeechModule, "training_loss", loss)
    assert train(small_config(corpus, tmp_path / "run", "augment.ramp_fraction=0.5")) == 0
    trial, *steps = strengths
    n_steps = len(steps)
    assert trial == {1.0}  # the most that memory has to hold
    assert [min(step) for step in steps] == pytest.approx([min(1.0, i / (0.5 * n_steps)) for i in range(n_steps)])
    assert all(len(step) == 1 for step in steps)


def test_automatic_precision_is_bfloat16_where_the_processor_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def chosen(precision: str, *capabilities: str) -> str:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(capabilities, True))
        name: str = choose_precision(compose([f"trainer.precision={precision}", "trainer.accelerator=cpu"]))
        return name

    assert chosen("auto", "avx2") == "32-true"
    assert chosen("auto", "avx2", "avx512_bf16") == "bf16-mixed"
    assert chosen("float32", "avx512_bf16") == "32-true"
    with pytest.raises(ConfigError, match="no instructions"):
        chosen("bfloat16", "avx2")
    with pytest.raises(ConfigError, match="needs a GPU"):
        chosen("float16", "avx512_bf16")


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


def test_gradients_are_clipped_by_norm_and_by_value(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small_config(corpus, tmp_path / "run", "optim.clip_norm=2", "optim.clip_value=0.5")
    module = SpeechModule(config, build_tokenizer(config.tokens), total_steps=1)
    logged: dict[str, float] = {}
    monkeypatch.setattr(module, "log", lambda name, value: logged.update({name: float(value)}))
    parameters = list(module.parameters())
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    first, second = parameters[0].grad.flatten(), parameters[1].grad.flatten()  # type: ignore[union-attr]
    first[0], second[0] = 3.0, -4.0
    module.configure_gradient_clipping(SimpleNamespace(param_groups=[{"lr": 0.1}]))
    assert logged["train/gradient_norm"] == pytest.approx(5.0)  # before clipping
    assert (float(first[0]), float(second[0])) == (0.5, -0.5)  # 3 and -4, scaled to 1.2 and -1.6, then cut
    first[0], second[0] = 0.9, -1.2
    module.configure_gradient_clipping(SimpleNamespace(param_groups=[{"lr": 0.1}]))
    assert (float(first[0]), float(second[0])) == (0.5, -0.5)
    module.config = replace(config, optim=replace(config.optim, clip_value=0.0))
    first[0], second[0] = 3.0, -4.0
    module.configure_gradient_clipping(SimpleNamespace(param_groups=[{"lr": 0.1}]))
    assert [float(first[0]), float(second[0])] == pytest.approx([1.2, -1.6])


def test_watching_the_gradients_changes_nothing(corpus: Path, tmp_path: Path) -> None:
    plain, watched = (small_config(corpus, tmp_path / str(on), f"trainer.gradient_flow={on}") for on in (False, True))
    assert train(plain) == train(watched) == 0
    assert_equal_weights(weights(plain), weights(watched))
    rows = [json.loads(line) for line in (Path(watched.output) / "gradient-flow.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2]
    assert set(rows[0]["layers"]) == {"convolution 1", "recurrent 1", "head"}
    assert (Path(watched.output) / "gradient-flow.svg").exists()
    assert not (Path(plain.output) / "gradient-flow.jsonl").exists()
