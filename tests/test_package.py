"""Model packages: what is written comes back; what is broken, foreign or hostile is refused by name."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
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
from tiny_lstm import write_tiny_lstm

import asr
from asr.cli import main
from asr.config import CnnConfig, Config, DecodingConfig, FrontendConfig, ModelConfig, RecurrentConfig
from asr.errors import ConfigError, PackageError
from asr.language import load_language_model
from asr.model.acoustic import SpeechModel
from asr.model.storage import to_stored
from asr.package.card import build_card
from asr.package.load import read_package
from asr.package.save import compress_package, update_package, write_package
from asr.scoring import score
from asr.text import Normaliser, build_tokenizer


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


def test_a_package_that_a_killed_process_moved_away_is_put_back(package: Path) -> None:
    package.rename(package.with_name(f".{package.name}.abcdefgh.asr-old"))
    assert read_package(package).config.name == "tiny"
    assert [path.name for path in package.parent.iterdir()] == ["package"]


@pytest.mark.parametrize(
    "files",
    [
        {"diary.txt": "dear diary"},
        {"config.yaml": "a: 1"},  # a configuration of anything
        {"config.yaml": "a: 1", "src/diary.txt": "dear diary"},
        {"config.yaml": "name: run", "last.ckpt": "", "train.log": ""},  # a run
        {"config.yaml": "format: 1\nkind: ngram", "README.md": "", "vocabulary.txt": ""},  # a language model
    ],
)
def test_other_folders_are_not_replaced(config: Config, model: SpeechModel, tmp_path: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        (tmp_path / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mine" / name).write_text(content)
    with pytest.raises(PackageError, match="not a model package"):
        write_package(tmp_path / "mine", config, model, build_tokenizer(config.tokens), "card")
    assert all((tmp_path / "mine" / name).read_text() == content for name, content in files.items())


def test_a_package_with_something_of_the_user_s_is_not_replaced(config: Config, model: SpeechModel, package: Path) -> None:
    (package / "diary.txt").write_text("dear diary")
    with pytest.raises(PackageError, match=r"which holds diary\.txt"):
        write_package(package, config, model, build_tokenizer(config.tokens), "card")
    (package / "diary.txt").unlink()
    (package / "config.yaml").write_text("damaged: [")
    write_package(package, config, model, build_tokenizer(config.tokens), "card")
    assert read_package(package).config.name == config.name


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
    with pytest.raises(PackageError, match="describes a network of"):
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
    assert "synthetic" not in card
    spoken = build_card(config, model, decoder="greedy", synthesisers=["one 1 (MIT)", "two 2 (BSD)"])
    assert "| synthetic speech in it by | one 1 (MIT), two 2 (BSD) |" in spoken.splitlines()


@pytest.mark.parametrize(("storage", "size"), [("float32", 1.0), ("float16", 0.5), ("int8", 0.25)])
def test_compressed_weights_come_back_in_float32(package: Path, model: SpeechModel, storage: str, size: float) -> None:
    before = (package / "model.safetensors").read_bytes()
    target = compress_package(package, package.parent / "small" / "copy", storage)
    stored = safetensors.torch.load_file(target / "model.safetensors")
    read = read_package(target).model.state_dict()
    for name, tensor in model.state_dict().items():
        assert read[name].dtype == torch.float32
        if tensor.ndim < 2:
            assert torch.equal(read[name], tensor)
            continue
        assert stored[name].dtype == getattr(torch, storage)
        assert stored[name].nbytes == size * tensor.nbytes
        rows, found = tensor.flatten(1).double(), read[name].flatten(1).double()
        # Half a step: of 254 steps over a row, of 11 significant bits.
        limit = {"float32": 0 * rows, "float16": rows.abs() / 2048 + 1e-7, "int8": rows.abs().amax(1, keepdim=True) / 253.9}
        assert bool(((found - rows).abs() <= limit[storage]).all()), name
    assert (package / "model.safetensors").read_bytes() == before
    assert sorted(path.name for path in target.iterdir()) == sorted(path.name for path in package.iterdir())
    assert (target / "config.yaml").read_bytes() == (package / "config.yaml").read_bytes()


def test_an_lstm_in_the_package_is_compressed_with_it(package: Path, tmp_path: Path) -> None:
    lstm = write_tiny_lstm(tmp_path / "lstm", Normaliser(" ab"), ("a", "b"))
    before = load_language_model(lstm).score([["a", "b"]])[0].log_prob
    read = read_package(package)
    config = dataclasses.replace(read.config, decoding=DecodingConfig(kind="rescore", lstm=lstm))
    write_package(package, config, read.model, read.tokenizer, "card")
    target = compress_package(package, package.parent / "copy", "int8")
    stored = safetensors.torch.load_file(target / "language" / "lstm" / "model.safetensors")
    assert stored["embedding.weight"].dtype == torch.int8
    assert load_language_model(target / "language" / "lstm").score([["a", "b"]])[0].log_prob == pytest.approx(before, abs=0.1)


@pytest.mark.parametrize("storage", ["float16", "int8"])
def test_the_hash_is_that_of_the_stored_file(package: Path, storage: str) -> None:
    target = compress_package(package, package.parent / "copy", storage)
    digest = hashlib.sha256((target / "model.safetensors").read_bytes()).hexdigest()[:12]
    assert read_package(target).checkpoint_hash == digest != read_package(package).checkpoint_hash


def test_integers_are_those_of_a_hand_calculation() -> None:
    weights = {"w": torch.tensor([[2.54, -1.28, 0.011], [0.0, 0.0, 0.0]]), "b": torch.tensor([0.123456789])}
    stored = to_stored(weights, "int8")
    assert stored["w"].tolist() == [[127, -64, 1], [0, 0, 0]]
    assert stored["w:scale"].tolist() == pytest.approx([0.02, 0.0])
    assert torch.equal(stored["b"], weights["b"])


def compressed(package: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> Path:
    target = compress_package(package, package.parent / "copy", "int8")
    edit_weights(target, change)
    return target


HEAD = "acoustic.head.0.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop(f"{HEAD}:scale"), f"tensor {HEAD}:scale not found"),
        (lambda w: w.update({f"{HEAD}:scale": torch.ones(3)}), rf"tensor {HEAD}:scale is F32 of shape \(3\)"),
        (lambda w: w.update({f"{HEAD}:scale": torch.ones(29, dtype=torch.float64)}), f"tensor {HEAD}:scale is F64"),
        (lambda w: w[f"{HEAD}:scale"].fill_(float("nan")), f"tensor {HEAD} holds NaN"),
        (lambda w: w.update({HEAD: w[HEAD].to(torch.uint8)}), f"tensor {HEAD} is U8"),
        (lambda w: w.update({HEAD: w[HEAD].to(torch.bfloat16)}), f"tensor {HEAD} is BF16"),
        (lambda w: w.update({HEAD: w[HEAD][:, :3].contiguous()}), f"tensor {HEAD} is I8 of shape"),
        (lambda w: w.update({HEAD: w[HEAD].half()}), f"tensor {HEAD}:scale is not part"),
        (lambda w: w.update({"frontend.mean": w["frontend.mean"].to(torch.int8)}), "tensor frontend.mean is I8"),
        (lambda w: w.update({"frontend.mean:scale": torch.ones(8)}), "tensor frontend.mean:scale is not part"),
    ],
)
def test_compressed_weights_that_do_not_fit(
    package: Path, change: Callable[[dict[str, torch.Tensor]], Any], message: str
) -> None:
    with pytest.raises(PackageError, match=message):
        read_package(compressed(package, change))


def test_weights_that_float16_cannot_hold(package: Path) -> None:
    edit_weights(package, lambda w: w[HEAD].fill_(70000.0))
    with pytest.raises(PackageError, match=rf"tensor {HEAD} reaches 7e\+04, which float16 cannot hold; use int8"):
        compress_package(package, package.parent / "copy", "float16")
    assert [path.name for path in package.parent.iterdir()] == ["package"]
    assert read_package(compress_package(package, package.parent / "copy", "int8")).model.state_dict()[HEAD].max() == 70000


def test_compress_through_the_command_line(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = package.parent / "copy"
    assert main(["compress", str(package), str(target)]) == 0
    assert "copy: weights of 0.0 MB instead of 0.0 MB" in capsys.readouterr().out
    assert safetensors.torch.load_file(target / "model.safetensors")[HEAD].dtype == torch.int8
    assert main(["compress", str(package), str(target), "--weights", "float16"]) == 0
    assert "tune the copy again" not in capsys.readouterr().err
    found = read_package(target)
    decoding = dataclasses.replace(found.config.decoding, blank_penalty=0.5)
    update_package(target, dataclasses.replace(found.config, decoding=decoding), "card")
    assert main(["compress", str(package), str(target), "--weights", "float16"]) == 0
    assert f"{target}: had a decoder of its own, tuned or set, which goes: tune the copy again" in capsys.readouterr().err
    (package.parent / "mine").mkdir()
    (package.parent / "mine" / "diary.txt").write_text("dear diary")
    wrong: list[tuple[list[Path | str], str]] = [
        ([package, package], "lies in the other"),
        ([package, package / "inside"], "lies in the other"),
        ([package, package.parent], "lies in the other"),
        ([package, package.parent / "mine"], "not a model package"),
        ([package.parent / "nowhere", target], "no such folder"),
        ([package, target, "--weights", "int4"], "int4"),
    ]
    for arguments, message in wrong:
        assert main(["compress", *map(str, arguments)]) == 2
        assert message in capsys.readouterr().err
    assert read_package(target).config.name == "tiny"


def test_others_can_read_every_package_that_is_written(package: Path, tmp_path: Path) -> None:
    copy = compress_package(package, tmp_path / "copy", "int8")
    assert copy.stat().st_mode & 0o777 == 0o755
