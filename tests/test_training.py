"""Training on a corpus of beeps: it learns, never augments validation, and refuses what it cannot train on."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import soundfile
import torch
import yaml
from beeps import LEARNING, assert_equal_weights, small_config, weights, write_beeps, write_corpus
from safetensors.torch import load_file

from asr.config import EngineConfig, OptimConfig
from asr.ctc import ctc_loss
from asr.data.augment import SpecAugment
from asr.data.batches import longest_batch
from asr.data.manifest import read_manifest
from asr.engine.run import choose_precision
from asr.errors import ConfigError, DataError
from asr.model.norm import LockedDropout
from asr.text import build_tokenizer
from asr.training import train
from asr.training.module import SpeechModule
from asr.training.schedule import build_optimizer, learning_rate_factor


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_beeps(tmp_path_factory.mktemp("beeps"))


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
        "previous.ckpt",
        "result.json",
        "tensorboard",
        "train.log",
    }
    assert "x real time" in (folder / "train.log").read_text()
    best = min(
        float(line.split("dev WER ")[1].split("%")[0]) for line in caplog.messages if "dev WER" in line and "train loss" in line
    )
    assert best == pytest.approx(100 * facts["dev_wer"]["rate"], abs=0.01)


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
    (tmp_path / "run" / "last.ckpt").unlink()  # begun anew, with other utterances
    assert train(small_config(corpus, tmp_path / "run", "trainer.epochs=1")) == 0
    assert not (tmp_path / "run" / "left-out.jsonl").exists()


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
        name: str = choose_precision(EngineConfig(precision=precision, accelerator="cpu"), "trainer")
        return name

    assert chosen("auto", "avx2") == "32-true"
    assert chosen("auto", "avx2", "avx512_bf16") == "bf16-mixed"
    assert chosen("float32", "avx512_bf16") == "32-true"
    with pytest.raises(ConfigError, match="no instructions"):
        chosen("bfloat16", "avx2")
    with pytest.raises(ConfigError, match="needs a GPU"):
        chosen("float16", "avx512_bf16")


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
