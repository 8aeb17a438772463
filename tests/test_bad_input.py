"""Bad packages and mistyped arguments, through the command line: exit code, and a message that names the culprit."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import yaml
from bad_input import Evil, Run, assert_refused, content


@pytest.fixture
def package(pristine: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    return Path(shutil.copytree(pristine, tmp_path / "package"))


# Model packages


def edit_config(package: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    mapping = yaml.safe_load((package / "config.yaml").read_text())
    change(mapping)
    (package / "config.yaml").write_text(yaml.safe_dump(mapping))


def spoil_weights(package: Path) -> None:
    weights = safetensors.torch.load_file(package / "model.safetensors")
    next(iter(weights.values())).view(-1)[0] = float("nan")
    safetensors.torch.save_file(weights, package / "model.safetensors")


def clear(package: Path) -> None:
    shutil.rmtree(package)
    package.mkdir()
    (package / "diary.txt").write_text("dear diary")


def grow_tokenizer(package: Path) -> None:
    mapping = json.loads((package / "tokenizer.json").read_text())
    (package / "tokenizer.json").write_text(json.dumps({**mapping, "alphabet": " abcdef"}))


def tag(package: Path) -> None:
    (package / "config.yaml").write_text(f"format: !!python/object/apply:os.system ['touch {package.parent}/trace']\n")


BAD_PACKAGES: dict[str, tuple[Callable[[Path], Any], tuple[str, ...]]] = {
    "absent": (lambda package: shutil.rmtree(package), ("no such folder", "asr train")),
    "foreign folder": (clear, ("config.yaml, model.safetensors, tokenizer.json not found", "no model package")),
    "no tokenizer": (lambda package: (package / "tokenizer.json").unlink(), ("tokenizer.json not found",)),
    "truncated weights": (
        lambda package: os.truncate(package / "model.safetensors", 700),
        ("model.safetensors", "corrupt, truncated or foreign"),
    ),
    "pickle": (
        lambda package: (package / "model.safetensors").write_bytes(pickle.dumps(Evil(package.parent / "trace"))),
        ("model.safetensors", "pickle"),
    ),
    "NaN": (spoil_weights, ("model.safetensors", "holds NaN or infinity")),
    "unknown key": (lambda package: edit_config(package, lambda c: c["model"].update(depth=3)), ("config.yaml", "depth")),
    "huge": (
        lambda package: edit_config(package, lambda c: c["model"]["recurrent"].update(hidden_size=8192, layers=32)),
        ("config.yaml", "weights; expected 268,435,456 at most"),
    ),
    "out of range": (
        lambda package: edit_config(package, lambda c: c["model"]["recurrent"].update(hidden_size=10**9)),
        ("config.yaml", "hidden_size", "1 to 8192"),
    ),
    "python tag": (tag, ("config.yaml", "not readable as YAML")),
    "other tokenizer": (grow_tokenizer, ("model.safetensors", "tokenizer.json", "shape")),
}


@pytest.mark.parametrize("kind", BAD_PACKAGES)
def test_bad_packages(kind: str, package: Path, good: Path, tmp_path: Path, run: Run) -> None:
    damage, words = BAD_PACKAGES[kind]
    damage(package)
    before = content(tmp_path)
    outcome = run("transcribe", good, "--model", package, "-o", tmp_path / "out")
    assert_refused(outcome, "asr transcribe: error: ", str(package), *words)
    assert content(tmp_path) == before  # no trace of code that ran either


# Arguments and configuration


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["transcrib"], ("unknown command 'transcrib'", "Did you mean transcribe?")),
        (["prepare", "libri"], ("invalid choice: 'libri'", "librispeech")),
        (["train", "trainer.epoch=3"], ("unknown key trainer.epoch", "Did you mean trainer.epochs?")),
        (["train", "trainer.epochs=many"], ("trainer.epochs", "expected an integer", "many")),
        (["train", "trainer.epochs=0"], ("trainer.epochs=0", "expected 1 to")),
        (["train", "optim.lr=nan"], ("optim.lr", "expected")),
        (["train", "model.recurrent.cell=lsmt"], ("model.recurrent.cell=lsmt", "Did you mean lstm?")),
        (["train", "+recipe=librispech/mini"], ("recipe=librispech/mini", "Did you mean librispeech/mini?")),
        (["train", "frontend=mfc"], ("frontend=mfc", "Did you mean mfcc?")),
        (["train", "modle=small"], ("unknown key modle", "Did you mean model?")),
        (["train", "corpus.train=[]"], ("corpus.train is empty",)),
        (["train", "--config-dir", "nowhere"], ("--config-dir nowhere: no such folder",)),
        (["transcribe", "a.wav", "--threads", "two"], ("--threads", "'two' is not a whole number from 1 to 4096")),
        (["transcribe", "a.wav", "b/a.flac", "--model", "m", "-o", "out"], ("a.wav and b/a.flac", "out/a.txt")),
        (["evaluate", "m", "a/b", "--batch-seconds", "nan"], ("--batch-seconds: 'nan'", "above 0")),
    ],
)
def test_mistyped_arguments(
    arguments: list[str], words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    monkeypatch.chdir(tmp_path)
    assert_refused(run(*arguments), *words)
    assert content(tmp_path) == {}


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("decoding.knd=greedy", ("decoding.knd", "Did you mean decoding.kind?")),
        ("decoding.kind=[", ("decoding.kind=[", "expected one of greedy")),
        ("decoding.kind.size=3", ("unknown key decoding.kind.size",)),
    ],
)
def test_mistyped_decoder_settings(override: str, words: tuple[str, ...], pristine: Path, manifests: Path, run: Run) -> None:
    assert_refused(run("evaluate", pristine, "corpus/all", override, "--manifests", manifests), *words)


@pytest.mark.parametrize("device", ["cuda:99", "cudo", "meta", "hpu", ""])
def test_devices_that_are_not_there(device: str, pristine: Path, good: Path, run: Run) -> None:
    outcome = run("transcribe", good, "--model", pristine, "--device", device)
    assert_refused(outcome, f"device '{device}' cannot be used here", "'cpu' always can")
    assert len(outcome.err) < 400
