"""Training with CTC-CRF: the loss it has, when it begins, what is best by it, and that a stopped run goes on exactly."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import yaml
from beeps import LEARNING, assert_equal_weights, small_config, small_overrides, weights, write_beeps
from safetensors.torch import load_file

from asr.crf import CtcCrf, denominator, estimate_ngram, log_probability
from asr.ctc import ctc_loss
from asr.data.batches import longest_batch
from asr.data.manifest import read_manifest, transcript
from asr.engine.data import TrainingData
from asr.engine.saving import Checkpoints, Package
from asr.errors import ConfigError, DataError
from asr.text import build_tokenizer
from asr.training import train
from asr.training.denominator import prepare_denominator
from asr.training.module import SpeechModule

CRF = ("optim.loss=ctc_crf", "optim.crf_order=2")
EVERYTHING = (
    *CRF,
    "model.recurrent.layers=2",
    "optim.intermediate_ctc=0.3",
    "optim.consistency=0.2",
    "trainer.average_epochs=0.5",
    "trainer.batch_s=6",
    "optim.crf_after_fraction=0.5",
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_beeps(tmp_path_factory.mktemp("beeps"))


def test_training_loss_is_that_of_the_field(corpus: Path, tmp_path: Path) -> None:
    config = small_config(corpus, tmp_path, *CRF, "optim.crf_ctc_weight=0.3")
    module = SpeechModule(config, build_tokenizer(config.tokens), total_steps=4).eval()
    assert module.crf is not None
    cuts = read_manifest(config.corpus.train, corpus)
    ngram = estimate_ngram([module.tokenizer.encode(transcript(cut)) for cut in cuts], len(module.tokenizer), 2)
    module.crf.ngram.copy_(ngram)
    batch = longest_batch(cuts, config)
    targets = module.encode(batch)
    with torch.no_grad():
        log_probs, n_out = module.model(batch.waveforms, batch.n_samples)
        ctc = float(ctc_loss(log_probs, n_out, targets, normalise=False))
        expected = float(denominator(log_probs, n_out, ngram).sum() - log_probability(targets, ngram)) + 1.3 * ctc
        n_tokens = sum(map(len, targets))
        assert float(module.training_loss(batch)) == pytest.approx(expected / n_tokens, rel=1e-5)
        module.crf_begun = False
        assert float(module.training_loss(batch)) == pytest.approx(ctc / n_tokens, rel=1e-5)


def test_learns_and_packages_what_has_the_least_loss(corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = small_config(corpus, tmp_path / "run", *LEARNING, *CRF, "trainer.epochs=8")
    with caplog.at_level(logging.INFO, "asr"):
        assert train(config) == 0
    lines = [line for line in caplog.messages if "train loss" in line]
    losses = [float(line.split("dev loss ")[1].split(",")[0]) for line in lines]
    facts = yaml.safe_load((tmp_path / "run" / "package" / "config.yaml").read_text())["training"]
    assert losses[facts["epoch"] - 1] == min(losses) < 0.4 * losses[0], (facts["epoch"], losses)
    assert facts["dev_wer"]["rate"] < 0.4
    assert any(line.startswith("denominator: 2-gram of 5 tokens from 48 transcripts, perplexity") for line in caplog.messages)
    assert not any("crf" in name for name in load_file(tmp_path / "run" / "package" / "model.safetensors"))


def test_best_is_what_the_decoder_finds_where_it_has_a_language_model(corpus: Path, tmp_path: Path) -> None:
    def module_of(*overrides: str) -> SpeechModule:
        config = small_config(corpus, tmp_path, *overrides)
        module = SpeechModule(config, build_tokenizer(config.tokens), total_steps=4)
        module.validation.loss, module.validation.n_tokens = 6.0, 3
        module.validation.references = module.validation.hypotheses = {"one": "ab"}
        module.log_dict = module.show_samples = lambda *args, **kwargs: None  # type: ignore[assignment, method-assign]
        module._trainer = type("One", (), {"world_size": 1})()
        module.on_validation_epoch_end()
        return module

    assert module_of().merit == (0.0, 0.0)
    assert module_of(*CRF).merit == (2.0, 0.0)
    module = module_of(*CRF)
    module.config.decoding.kind = "beam_ngram"
    module.on_validation_epoch_end()
    assert module.merit == (0.0, 0.0)


def test_further_texts_are_counted_beside_the_transcripts(
    corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    further = tmp_path / "further.txt"
    further.write_text("AB, ba!\n\nabcd\ncc\n" * 600)  # "d" is no token
    config = small_config(corpus, tmp_path / "run", *CRF, f"optim.crf_text=[{further},{corpus}/dev.jsonl]")
    tokenizer = build_tokenizer(config.tokens)
    crf = CtcCrf(len(tokenizer), 2, 0.1)
    with caplog.at_level(logging.INFO, "asr"):
        prepare_denominator(crf, tokenizer, ["abc", "a"], config)
    dev = [transcript(cut) for cut in read_manifest(config.corpus.dev, corpus)]
    texts = ["abc", "a", *["ab ba", "cc"] * 600, *dev]
    expected = estimate_ngram(map(tokenizer.encode, texts), len(tokenizer), 2)
    assert torch.equal(crf.ngram, expected)
    first, second, last = caplog.messages
    assert first == f"{further}: 600 of 1,800 sentences cannot be written in the model's tokens, the others are counted"
    assert second.endswith("dev.jsonl: 8 sentences are counted")
    assert last.startswith("denominator: 2-gram of 5 tokens from 2 transcripts and further texts, perplexity")
    further.write_text("xyz\n")
    with pytest.raises(DataError, match=r"optim\.crf_text: .*further.txt: 1 of 1 sentences cannot be written"):
        prepare_denominator(crf, tokenizer, ["abc"], config)
    with pytest.raises(DataError, match="absent"):
        train(small_config(corpus, tmp_path / "run", *CRF, "optim.crf_text=[absent.txt]"))


def test_checkpoints_hold_what_was_best() -> None:
    one, two = (Checkpoints(Path(), cast("Package", None), 0.0, TrainingData(), has_dev=True) for _ in range(2))
    one.best_merit = (2.0, 0.5)
    two.load_state_dict(one.state_dict())
    assert two.best_merit == (2.0, 0.5)


def test_begins_after_a_share_of_the_steps_and_validates_by_it_at_once(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[tuple[bool, bool]] = []
    original = SpeechModule.main_loss

    def loss(self: SpeechModule, *args: Any) -> torch.Tensor:
        begun.append((torch.is_grad_enabled(), self.crf_begun))
        return original(self, *args)

    monkeypatch.setattr(SpeechModule, "main_loss", loss)
    config = small_config(corpus, tmp_path / "run", *CRF, "optim.crf_after_fraction=0.5", "trainer.batch_s=6")
    assert train(config) == 0
    trial, *steps = [crf for learning, crf in begun if learning]
    assert trial  # the most that memory has to hold
    assert steps == [i >= 0.5 * len(steps) for i in range(len(steps))]
    assert all(crf for learning, crf in begun if not learning)


def test_a_stopped_run_resumes_to_the_same_weights_and_ngram(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, stopped = (small_config(corpus, tmp_path / name, *EVERYTHING) for name in ("whole", "stopped"))
    assert train(whole) == 0
    original = SpeechModule.training_step

    def step(self: SpeechModule, batch: Any, batch_idx: int) -> torch.Tensor:
        if self.global_step == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, batch, batch_idx)

    monkeypatch.setattr(SpeechModule, "training_step", step)
    assert train(stopped) == 130
    monkeypatch.undo()
    (corpus / "train.jsonl").touch()
    monkeypatch.setattr("asr.crf.loss.estimate_ngram", None)  # it is in the checkpoint
    assert train(stopped) == 0
    assert_equal_weights(weights(whole), weights(stopped))
    assert weights(whole)["crf.ngram"].std() > 0
    assert_equal_weights(*(load_file(tmp_path / run / "package" / "model.safetensors") for run in ("whole", "stopped")))


@pytest.mark.slow
def test_two_processes_in_bfloat16(corpus: Path, tmp_path: Path) -> None:
    overrides = [*small_overrides(corpus), *EVERYTHING, "trainer.devices=2", "trainer.precision=bfloat16"]
    command = [sys.executable, "-m", "asr", "train", *overrides, f"output={tmp_path}/run", "optim.crf_order=3"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr
    state = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["state_dict"]
    assert state["crf.ngram"].shape == (5, 5, 5)


def test_too_many_tokens_are_refused_before_training(corpus: Path, tmp_path: Path) -> None:
    config = small_config(corpus, tmp_path / "run", "optim.loss=ctc_crf", f"tokens.alphabet=' {letters()}'")
    with pytest.raises(ConfigError, match=r"choose optim\.crf_order=2"):
        train(config)


def letters() -> str:
    return "".join(map(chr, range(ord("a"), ord("z") + 1))) + "".join(map(chr, range(0x4E00, 0x4E00 + 300)))
