"""Dispatch, help, errors and exit codes of the command line."""

from __future__ import annotations

import argparse
import errno
import os
import shutil
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest

from asr import cli
from asr.errors import AudioError, PackageError, StorageError, TrainingDiverged

Fake = Callable[[Callable[[argparse.Namespace], int]], None]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Install a command ``fake`` with a given body."""

    def install(body: Callable[[argparse.Namespace], int]) -> None:
        module = types.ModuleType("asr.commands.fake")
        module.__dict__.update(run=body, add_arguments=lambda parser: parser.add_argument("--n", type=int))
        monkeypatch.setitem(sys.modules, "asr.commands.fake", module)
        monkeypatch.setitem(cli.COMMANDS, "fake", "a stand-in")

    return install


def raising(error: BaseException) -> Callable[[argparse.Namespace], int]:
    def body(_: argparse.Namespace) -> int:
        raise error

    return body


def test_exit_code_is_the_command_s(fake: Fake) -> None:
    fake(lambda args: int(args.n))
    assert cli.main(["fake", "--n", "3"]) == 3


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (AudioError("a.wav: empty"), 2, "asr fake: error: a.wav: empty"),
        (TrainingDiverged("loss is nan"), 1, "asr fake: error: loss is nan"),
        (StorageError("disk is full"), 1, "asr fake: error: disk is full"),
        (KeyboardInterrupt(), 130, "asr fake: interrupted"),
        (OSError(errno.ENOSPC, "No space left on device", "runs/x"), 1, "asr fake: error: cannot write runs/x: No space left"),
        (PermissionError(errno.EACCES, "Permission denied", "runs/x"), 1, "asr fake: error: cannot write runs/x: Permission"),
        (OSError(errno.EIO, "Input/output error", "x.bin"), 1, "asr fake: error: cannot read or write x.bin: Input/output"),
        (shutil.Error([("a/b", "c/b", "Permission denied")]), 1, "asr fake: error: cannot copy a/b: Permission denied"),
    ],
)
def test_error_becomes_a_message_and_an_exit_code(
    fake: Fake, capsys: pytest.CaptureFixture[str], error: BaseException, code: int, words: str
) -> None:
    fake(raising(error))
    assert cli.main(["fake"]) == code
    captured = capsys.readouterr()
    assert words in captured.err
    assert "Traceback" not in captured.err


def test_what_may_not_be_read_is_not_called_unwritable(
    fake: Fake, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever runs the tests may read all, so the system's answer is stood in for."""
    file = tmp_path / "dev.jsonl.gz"
    file.touch()
    fake(raising(PermissionError(errno.EACCES, "Permission denied", str(file))))
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != file and access(path, mode))
    assert cli.main(["fake"]) == 2
    assert f"cannot read {file}: Permission denied; change" in capsys.readouterr().err
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path and access(path, mode))
    assert cli.main(["fake"]) == 2
    assert f"cannot read {file}: Permission denied; {tmp_path} may not be looked into" in capsys.readouterr().err


def after(cause: BaseException, error: Exception) -> Exception:
    """Return an error that was raised while another was handled, which it does not show."""
    try:
        try:
            raise cause
        except BaseException:
            raise error from None
    except Exception as raised:
        return raised


TORCH = RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: Error code 12")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 3.2 GiB for an array"),
        MemoryError(),
        TORCH,
        RuntimeError("CUDA out of memory. Tried to allocate 20 MiB"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
        OSError("cannot load library 'libsndfile.so': cannot open shared object file: Cannot allocate memory"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        after(
            RuntimeError("mmap failed: Cannot allocate memory"), PackageError("ngram.bin: KenLM cannot read it: mmap failed")
        ),
    ],
)
def test_a_lack_of_memory_is_named_and_no_file_is_blamed(
    fake: Fake, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    fake(raising(error))
    assert cli.main(["fake"]) == 1
    captured = capsys.readouterr()
    assert "asr fake: error: there is not enough memory: " in captured.err
    assert "Traceback" not in captured.err


def test_what_a_library_makes_of_ctrl_c_is_ctrl_c(fake: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    fake(raising(after(KeyboardInterrupt(), AudioError("a.wav: is truncated"))))
    assert cli.main(["fake"]) == 130
    assert capsys.readouterr().err == "asr fake: interrupted\n"
    fake(raising(after(KeyboardInterrupt(), StorageError("what was done cannot be saved"))))
    assert cli.main(["fake"]) == 1
    assert "cannot be saved" in capsys.readouterr().err


def test_a_file_that_asks_for_memory_that_nobody_has_is_at_fault(fake: Fake) -> None:
    fake(raising(after(MemoryError(), AudioError("a.m4a: is corrupt"))))
    assert cli.main(["fake"]) == 2


def test_fault_of_ours_shows_where_it_is(fake: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    for error in (ZeroDivisionError("oops"), FileNotFoundError(errno.ENOENT, "oops")):
        fake(raising(error))
        assert cli.main(["fake"]) == 1
        captured = capsys.readouterr()
        assert "Traceback" in captured.err
        assert "oops" in captured.err


@pytest.mark.parametrize("arguments", [[], ["trian"], ["--wrong"], ["fake", "--wrong"], ["fake", "--n", "x"]])
def test_wrong_usage_is_exit_code_2(fake: Fake, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    fake(lambda _: 0)
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    assert "asr" in captured.out + captured.err


@pytest.mark.parametrize("arguments", [["--n", "1", "--", "-a", "b"], ["--", "-a", "b"]])
def test_names_may_begin_with_a_dash(fake: Fake, arguments: list[str]) -> None:
    fake(lambda args: int(args.names == ["-a", "b"]))
    module = sys.modules["asr.commands.fake"]
    with_n = module.add_arguments
    module.__dict__["add_arguments"] = lambda parser: (with_n(parser), parser.add_argument("names", nargs="+"))
    assert cli.main(["fake", *arguments]) == 1


def test_unknown_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["trian"])
    assert "Did you mean train?" in capsys.readouterr().err


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    for name, summary in cli.COMMANDS.items():
        assert f"{name} " in text
        assert summary in text


def test_commands_are_those_of_the_folder() -> None:
    folder = Path(cli.__file__).parent / "commands"
    shared = {"__init__", "arguments", "numbers", "overrides"}
    assert {path.stem for path in folder.glob("*.py")} - shared == set(cli.COMMANDS)


ACTIONS = [f"prepare {corpus}" for corpus in ("librispeech", "synthetic", "spoken", "table", "kaldi")]
ACTIONS += [f"lm {action}" for action in ("train", "score", "predict", "sample")]


@pytest.mark.parametrize("name", [*sorted(cli.COMMANDS), *ACTIONS])
def test_help_of_a_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*name.split(), "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: asr {name}")
    assert len(text) > 200


def test_help_starts_quickly() -> None:
    times = []
    for _ in range(3):
        before = os.times()
        subprocess.run([sys.executable, "-m", "asr", "--help"], check=True, capture_output=True)
        after = os.times()
        # Processor time: on a busy machine the clock on the wall measures the others.
        times.append(after.children_user - before.children_user + after.children_system - before.children_system)
    assert min(times) < 0.3


@pytest.mark.parametrize("name", sorted(cli.COMMANDS))
def test_help_of_a_command_imports_nothing_heavy(name: str) -> None:
    code = f"""
import sys
from asr.cli import main
main([{name!r}, "--help"])
print(sorted({{"torch", "lightning", "lhotse", "torchaudio"}} & set(sys.modules)))
others = {sorted(set(cli.COMMANDS) - {name})!r}
print([other for other in others if f"asr.commands.{{other}}" in sys.modules])
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-2:] == ["[]", "[]"]


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    import asr

    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"asr {asr.__version__}\n"


def test_train_prints_what_it_composed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "+recipe=synthetic/digits", "--print-config", "trainer.epochs=77"]) == 0
    text = capsys.readouterr().out
    assert "epochs: 77" in text
    assert "name: digits" in text


def test_lm_train_help_shows_what_can_be_set_own_files_included(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "lm").mkdir()
    (tmp_path / "lm" / "mine.yaml").write_text("hidden_size: 7\n")
    assert cli.main(["lm", "train", "--config-dir", str(tmp_path), "--help"]) == 0
    text = capsys.readouterr().out
    for word in ("KEY=VALUE", "--print-config", "lm.hidden_size=", "ngram", "mine"):
        assert word in text


def test_lm_train_prints_what_it_composed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["lm", "train", "lm=lstm", "--print-config", "lm.hidden_size=77"]) == 0
    assert "hidden_size: 77" in capsys.readouterr().out


def test_train_help_shows_what_can_be_set_own_files_included(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "mine.yaml").write_text("name: mine\n")
    assert cli.main(["train", "--config-dir", str(tmp_path), "--help"]) == 0
    text = capsys.readouterr().out
    for word in ("KEY=VALUE", "--print-config", "trainer.epochs=", "synthetic/digits", "  mine\n"):
        assert word in text


@pytest.mark.parametrize(("overrides", "words"), [(["sed=5"], "Did you mean seed?"), ([], "corpus.train is empty")])
def test_train_refuses_what_cannot_be(
    overrides: list[str], words: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", *overrides]) == 2
    assert words in capsys.readouterr().err


def test_pressing_ctrl_c_again_changes_nothing() -> None:
    """Libraries have work to do while the process ends, which a second signal would end in a traceback."""
    press = "os.kill(os.getpid(), signal.SIGINT)"
    code = f"import atexit, os, signal, sys; from asr import cli; atexit.register(lambda: {press}); "
    code += f"cli._run = lambda _: {press}; sys.exit(cli.main())"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (process.returncode, process.stderr) == (130, "asr: interrupted\n")
