"""Model packages: what is written comes back; what is broken, foreign or hostile is refused by name."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import os
import pickle
import resource
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import yaml

import asr
from asr.card import build_card
from asr.config import CnnConfig, Config, FrontendConfig, ModelConfig, RecurrentConfig
from asr.errors import ConfigError, PackageError
from asr.model.acoustic import SpeechModel
from asr.package import read_package, write_package
from asr.scoring import score
from asr.text import build_tokenizer


@pytest.fixture(scope="module")
def config() -> Config:
    cnn = CnnConfig(channels=[4], time_kernels=[3], frequency_kernels=[3], time_strides=[2], frequency_strides=[2])
    model = ModelConfig(cnn=cnn, recurrent=RecurrentConfig(layers=2, hidden_size=6))
    return Config(name="tiny", frontend=FrontendConfig(n_mels=8, normalisation="corpus"), model=model)


@pytest.fixture(scope="module")
def model(config: Config) -> SpeechModel:
    torch.manual_seed(1)
    return SpeechModel(config.frontend, config.model, len(build_tokenizer(config.tokens))).eval()


@pytest.fixture
def package(config: Config, model: SpeechModel, tmp_path: Path) -> Path:
    return write_package(tmp_path / "package", config, model, build_tokenizer(config.tokens), "the card\n", {"seed": 7})


def edit_yaml(package: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    mapping = yaml.safe_load((package / "config.yaml").read_text())
    change(mapping)
    (package / "config.yaml").write_text(yaml.safe_dump(mapping))


def edit_weights(package: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    weights = safetensors.torch.load_file(package / "model.safetensors")
    change(weights)
    safetensors.torch.save_file(weights, package / "model.safetensors")


def test_what_is_written_comes_back(package: Path, config: Config, model: SpeechModel) -> None:
    result = read_package(package)
    assert sorted(path.name for path in package.iterdir()) == [
        "README.md",
        "config.yaml",
        "model.safetensors",
        "tokenizer.json",
    ]
    for section in ("name", "tokens", "frontend", "model", "decoding"):
        assert getattr(result.config, section) == getattr(config, section)
    waveforms, n_samples = torch.randn(2, 8000), torch.tensor([8000, 5000])
    with torch.no_grad():
        assert torch.equal(result.model(waveforms, n_samples)[0], model(waveforms, n_samples)[0])
    assert not result.model.training
    assert result.checkpoint_hash == hashlib.sha256((package / "model.safetensors").read_bytes()).hexdigest()[:12]
    assert result.facts == {"asr": asr.__version__, "seed": 7}


def test_nothing_is_left_beside_it_and_a_second_takes_the_place_of_the_first(
    package: Path, config: Config, model: SpeechModel
) -> None:
    write_package(package, dataclasses.replace(config, name="second"), model, build_tokenizer(config.tokens), "card")
    assert read_package(package).config.name == "second"
    assert [path.name for path in package.parent.iterdir()] == ["package"]


def test_a_failed_write_leaves_the_old_package(
    package: Path, config: Config, model: SpeechModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*_: object) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors.torch, "save", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_package(package, dataclasses.replace(config, name="second"), model, build_tokenizer(config.tokens), "card")
    assert read_package(package).config.name == "tiny"
    assert [path.name for path in package.parent.iterdir()] == ["package"]


def test_the_old_package_comes_back_where_the_new_one_cannot_take_its_place(
    package: Path, config: Config, model: SpeechModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = os.rename
    failures = [OSError(13, "Permission denied")]

    def fail_once(source: Path, target: Path) -> None:
        if failures:
            raise failures.pop()
        rename(source, target)

    monkeypatch.setattr(os, "rename", fail_once)
    with pytest.raises(OSError, match="Permission"):
        write_package(package, dataclasses.replace(config, name="second"), model, build_tokenizer(config.tokens), "card")
    assert read_package(package).config.name == "tiny"
    assert [path.name for path in package.parent.iterdir()] == ["package"]


def test_other_folders_are_not_replaced(config: Config, model: SpeechModel, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").write_text("dear diary")
    with pytest.raises(PackageError, match="not a model package"):
        write_package(tmp_path / "mine", config, model, build_tokenizer(config.tokens), "card")
    assert (tmp_path / "mine" / "diary.txt").exists()


def test_weights_that_are_no_numbers_are_not_written(config: Config, tmp_path: Path) -> None:
    model = SpeechModel(config.frontend, config.model, 29)
    torch.nn.init.constant_(next(model.parameters()), float("inf"))
    with pytest.raises(PackageError, match="NaN or infinity"):
        write_package(tmp_path / "package", config, model, build_tokenizer(config.tokens), "card")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["config.yaml", "model.safetensors", "tokenizer.json"])
def test_absent_parts(package: Path, name: str) -> None:
    (package / name).unlink()
    with pytest.raises(PackageError, match=f"{name} not found"):
        read_package(package)


def test_wrong_paths(package: Path) -> None:
    with pytest.raises(PackageError, match="no such folder"):
        read_package(package / "nowhere")
    with pytest.raises(PackageError, match="a file; expected the folder"):
        read_package(package / "config.yaml")
    with pytest.raises(PackageError, match=r"did you mean .*package"):
        read_package(package.parent)
    with pytest.raises(ConfigError, match="device 'abacus'"):
        read_package(package, "abacus")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(format=2), "format 2"),
        (lambda m: m.pop("format"), "no 'format' key"),
        (lambda m: m.pop("frontend"), "frontend not found"),
        (lambda m: m.update(plugin="evil"), "unknown key plugin"),
        (lambda m: m["model"].update(hidden=3), "hidden"),
        (lambda m: m["model"]["recurrent"].update(hidden_size="many"), "hidden_size"),
        (lambda m: m["frontend"].update(n_mels=10_000_000), "n_mels"),
        (lambda m: m["model"]["cnn"].update(channels=[4, 4]), "lengths differ"),
        (lambda m: m.update(name="${oc.env:HOME}"), "interpolation"),
        (lambda m: m.update(training=[1]), "not a mapping"),
        # What the weights do not fit: the first tensor that differs is named.
        (lambda m: m["model"]["recurrent"].update(hidden_size=7), "tensor acoustic.recurrent"),
        (lambda m: m["model"]["recurrent"].update(layers=3), "tensor acoustic.recurrent.* not found"),
        (lambda m: m["model"]["recurrent"].update(layers=1), "tensor acoustic.recurrent.*not part of|tensor acoustic.head"),
        (lambda m: m["frontend"].update(n_mels=16), "tensor frontend.mean is F32 of shape \\(8\\).* shape \\(16\\)"),
    ],
)
def test_configurations_that_do_not_fit(package: Path, change: Callable[[dict[str, Any]], Any], message: str) -> None:
    edit_yaml(package, change)
    with pytest.raises(PackageError, match=message):
        read_package(package)


def test_huge_declared_sizes_take_no_memory(package: Path) -> None:
    edit_yaml(package, lambda m: m["model"]["recurrent"].update(hidden_size=8192, layers=32))  # some 60 GB of weights
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(PackageError, match="tensor acoustic"):
        read_package(package)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['touch owned']",
        "format: 1\nname: *x",
        "a: &a [x, x]\nformat: [*a, *a]",
        "{" * 5000,
        "\x00",
        "- just a list",
        "x" * 300_000,
    ],
)
def test_hostile_yaml(package: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(package)
    (package / "config.yaml").write_text(text)
    with pytest.raises(PackageError, match=r"config.yaml"):
        read_package(package)
    assert not (package / "owned").exists()


def test_yaml_aliases(package: Path) -> None:
    path = package / "config.yaml"
    path.write_text(path.read_text() + "  seeds: &seeds [1, 2]\n  more: *seeds\n")
    with pytest.raises(PackageError, match="alias"):
        read_package(package)


class Bomb:
    """Creates a file when unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, ("owned", "w"))


def test_pickles_and_zips_under_another_name(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(package)
    weights = package / "model.safetensors"
    weights.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(PackageError, match="pickle or zip"):
        read_package(package)
    with zipfile.ZipFile(weights, "w") as archive:
        archive.writestr("data.pkl", pickle.dumps(Bomb()))
    with pytest.raises(PackageError, match="pickle or zip"):
        read_package(package)
    assert not (package / "owned").exists()


@pytest.mark.parametrize("content", [b"", b"not weights at all", b"\xff" * 64])
def test_foreign_weights(package: Path, content: bytes) -> None:
    (package / "model.safetensors").write_bytes(content)
    with pytest.raises(PackageError, match=r"model.safetensors: not a safetensors file"):
        read_package(package)


def test_truncated_weights(package: Path) -> None:
    content = (package / "model.safetensors").read_bytes()
    (package / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(PackageError, match="corrupt, truncated or foreign"):
        read_package(package)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w["frontend.mean"].fill_(float("nan")), "frontend.mean holds NaN"),
        (lambda w: w.update({"extra": torch.zeros(1)}), "tensor extra is not part"),
        (lambda w: w.pop("frontend.std"), "tensor frontend.std not found"),
        (lambda w: w.update({"frontend.std": torch.ones(8, dtype=torch.float64)}), "frontend.std is F64"),
    ],
)
def test_weights_that_do_not_fit(package: Path, change: Callable[[dict[str, torch.Tensor]], Any], message: str) -> None:
    edit_weights(package, change)
    with pytest.raises(PackageError, match=message):
        read_package(package)


def test_a_tokenizer_of_another_size(package: Path) -> None:
    path = package / "tokenizer.json"
    path.write_text(path.read_text().replace("xyz", "xyz\u00e4"))
    with pytest.raises(PackageError, match=r"tensor acoustic.head"):
        read_package(package)


def test_links_out_of_the_package(package: Path, tmp_path: Path) -> None:
    (package / "tokenizer.json").rename(tmp_path / "elsewhere.json")
    (package / "tokenizer.json").symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(PackageError, match="leads out of the package"):
        read_package(package)


def test_card(config: Config, model: SpeechModel) -> None:
    named = dataclasses.replace(config, corpus=dataclasses.replace(config.corpus, train=["c/train"], dev=["c/dev"]))
    result = score({"1": "a b c d"}, {"1": "a b c e"})
    card = build_card(named, model, decoder="greedy", score=result, date=datetime.date(2025, 1, 31))
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    for part in (
        "# tiny",
        "2025-01-31",
        "c/train",
        "c/dev",
        f"{n_parameters:,}",
        "25.00 %",
        "14.29 %",
        "S=1 D=0 I=0 N=4",
        "Licence",
    ):
        assert part in card
    assert "not measured" in build_card(config, model, decoder="greedy")
