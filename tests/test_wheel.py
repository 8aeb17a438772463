"""The wheel, installed in a fresh environment and used in another folder, is complete."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
STAND_IN = [f"asr/models/stand-in/{name}" for name in ("README.md", "model.safetensors", "language/ngram/model.bin")]
"""Files of a model that ships with asr, beside those that there are."""


class Installed:
    """The program as someone has it who never saw the checkout."""

    def __init__(self, wheel: Path, environment: Path, folder: Path) -> None:
        self.wheel, self.environment, self.folder = wheel, environment, folder
        folder.mkdir()

    def run(self, *command: str, code: int = 0) -> str:
        """Run a program of the environment; return what it printed."""
        line = [str(self.environment / "bin" / command[0]), *command[1:]]
        result = subprocess.run(line, cwd=self.folder, capture_output=True, text=True)
        assert result.returncode == code, f"{command}: {result.returncode}\n{result.stdout[-4000:]}\n{result.stderr[-4000:]}"
        return result.stdout + result.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    base = tmp_path_factory.mktemp("wheel")
    source, environment = base / "source", base / "environment"
    # Building leaves folders beside the sources, so build from a copy.
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("asr", "conf", "recipes"):
        shutil.copytree(ROOT / name, source / name, ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in STAND_IN:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(b"# a stand-in")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(base), str(source)], check=True)
    (wheel,) = base.glob("asr-*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    python = environment / "bin" / "python"
    # A path in a .pth file gives the libraries of this environment, but not its own .pth files, so not an editable asr.
    packages = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], capture_output=True, text=True, check=True
    ).stdout.strip()
    (Path(packages) / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    subprocess.run([*pip, "--python", str(python), "install", "--no-deps", str(wheel)], check=True)
    return Installed(wheel, environment, base / "elsewhere")


def test_wheel_holds_every_module_and_yaml_and_nothing_else(installed: Installed) -> None:
    names = {name for name in zipfile.ZipFile(installed.wheel).namelist() if ".dist-info/" not in name}
    expected = {path.relative_to(ROOT).as_posix() for path in (ROOT / "asr").rglob("*.py")} | {
        "asr/py.typed",
        *(f"asr/pictures/{name}" for name in ("page.html", "report.html", "report.css")),
        *(f"asr/pictures/report_{name}.js" for name in ("alignment", "charts", "sound", "table")),
        *STAND_IN,
    }
    expected |= {path.relative_to(ROOT).as_posix() for path in (ROOT / "asr" / "models").rglob("*") if path.is_file()}
    for folder in ("conf", "recipes"):
        files = [path for path in (ROOT / folder).rglob("*") if path.suffix in {".yaml", ".md"}]
        expected |= {f"asr/{path.relative_to(ROOT).as_posix()}" for path in files}
    assert names == expected


def test_program_comes_from_the_wheel(installed: Installed) -> None:
    code = "import asr; from asr.config import conf_dir, recipes_dir; print(asr.__file__, conf_dir(), recipes_dir(), sep='\\n')"
    for place in installed.run("python", "-c", code).split():
        assert Path(place).is_relative_to(installed.environment)


def test_help_and_version(installed: Installed) -> None:
    assert "transcribe" in installed.run("asr", "--help")
    assert installed.run("asr", "--version").startswith("asr ")
    assert installed.run("python", "-m", "asr", "--version").startswith("asr ")


def test_models_that_ship_lie_in_the_wheel(installed: Installed) -> None:
    (found,) = [
        model for model in json.loads(installed.run("asr", "models", "--format", "json")) if model["name"] == "stand-in"
    ]
    assert Path(found["folder"]).is_relative_to(installed.environment)
    assert (found["title"], found["bytes"]) == ("a stand-in", 36)
    assert "config.yaml, tokenizer.json not found" in found["error"]


def test_configuration_composes_away_from_the_checkout(installed: Installed) -> None:
    own = installed.folder / "own"
    (own / "recipes").mkdir(parents=True)
    (own / "recipes" / "mine.yaml").write_text("defaults: [synthetic/digits]\nname: mine\n")
    text = installed.run("asr", "train", "+recipe=synthetic/digits", "--print-config")
    assert "name: digits" in text
    assert "name: mine" in installed.run("asr", "train", "--config-dir", "own", "+recipe=mine", "--print-config")
    assert "Did you mean seed?" in installed.run("asr", "train", "sed=5", code=2)


@pytest.mark.slow
def test_whole_pipeline_runs_away_from_the_checkout(installed: Installed) -> None:
    installed.run("asr", "prepare", "synthetic", "--utterances", "24", "6", "6")
    tiny = ["model.cnn.channels=[4,4]", "model.recurrent.layers=1", "model.recurrent.hidden_size=16", "trainer.epochs=1"]
    tiny += ["augment.speed=[]", "trainer.accelerator=cpu", "trainer.threads=1"]
    installed.run("asr", "train", "+recipe=synthetic/digits", *tiny)
    package = "runs/digits/package"
    assert (installed.folder / package / "model.safetensors").is_file()
    assert "WER" in installed.run("asr", "evaluate", package, "synthetic/test", "--device", "cpu")
    audio = next(
        path for path in (installed.folder / "data" / "raw" / "synthetic").rglob("*") if path.suffix in {".wav", ".flac"}
    )
    installed.run("asr", "transcribe", str(audio), "--model", package, "--format", "json", "-o", "out")
    (transcript,) = (installed.folder / "out").glob("*.json")
    assert "text" in json.loads(transcript.read_text())


def runtime_distributions() -> set[str]:
    """Names of all distributions that installing asr without extras brings along."""
    found: set[tuple[str, str]] = set()
    waiting = [("asr", "")]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in found:
            continue
        found.add((name, extra))
        try:
            requirements = [Requirement(line) for line in importlib.metadata.requires(name) or []]
        except importlib.metadata.PackageNotFoundError:  # one for other systems
            continue
        for item in requirements:
            if item.marker is None or item.marker.evaluate({"extra": extra}):
                waiting += [(canonicalize_name(item.name), wanted) for wanted in ("", *item.extras)]
    return {name for name, _ in found}


def test_nothing_is_needed_that_installing_does_not_bring(tmp_path: Path) -> None:
    """Every module imports where packages that only developers have are not there."""
    there = runtime_distributions()
    hidden = {
        module
        for module, names in importlib.metadata.packages_distributions().items()
        if not any(canonicalize_name(name) in there for name in names)
    }
    assert "pytest" in hidden
    for place in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for entry in Path(place).iterdir():
            stranger = entry.suffix == ".dist-info" and canonicalize_name(entry.name.partition("-")[0]) not in there
            if not stranger and entry.suffix != ".pth" and entry.name.partition(".")[0] not in hidden:
                (tmp_path / entry.name).symlink_to(entry)
    for name in ("asr", "conf", "recipes"):
        (tmp_path / name).unlink(missing_ok=True)
        (tmp_path / name).symlink_to(ROOT / name)
    code = f"""
import importlib, pkgutil, sys
sys.path.insert(0, {str(tmp_path)!r})
import asr
for module in pkgutil.walk_packages(asr.__path__, "asr."):
    if module.name != "asr.__main__":
        importlib.import_module(module.name)
import lhotse.dataset
"""
    result = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
