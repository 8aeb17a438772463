"""Places that cannot be written to, runs that cannot go on, Ctrl-C: said through the command line, and nothing is lost."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bad_input import Evil, Run, assert_refused, content, files_limited_to, write_wav

from asr.decoding.waveforms import decode_waveforms
from asr.engine.checkpoint import LAST, read_checkpoint, write_checkpoint

# Where to write


def test_output_that_is_a_file(pristine: Path, good: Path, table: Path, manifests: Path, run: Run, train: Run) -> None:
    before = content(good.parent)
    commands: list[tuple[object, ...]] = [
        ("transcribe", good, "--model", pristine, "-o", good),
        ("transcribe", good, "--model", pristine, "-o", good / "below"),
        ("evaluate", pristine, "corpus/all", "--manifests", manifests, "-o", good),
        ("prepare", "table", table, "--name", "new", "--manifests", good),
    ]
    for command in commands:
        outcome = run(*command)
        assert_refused(outcome, f"{good} is not a folder", "choose another folder")
        assert outcome.out == ""
    assert_refused(train(f"output={good}"), f"{good} is not a folder", "choose another folder")
    (manifests / "file").touch()
    assert_refused(run("prepare", "table", table, "--name", "file/all", "--manifests", manifests), "manifests/file")
    (manifests / "file").unlink()
    assert content(good.parent) == before


def test_output_that_may_not_be_written_to(
    pristine: Path, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    command = ("transcribe", good, "--model", pristine, "-o", tmp_path / "out")
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert_refused(run(*command), f"{tmp_path} may not be written to", "choose another folder", code=1)
    monkeypatch.undo()

    def forbidden(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", forbidden)
    assert_refused(run(*command), "out/good.txt: cannot be written: Permission denied", code=1)
    assert content(tmp_path / "out") == {}


def test_full_disk(pristine: Path, good: Path, table: Path, manifests: Path, tmp_path: Path, run: Run) -> None:
    """What was written before stays; what could not be written leaves nothing behind."""
    first = ("transcribe", good, "--model", pristine, "--format", "json", "-o", tmp_path / "out")
    assert run(*first).code == 0
    before = content(tmp_path)
    table.write_text("audio,text\ngood.wav,abc abc\n")
    commands: list[tuple[tuple[object, ...], str]] = [
        (first, "out/good.json"),
        (("evaluate", pristine, "corpus/all", "--manifests", manifests, "-o", tmp_path / "out"), "out/corpus-all.jsonl"),
        (("prepare", "table", table, "--name", "corpus", "--manifests", manifests), "corpus/all.partial.jsonl"),
    ]
    for command, name in commands:
        with files_limited_to(100):
            outcome = run(*command)
        assert_refused(outcome, f"{name}: cannot be written: File too large", code=1)
    after = content(tmp_path)
    after.pop("manifests/corpus/all.partial.jsonl", None)
    after["table.csv"] = before["table.csv"]
    assert after == before


def test_full_disk_behind_standard_output(tmp_path: Path) -> None:
    code = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)); from asr.cli import main; "
    code += "sys.exit(main(['train', '--print-config']))"
    command = [sys.executable, "-c", code]
    buffered = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    with open(tmp_path / "out.yaml", "w") as out:
        process = subprocess.run(command, env=buffered, stdout=out, stderr=subprocess.PIPE, text=True, check=False)
    assert process.stderr.startswith("asr train: error: standard output cannot be written: ")
    assert process.stderr.count("\n") == 1
    assert process.returncode == 1


# Runs


@pytest.fixture
def finished(tmp_path: Path, train: Run) -> Path:
    """A run of one epoch."""
    outcome = train()
    assert outcome.code == 0, outcome.err
    return tmp_path / "run"


def kept(folder: Path) -> dict[str, bytes | None]:
    """What a failed command must leave as it is: all but the log."""
    return {name: data for name, data in content(folder).items() if not name.startswith(("train.log", "tensorboard"))}


def test_runs_that_cannot_go_on(finished: Path, tmp_path: Path, train: Run) -> None:
    """A checkpoint or settings that are broken, or of another run: said at once, and everything stays as it was."""
    checkpoint = finished / LAST
    whole, good = checkpoint.read_bytes(), read_checkpoint(checkpoint)
    more = "trainer.epochs=2"
    assert_refused(train(more, "model.recurrent.layers=2"), "holds a run with another model", "output=", str(finished))
    broken = {
        "truncated": whole[: len(whole) // 2],
        "random": np.random.default_rng(1).bytes(5000),
        "empty": b"",
        "code": pickle.dumps(Evil(tmp_path / "trace"), protocol=2),  # the one that torch uses
    }
    for data in broken.values():
        checkpoint.write_bytes(data)
        before = kept(finished)
        assert_refused(train(more), f"{checkpoint}: cannot be read as a checkpoint", "Remove last.ckpt", "output=")
        assert kept(finished) == before
    for made, words in (
        ({"epoch": 0, "evil": Evil(tmp_path / "trace")}, "cannot be read as a checkpoint"),
        ({"epoch": 0, "state_dict": {}}, "cannot be read as a checkpoint (it lacks callbacks"),
        ({**good, "run": {**good["run"], "settings": {"modle": 1}}}, "cannot be read as a checkpoint"),
    ):
        checkpoint.unlink()
        write_checkpoint(finished, made)
        assert_refused(train(more), f"{checkpoint}: {words}", "Remove last.ckpt")
    assert not (tmp_path / "trace").exists()
    checkpoint.write_bytes(whole)
    (finished / "config.yaml").write_text("hello")  # the checkpoint knows the settings
    assert train(more).code == 0


def test_a_full_disk_in_training_keeps_package_and_checkpoint(finished: Path, train: Run) -> None:
    before = kept(finished)
    with files_limited_to((finished / "package" / "model.safetensors").stat().st_size - 1):
        outcome = train("trainer.epochs=2")
    assert_refused(outcome, "cannot write", "run/package", "File too large", "free some space", code=1)
    after = kept(finished)
    assert [after.pop("config.yaml") is None, before.pop("config.yaml") is None] == [False, False]  # has the new epochs
    assert after == before
    assert train("trainer.epochs=2").code == 0


def test_a_foreign_folder_in_the_package_s_place_is_found_before_training(tmp_path: Path, train: Run) -> None:
    (tmp_path / "run" / "package").mkdir(parents=True)
    (tmp_path / "run" / "package" / "diary.txt").write_text("dear diary")
    assert_refused(train(), "run/package exists and is not a model package", "choose another folder")
    assert content(tmp_path / "run") == {"package": None, "package/diary.txt": b"dear diary"}


@pytest.mark.parametrize("name", ["config.yaml", "result.json", "metrics.csv", "left-out.jsonl"])
def test_files_of_others_in_the_output_folder_are_not_overwritten(name: str, tmp_path: Path, train: Run) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).write_text("dear diary")
    assert_refused(train(), f"run: holds a {name} of its own, and no train.log of a run", "Choose another output")
    assert content(tmp_path / "run") == {name: b"dear diary"}


# Ctrl-C


def interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_interrupted_transcription_keeps_what_is_done(
    pristine: Path, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    calls: list[Any] = []

    def second_fails(*arguments: Any, **options: Any) -> Any:
        calls.append(arguments)
        return interrupt() if len(calls) > 1 else decode_waveforms(*arguments, **options)

    monkeypatch.setattr("asr.transcription.recogniser.decode_waveforms", second_fails)
    long = write_wav(tmp_path / "long.wav", 29.5)  # a batch of its own
    outcome = run("transcribe", long, good, "--model", pristine, "-o", tmp_path / "out")
    assert_refused(outcome, "asr transcribe: interrupted", code=130)
    assert list(content(tmp_path / "out")) == ["long.txt"]


def test_interrupted_preparation_leaves_the_manifest_before(
    manifests: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    before = content(manifests)
    write_wav(tmp_path / "new.wav")
    with table.open("a") as file:
        file.write("new.wav,a\n")
    monkeypatch.setattr("asr.files.os.replace", interrupt)
    command = ("prepare", "table", table, "--name", "corpus", "--manifests", manifests)
    assert_refused(run(*command), "asr prepare: interrupted", code=130)
    monkeypatch.undo()
    after = content(manifests)
    assert after.pop("corpus/all.partial.jsonl")
    assert before.pop("corpus/all.info.json")  # what says that the manifest is up to date goes first
    assert after == before
    assert "5 utterances" in run(*command).out
    assert "corpus/all.partial.jsonl" not in content(manifests)
