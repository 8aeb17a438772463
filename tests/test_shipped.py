"""Models that ship with asr: which there are, what a name means, and the commands that take names."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import asr
from asr.cli import main
from asr.errors import ConfigError, PackageError
from asr.package.load import read_package
from asr.package.shipped import HOW_TO_GET_ONE, find_model, list_models, models_dir

FACTS = {
    "epoch": 7,
    "epochs": 9,
    "train": ["books/train", "talks/train"],
    "dev": ["books/dev"],
    "dev_wer": {"rate": 0.25, "low": 0.2, "high": 0.3, "S": 1, "D": 0, "I": 0, "N": 4},
}
CARD = "# nonsense\n\nWrites what nobody said.\n"


@pytest.fixture(autouse=True)
def nothing_ships(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty folder, with a place for models that is not there yet, and no variable that names one."""
    monkeypatch.setattr("asr.package.shipped.models_dir", lambda: tmp_path / "models")
    monkeypatch.delenv("ASR_MODEL", raising=False)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


@pytest.fixture
def ship(package: Path, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that puts a model among those that ship, and returns its folder."""

    def put(name: str = "english", facts: dict[str, Any] | None = None) -> Path:
        folder = tmp_path / "models" / name
        shutil.copytree(package, folder)
        mapping = yaml.safe_load((folder / "config.yaml").read_text())
        mapping["training"].update(FACTS if facts is None else facts)
        (folder / "config.yaml").write_text(yaml.safe_dump(mapping))
        (folder / "README.md").write_text(CARD)
        return folder

    return put


def printed(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    """Run ``asr``; return what it printed to standard output, or as an error."""
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == code
    captured = capsys.readouterr()
    return captured.err if code else captured.out


# Which there are


def test_place_is_beside_the_code() -> None:
    assert models_dir() == Path(asr.__file__).resolve().parent / "models"


def test_list(ship: Callable[..., Path], tmp_path: Path) -> None:
    assert list_models() == []
    french, english = ship("french", {}), ship()
    for stray in ("__pycache__", ".cache"):
        (tmp_path / "models" / stray).mkdir()
    (tmp_path / "models" / "notes.txt").touch()
    (english / "language").mkdir()
    (english / "language" / "lexicon.tsv").write_bytes(b"x" * 1000)
    first, second = list_models()
    assert (first.name, first.folder, first.title, first.error) == ("english", english, "nonsense", None)
    assert (second.name, second.folder) == ("french", french)
    assert first.facts == {"asr": asr.__version__, **FACTS}
    size = sum((english / name).stat().st_size for name in ("config.yaml", "model.safetensors", "tokenizer.json", "README.md"))
    assert first.n_bytes == size + 1000


@pytest.mark.parametrize(
    ("break_it", "reason"),
    [
        (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors not found"),
        (lambda folder: (folder / "config.yaml").write_text("format: 2\n"), "config.yaml: format 2"),
        (lambda folder: [path.unlink() for path in folder.iterdir()], "it is no model package, or incomplete"),
    ],
)
def test_broken_one_is_listed_with_the_reason(
    break_it: Callable[[Path], Any], reason: str, ship: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    ship()
    break_it(ship("broken"))
    broken, whole = list_models()
    assert (broken.name, whole.name, whole.error) == ("broken", "english", None)
    assert reason in str(broken.error)
    text = printed(capsys, "models")
    assert "25.00 %" in text
    assert text.splitlines()[-1] == f"broken cannot be used: {broken.error}"
    with pytest.raises(PackageError, match=reason):
        broken.read_card()
    assert reason in printed(capsys, "models", "broken", code=2)


# What a name means


def test_no_name_is_the_variable_or_else_the_default(ship: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="no model is named: give --model PATH or set ASR_MODEL"):
        find_model()
    french = ship("french")
    with pytest.raises(ConfigError, match="no model is named"):
        find_model(None)
    english = ship()
    assert find_model() == english
    monkeypatch.setenv("ASR_MODEL", "french")
    assert find_model() == french
    assert find_model("english") == english
    monkeypatch.setenv("ASR_MODEL", "runs/mine/package")
    assert find_model() == Path("runs/mine/package")
    monkeypatch.setenv("ASR_MODEL", "")
    assert find_model() == english


def test_name_that_is_empty_is_not_the_default(ship: Callable[..., Path]) -> None:
    ship()
    with pytest.raises(ConfigError, match="the model's name is empty"):
        find_model("")


def test_folder_of_that_path_comes_first(ship: Callable[..., Path]) -> None:
    english = ship()
    Path("english").touch()
    assert find_model("english") == english
    Path("english").unlink()
    Path("english").mkdir()
    assert find_model("english") == Path("english")
    assert find_model(Path("english")) == Path("english")


@pytest.mark.parametrize("path", ["englsh/package", "./englsh", "nowhere", "..", "/nowhere/english"])
def test_anything_else_is_a_path(path: str, ship: Callable[..., Path]) -> None:
    ship()
    assert find_model(path) == Path(path)


def test_mistyped_name_names_the_nearest(ship: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    ship()
    ship("french")
    message = "englsh: no such folder, and no model of that name ships with asr. Did you mean english?"
    with pytest.raises(ConfigError) as error:
        find_model("englsh")
    assert str(error.value) == f"{message} There are: english, french"
    monkeypatch.setenv("ASR_MODEL", "englsh")
    with pytest.raises(ConfigError) as error:
        find_model()
    assert str(error.value).startswith(f"ASR_MODEL={message}")


# What takes names


def test_load_model(ship: Callable[..., Path], package: Path, spoken_wav: Path) -> None:
    with pytest.raises(ConfigError, match="no model is named"):
        asr.load_model()
    ship()
    text = asr.load_model(package, vad=False).transcribe(spoken_wav).text
    assert text
    assert asr.load_model(vad=False).transcribe(spoken_wav).text == text
    assert asr.load_model("english", vad=False).transcribe(spoken_wav).text == text


def test_transcribe(
    ship: Callable[..., Path],
    package: Path,
    spoken_wav: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert HOW_TO_GET_ONE in printed(capsys, "transcribe", str(spoken_wav), code=2)
    ship()
    arguments = ("transcribe", str(spoken_wav), "--no-vad")
    text = printed(capsys, *arguments, "--model", str(package))
    assert text.strip()
    assert printed(capsys, *arguments) == text
    monkeypatch.setenv("ASR_MODEL", "nowhere")
    assert "nowhere: no such folder" in printed(capsys, *arguments, code=2)
    assert printed(capsys, *arguments, "--model", "english") == text
    assert "Did you mean english?" in printed(capsys, *arguments, "--model", "englsh", code=2)


def test_inspect(ship: Callable[..., Path], spoken_wav: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert HOW_TO_GET_ONE in printed(capsys, "inspect", str(spoken_wav), code=2)
    ship()
    assert "spoken.html" in printed(capsys, "inspect", str(spoken_wav))
    assert "Did you mean english?" in printed(capsys, "inspect", str(spoken_wav), "--model", "englsh", code=2)


def test_compress(ship: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    ship()
    assert "weights of" in printed(capsys, "compress", "english", "small", "--weights", "float16")
    assert read_package(Path("small")).config.name == "nonsense"


@pytest.mark.parametrize("command", ["evaluate", "tune"])
def test_evaluate_and_tune(
    command: str,
    ship: Callable[..., Path],
    write_corpus: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """They come as far as the network, which is the shipped one."""
    table = str(write_corpus([2.0]))
    printed(capsys, "prepare", "table", table, "--name", "mine/dev", "--audio-column", "audio", "--text-column", "text")
    folder, read = ship(), []

    def spy(path: Path, device: str | torch.device) -> Any:
        read.append(path)
        raise PackageError("read")

    monkeypatch.setattr("asr.package.load.read_package", spy)
    assert printed(capsys, command, "english", "mine/dev", code=2).endswith("error: read\n")
    assert read == [folder]


# asr models


def test_table(ship: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    english = ship()
    tuned = {"tuning": {"wer": {"rate": 0.125}, "manifests": ["talks/dev"]}}
    french = ship("french", {**FACTS, **tuned, "train": []})
    odd = ship("odd", {"train": "books", "dev_wer": 3, "tuning": ["none"]})
    sizes = [f"{sum(path.stat().st_size for path in folder.iterdir()) / 1e6:.1f}" for folder in (english, french, odd)]
    lines = [" ".join(line.split()) for line in printed(capsys, "models").splitlines()]
    assert lines == [
        "name size trained on epochs WER on development set folder",
        f"english (default) {sizes[0]} MB books/train, talks/train 7 25.00 %, books/dev {english}",
        f"french {sizes[1]} MB - 7 12.50 %, talks/dev {french}",
        f"odd {sizes[2]} MB - - - {odd}",
    ]
    lines = printed(capsys, "models").splitlines()
    starts = [line.index(folder) for line, folder in zip(lines, ["folder", *map(str, (english, french, odd))], strict=True)]
    assert len(set(starts)) == 1
    monkeypatch.setenv("ASR_MODEL", "french")
    assert printed(capsys, "models").splitlines()[-1] == "ASR_MODEL=french is used where no model is named"


def test_json(ship: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(printed(capsys, "models", "--format", "json")) == []
    folder = ship()
    ship("french")
    first, second = json.loads(printed(capsys, "models", "--format", "json"))
    assert first == {
        "name": "english",
        "default": True,
        "folder": str(folder),
        "bytes": sum(path.stat().st_size for path in folder.iterdir()),
        "title": "nonsense",
        "facts": {"asr": asr.__version__, **FACTS},
        "error": None,
    }
    assert (second["name"], second["default"]) == ("french", False)
    assert json.loads(printed(capsys, "models", "english", "--format", "json")) == {**first, "card": CARD}


def test_card(ship: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    folder = ship()
    assert printed(capsys, "models", "english") == CARD
    message = "englis: no model of that name ships with asr. Did you mean english? There are: english"
    assert message in printed(capsys, "models", "englis", code=2)
    (folder / "README.md").unlink()
    assert f"{folder}: has no README.md" in printed(capsys, "models", "english", code=2)
    assert list_models()[0].title == ""


def test_none_ships(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "models") == f"no model ships with this asr. {HOW_TO_GET_ONE}\n"
    (tmp_path / "models").mkdir()
    assert printed(capsys, "models").startswith("no model ships with this asr.")
    assert f"There are none. {HOW_TO_GET_ONE}" in printed(capsys, "models", "english", code=2)


def test_listing_imports_no_torch(ship: Callable[..., Path]) -> None:
    folder = ship()
    code = f"""
import pathlib, sys
import asr.package.shipped
asr.package.shipped.models_dir = lambda: pathlib.Path({str(folder.parent)!r})
from asr.cli import main
main(["models"])
main(["models", "english"])
print(sorted({{"torch", "torchaudio", "lightning", "lhotse", "jiwer", "soundfile", "av"}} & set(sys.modules)))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert str(folder) in result.stdout
    assert result.stdout.splitlines()[-1] == "[]"
