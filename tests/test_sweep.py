"""``train --multirun``: a run for each combination, a table, and what happens when one fails or is stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import wait
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from beeps import small_overrides, write_corpus

import asr.training.sweep
from asr.cli import main
from asr.compose import compose, expand
from asr.config import Config
from asr.config_mapping import to_yaml
from asr.errors import ConfigError
from asr.files import replacing
from asr.package.load import weights_hash
from asr.training.results import is_evaluated
from asr.training.sweep import Job, Processes, _table, build_jobs, sweep


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("beeps")
    for name in ("train", "dev"):
        write_corpus(folder, name, ["a", "b c", "ab", "ca b"])
    return folder


def jobs_of(base: Path, *overrides: str, epochs: int = 2) -> list[Job]:
    config = Config()
    config.trainer.epochs = epochs
    combinations = expand(overrides)
    return build_jobs(combinations, [config] * len(combinations), base)


def stand_in(monkeypatch: pytest.MonkeyPatch, run: Callable[..., int]) -> None:
    """Let a function take the place of the commands that a sweep runs."""
    monkeypatch.setattr(Processes, "run", lambda self, log, *arguments: run(log, *arguments))


def fake(
    codes: dict[str, int], calls: list[tuple[str, ...]], left_out: dict[str, dict[str, str]] | None = None
) -> Callable[..., int]:
    """Stand in for the subprocess: leaves the files of a run whose word error rate is its seed in per cent."""

    def run(log: Path | None, *arguments: str) -> int:
        calls.append(arguments)
        folder = Path(arguments[1]).parent if arguments[0] == "evaluate" else Path(arguments[-1].split("'")[1])
        code = next((code for name, code in codes.items() if name in folder.name), 0)
        if code:
            return code
        seed = int(folder.name.partition("seed=")[2][0])
        if arguments[0] == "evaluate":
            rate = {"rate": seed / 100}
            (folder / "test").mkdir(exist_ok=True)
            with replacing(folder / "test" / "mine-test.json") as file:
                scores = {"wer": rate, "cer": rate, "signature": f"checkpoint:{weights_hash(folder / 'package')}|corpus:mine"}
                file.write(json.dumps(scores | {"left_out": (left_out or {}).get(folder.name, {})}).encode())
        else:
            (folder / "package").mkdir(parents=True, exist_ok=True)
            (folder / "package" / "config.yaml").touch()
            (folder / "package" / "model.safetensors").write_text(f"weights {len(calls)}")
            result = {
                "checkpoint": weights_hash(folder / "package"),
                "parameters": 1234,
                "epochs": 2,
                "trained_s": 61.0,
                "best_epoch": 2,
                "dev_wer": 0.5,
                "dev_cer": None,
            }
            with replacing(folder / "result.json") as file:  # others are being read meanwhile
                file.write(json.dumps(result | {"dev_cer": 0.25}).encode())
        return 0

    return run


def test_each_combination_has_a_folder(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path, "+recipe=cells/lstm,cells/gru", "seed=1,2", "name=x")
    assert [job.folder.name for job in jobs] == [
        "recipe=cells-lstm,seed=1",
        "recipe=cells-lstm,seed=2",
        "recipe=cells-gru,seed=1",
        "recipe=cells-gru,seed=2",
    ]
    assert jobs[3].values == {"recipe": "cells/gru", "seed": "2"}
    assert jobs[3].overrides == ("+recipe=cells/gru", "seed=2", "name=x", f"output='{jobs[3].folder}'")


def test_folders_are_of_one_run_each(tmp_path: Path) -> None:
    for overrides in (["seed=1,1"], ["name=a/b,a-b"], ["seed=1,2", "seed=1"]):
        with pytest.raises(ConfigError, match="would both be trained in"):
            jobs_of(tmp_path, *overrides)
    with pytest.raises(ConfigError, match="too long for the name of a folder"):
        jobs_of(tmp_path, f"name=a,{'x' * 260}")


@pytest.mark.parametrize("name", ["it's", "ends in \\", "a \\' b", "ü, x"])
def test_any_folder_is_one_value(name: str, tmp_path: Path) -> None:
    (job,) = jobs_of(tmp_path / name, "seed=1")
    assert compose(job.overrides[1:]).output == str(tmp_path / name / "run")


def test_quoted_values(tmp_path: Path) -> None:
    first, second = jobs_of(tmp_path, "name='a,b','c'")
    assert [compose(job.overrides).name for job in (first, second)] == ["a,b", "c"]
    assert compose(first.overrides).output == str(first.folder)


def test_a_folder_of_other_settings_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (job,) = jobs_of(tmp_path, "seed=1")
    job.folder.mkdir()
    (job.folder / "config.yaml").write_text("damaged: [")
    build_jobs([["seed=1"]], [job.config], tmp_path)  # nothing is there to go on from
    (job.folder / "last.ckpt").touch()
    (job.folder / "config.yaml").write_text(to_yaml(job.config))

    def again(**sections: object) -> None:
        build_jobs([["seed=1"]], [replace(job.config, **sections)], tmp_path)  # type: ignore[arg-type]

    trainer = job.config.trainer
    again(output="elsewhere", trainer=replace(trainer, threads=7, epochs=40, progress="none"))
    with pytest.raises(ConfigError, match=r"run with another optim\.lr: its figures"):
        again(optim=replace(job.config.optim, lr=0.5))
    with pytest.raises(ConfigError, match=r"another trainer\.batch_s"):
        again(trainer=replace(trainer, batch_s=7.0))


def test_table_and_means_of_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, ...]] = []
    stand_in(monkeypatch, fake({}, calls))
    jobs = jobs_of(tmp_path, "seed=1,3", "model.recurrent.cell=gru")
    assert sweep(jobs, tmp_path, parts=["mine/test"]) == 0
    assert (tmp_path / "results.md").read_text().splitlines() == [
        "| seed | parameters | training | best epoch | dev WER | dev CER | mine/test WER | mine/test CER |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        "| 1 | 1,234 | 0:01:01 | 2 | 50.00 % | 25.00 % | 1.00 % | 1.00 % |",
        "| 3 | 1,234 | 0:01:01 | 2 | 50.00 % | 25.00 % | 3.00 % | 3.00 % |",
        "",
        "Means of the seeds, with the lowest and the highest:",
        "",
        "| runs | parameters | training | best epoch | dev WER | dev CER | mine/test WER | mine/test CER |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        "| 2 | 1,234 | 0:01:01 | 2 | 50.00 % | 25.00 % | 2.00 % (1.00 % to 3.00 %) | 2.00 % (1.00 % to 3.00 %) |",
    ]
    assert [call[0] for call in calls] == ["train", "evaluate"] * 2


def test_only_what_is_not_complete_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, ...]] = []
    stand_in(monkeypatch, fake({}, calls))
    jobs = jobs_of(tmp_path, "seed=1,2")
    sweep(jobs[:1], tmp_path)
    sweep(jobs, tmp_path)
    assert len(calls) == 2
    sweep(jobs, tmp_path, parts=["mine/test"])
    assert [call[0] for call in calls[2:]] == ["evaluate", "evaluate"]
    os.utime(tmp_path / "seed=1/test/mine-test.json", (0, 0))  # the package was written anew since
    assert "| 1 |" in _table(jobs, [])
    assert "| 1 |" not in _table(jobs, ["mine/test"])
    calls.clear()
    sweep(jobs_of(tmp_path, "seed=1,2", epochs=3), tmp_path)
    assert [call[0] for call in calls] == ["train", "train"]


def test_what_is_damaged_or_gone_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, ...]] = []
    stand_in(monkeypatch, fake({}, calls))
    jobs = jobs_of(tmp_path, "seed=1,2")
    sweep(jobs, tmp_path, parts=["mine/test"])
    for file in ("result.json", "package/config.yaml", "package/model.safetensors", "test/mine-test.json"):
        calls.clear()
        path = tmp_path / "seed=2" / file
        content = path.read_bytes()
        path.unlink() if path.suffix == ".yaml" else path.write_bytes(content[:5])
        sweep(jobs, tmp_path, parts=["mine/test"])
        assert calls[0][0] == ("evaluate" if file.startswith("test") else "train")
        assert all("seed=2" in " ".join(call) for call in calls)
        assert "| 2 |" in _table(jobs, ["mine/test"])


def test_scores_of_other_weights_are_not_those_of_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An evaluation that began before the package was written anew ends after it."""
    calls: list[tuple[str, ...]] = []
    stand_in(monkeypatch, fake({}, calls))
    (job,) = jobs_of(tmp_path, "seed=1,2")[:1]
    sweep([job], tmp_path, parts=["mine/test"])
    scores = job.folder / "test" / "mine-test.json"
    scores.write_text(scores.read_text().replace("checkpoint:", "checkpoint:0"))
    assert not is_evaluated(job.folder, "mine/test")
    sweep([job], tmp_path, parts=["mine/test"])
    assert [call[0] for call in calls] == ["train", "evaluate", "evaluate"]
    assert is_evaluated(job.folder, "mine/test")


def test_a_run_without_its_package_has_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its checkpoint is at the end, so training it once more makes none."""
    stand_in(monkeypatch, lambda log, *arguments: 0)
    said: list[str] = []
    assert sweep(jobs_of(tmp_path, "seed=1,2"), tmp_path, parts=["mine/test"], say=said.append) == 1
    assert "remove " in said[1]


def test_an_error_beside_the_runs_stops_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, ...]] = []
    run = fake({}, calls)

    def slow(log: Path | None, *arguments: str) -> int:
        time.sleep(0.5)
        return run(log, *arguments)

    stand_in(monkeypatch, slow)
    jobs = jobs_of(tmp_path, "seed=1,2,3,4")
    (tmp_path / "results.md").mkdir()
    with pytest.raises(ConfigError, match=r"results\.md: is a folder"):
        sweep(jobs, tmp_path)
    assert len(calls) < 4


def test_utterances_left_out_are_no_failure_and_told_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = fake({}, [], left_out={"seed=2": {"u1": "u1.wav: no such audio file"}})
    stand_in(monkeypatch, lambda log, *arguments: run(log, *arguments) or 3 * (arguments[:2] == evaluation))
    evaluation = ("evaluate", str(tmp_path / "seed=2" / "package"))
    for _ in range(2):  # what is done is not done again
        said: list[str] = []
        assert sweep(jobs_of(tmp_path, "seed=1,2"), tmp_path, parts=["mine/test"], say=said.append) == 3
        assert said[-1] == "seed=2: figures of mine/test without 1 whose audio could not be read"
        assert not any("failed" in line for line in said)


def test_a_failure_does_not_stop_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    stand_in(monkeypatch, fake({"seed=1": 2}, []))
    assert sweep(jobs_of(tmp_path, "seed=1,2"), tmp_path, say=said.append) == 1
    assert said[-1] == "1 of 2 runs failed: seed=1"
    assert "| 2 |" in (tmp_path / "results.md").read_text()


def programs(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """Let a program of Python take the place of asr, so that what is run is a process."""
    original = subprocess.Popen

    def popen(command: list[str], **keywords: Any) -> subprocess.Popen[bytes]:
        return original([sys.executable, "-c", program, *command[3:]], **keywords)

    monkeypatch.setattr(subprocess, "Popen", popen)


def test_a_run_that_is_killed_has_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the kernel, for want of memory: its code is negative."""
    programs(monkeypatch, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    said: list[str] = []
    assert sweep(jobs_of(tmp_path, "seed=1,2"), tmp_path, parts=["mine/test"], say=said.append) == 1
    assert "seed=1 failed with exit code 137" in said
    assert any(text.startswith("2 of 2 runs failed") for text in said)


def test_an_interruption_stops_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, ...]] = []
    stand_in(monkeypatch, fake({"seed=1": 130}, calls))
    assert sweep(jobs_of(tmp_path, "seed=1,2"), tmp_path) == 130
    assert len(calls) == 1


def test_runs_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meeting = threading.Barrier(2, timeout=30)  # each waits for another: one at a time would never go on
    finish = fake({}, [])

    def run(log: Path | None, *arguments: str) -> int:
        assert log is not None
        assert log.name == "output.log"
        meeting.wait()
        return finish(log, *arguments)

    stand_in(monkeypatch, run)
    assert sweep(jobs_of(tmp_path, "seed=1,2,3,4"), tmp_path, side_by_side=2) == 0
    assert [line[:3] for line in (tmp_path / "results.md").read_text().splitlines()[2:6]] == ["| 1", "| 2", "| 3", "| 4"]


def test_what_runs_side_by_side_print_is_kept(corpus: Path, tmp_path: Path) -> None:
    command = [*small_overrides(corpus), f"output={tmp_path}/out"]
    overrides = [text for text in command if not text.startswith("trainer.epochs")]
    assert main(["train", "--multirun", *overrides, "trainer.epochs=1,0", "--jobs", "2"]) == 2  # nothing starts
    assert not (tmp_path / "out").exists()
    assert main(["train", "--multirun", *command, "corpus.train=[none]", "--jobs", "2"]) == 2
    assert not (tmp_path / "out").exists()
    (tmp_path / "none.jsonl").touch()
    command += [f"corpus.train=[{tmp_path}/none.jsonl]", "model.head.dropout=0.1"]
    assert main(["train", "--multirun", *command, "--jobs", "2"]) == 1
    assert "the manifest is empty" in (tmp_path / "out/run/output.log").read_text()


def test_an_interruption_lets_the_others_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started, finished = threading.Event(), []

    def run(log: Path | None, *arguments: str) -> int:
        started.set()
        time.sleep(0.5)
        finished.append(arguments)
        return 130

    def interrupt(*arguments: Any, **keywords: Any) -> Any:
        started.wait(30)
        monkeypatch.setattr(asr.training.sweep, "wait", wait)
        raise KeyboardInterrupt

    stand_in(monkeypatch, run)
    monkeypatch.setattr(asr.training.sweep, "wait", interrupt)
    assert sweep(jobs_of(tmp_path, "seed=1,2,3"), tmp_path, side_by_side=1) == 130
    assert len(finished) == 1


@pytest.mark.parametrize("ends", ["signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))", "pass"])
def test_a_signal_is_passed_on(ends: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To a run that saves and ends, and to one that has not come so far and is killed by it."""
    here = tmp_path / "started"
    programs(monkeypatch, f"import pathlib, signal, sys, time; {ends}; pathlib.Path({str(here)!r}).touch(); time.sleep(60)")

    def interrupt() -> None:
        while not here.exists():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=interrupt)
    thread.start()
    said: list[str] = []
    start = time.monotonic()
    assert sweep(jobs_of(tmp_path, "seed=1,2"), tmp_path, say=said.append) == 130
    assert time.monotonic() - start < 50
    thread.join()
    assert said == ["[1/2] seed=1", "stopped in seed=1; the same command goes on"]
    assert signal.getsignal(signal.SIGTERM) is before


def test_command(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """Trainings are processes; what is measured after them is measured in this one, which has imported everything."""
    original = Processes.run

    def run(self: Processes, log: Path | None, *arguments: str) -> int:
        return main(arguments) if arguments[0] == "evaluate" else original(self, log, *arguments)

    monkeypatch.setattr(Processes, "run", run)
    overrides = [*small_overrides(corpus), "trainer.epochs=1", f"output={tmp_path}/out"]
    command = ["train", "--multirun", *overrides, "optim.lr=0.01,0.02", "--evaluate", f"{corpus}/dev.jsonl"]
    overrides.remove("optim.lr=0.02")
    command.remove("optim.lr=0.02")
    assert main(command) == 0
    table = (tmp_path / "out/results.md").read_text()
    rows = [line.split(" | ")[0] for line in table.splitlines()]
    assert rows[:4] == ["| optim.lr", "| ---", "| 0.01", "| 0.02"]
    assert "dev.jsonl, each run against the best:" in table
    assert rows[-1].startswith("- optim.lr=0.0")
    assert f"{corpus}/dev.jsonl WER" in table
    assert table in capfd.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--multirun", "seed=1,x"], "seed"),
        (["--multirun", "trainer.epoch=1,2"], "Did you mean trainer.epochs"),
        (["--multirun", "seed=1,2", "--print-config"], "leave out --multirun"),
        (["--multirun", "seed=1,2"], "corpus.train is empty"),
        (["--multirun", "seed=1,2", "corpus.train=[mine/none]"], "mine/none"),
        (["--multirun", "corpus.train=[mine/none]", "seed=interval(1,2)"], "seed=interval(1,2)"),
        (["--multirun", "corpus.train=[mine/none]", "model=glob(*)"], "model=glob(*)"),
        (["--multirun", "corpus.train=[mine/none]", "seed=range(3,1)"], "no value at all"),
        (["--multirun", "seed=1,2", "--evaluate", "optim.lr=0.1"], "before --evaluate"),
        (["--multirun", "seed=1,2", "--evaluate", "a/mine.jsonl", "b/mine.jsonl"], "are called mine as well"),
        (["seed=1", "--evaluate", "mine/test"], "--evaluate goes with --multirun"),
        (["seed=1", "--jobs", "2"], "--jobs goes with --multirun"),
        (["--multirun", "seed=1,2", "--jobs", "0"], "'0'"),
        (["seed=1,2"], "give --multirun"),
        (["--multirun", "seed=1,2", "--evaluate", "mine/none"], "mine/none"),
    ],
)
def test_what_cannot_be(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *arguments]) == 2
    assert message in capsys.readouterr().err
