"""``asr transcribe``: files, folders and standard input to every format."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import srt
import torch
import webvtt
from conftest import spoken

from asr.cli import main
from asr.progress import Progress
from asr.transcription.recogniser import Recogniser
from asr.transcription.writers import FORMATS

RATE = 16000
Run = Callable[..., tuple[str, str]]


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    names = []
    for index, name in enumerate(["a.wav", "b.flac", "c.mp3"]):
        soundfile.write(tmp_path / name, spoken(2.0, seed=index), RATE)
        names.append(str(tmp_path / name))
    return names


@pytest.fixture
def run(package: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command with the model of random weights; returns what it printed to standard output and error."""

    def call(*arguments: object, code: int = 0) -> tuple[str, str]:
        capsys.readouterr()
        assert main(["transcribe", "--model", str(package), *map(str, arguments)]) == code
        captured = capsys.readouterr()
        return captured.out, captured.err

    return call


def names_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def give(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


# What is printed


def test_text_of_one_is_plain_and_of_several_is_named(run: Run, files: list[str]) -> None:
    plain, _ = run(files[0])
    assert plain.strip()
    lines = run(*files)[0].splitlines(keepends=True)
    assert lines[0] == f"{files[0]}: {plain}"
    assert [line.partition(": ")[0] for line in lines] == files


def test_no_line_is_empty(run: Run, files: list[str], tmp_path: Path) -> None:
    quiet = tmp_path / "quiet.wav"
    soundfile.write(quiet, np.zeros(RATE), RATE)
    notice = f"asr transcribe: {quiet}: holds nothing but digital silence, or what is too faint for 16 bits\n"
    assert run(quiet) == ("", notice)
    out, err = run(files[0], quiet)
    assert out.splitlines()[1] == f"{quiet}: "
    assert err == notice
    run(quiet, "-o", tmp_path / "out", "--format", "all")
    assert (tmp_path / "out" / "quiet.txt").read_bytes() == b""


def test_json_lines(run: Run, files: list[str]) -> None:
    mappings = [json.loads(line) for line in run("--format", "json", *files)[0].splitlines()]
    assert [mapping["file"] for mapping in mappings] == files
    assert mappings[0]["model"]["name"] == "nonsense"
    assert all("words" not in segment for mapping in mappings for segment in mapping["segments"])


def test_words_in_json(run: Run, files: list[str]) -> None:
    (segment,) = json.loads(run("--words", "--format", "json", files[0])[0])["segments"]
    assert " ".join(word["text"] for word in segment["words"]) == segment["text"]


def test_ctm_of_several_is_sorted(run: Run, files: list[str]) -> None:
    rows = [row.split() for row in run("--format", "ctm", *reversed(files))[0].splitlines()]
    assert sorted({row[0] for row in rows}) == ["a", "b", "c"]
    keys = [(row[0], float(row[2])) for row in rows]
    assert keys == sorted(keys)


def test_names_that_are_no_text(run: Run, files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes of the name are printed as they are."""
    name = os.fsencode(tmp_path) + b"/caf\xe9.wav"
    os.rename(files[0], name)
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, encoding="utf-8"))
    run(os.fsdecode(name), files[1])
    assert printed.getvalue().startswith(name + b": ")
    run("--format", "json", "-o", tmp_path / "out", os.fsdecode(name))
    (written,) = (tmp_path / "out").iterdir()
    assert os.fsencode(json.loads(written.read_bytes())["file"]) == name  # valid UTF-8


def test_names_of_several_lines(run: Run, files: list[str], tmp_path: Path) -> None:
    name = f"{tmp_path}/a\nb: all well\x1b[1m.wav"
    os.rename(files[0], name)
    printed, errors = run(name, f"{name}\n", files[1], code=3)
    shown = f"{tmp_path}/a\\x0ab: all well\\x1b[1m.wav"
    assert [line.rpartition(": ")[0] for line in printed.splitlines()] == [shown, files[1]]
    assert errors.splitlines()[-1] == f"asr transcribe: 1 of 3 files could not be transcribed: {shown}\\x0a"


def test_a_reader_that_goes_away(package: Path, files: list[str]) -> None:
    command = [sys.executable, "-m", "asr", "transcribe", "--model", str(package), *files]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    process.wait()


# What is written


def test_all_formats_at_once(run: Run, files: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run("--format", "all", "-o", out, files[0]) == ("", "")
    assert names_below(out) == sorted(f"a.{format}" for format in FORMATS)
    text = (out / "a.txt").read_text().strip()
    words = text.split()
    mapping = json.loads((out / "a.json").read_text())
    assert mapping["text"] == text
    assert [word["text"] for segment in mapping["segments"] for word in segment["words"]] == words
    assert " ".join(item.content for item in srt.parse((out / "a.srt").read_text())).split() == words
    assert " ".join(item.text for item in webvtt.read(str(out / "a.vtt")).captions).split() == words
    assert [row.split()[4] for row in (out / "a.ctm").read_text().splitlines()] == words
    assert " ".join(row.split("\t")[2] for row in (out / "a.tsv").read_text().splitlines()[1:]) == text


def test_some_formats_and_the_shape_of_subtitles(run: Run, files: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    run("--format", "srt,vtt,srt", "--max-line-length", 12, "--max-lines", 1, "--reading-speed", 30, "-o", out, files[1])
    assert names_below(out) == ["b.srt", "b.vtt"]
    contents = [item.content for item in srt.parse((out / "b.srt").read_text())]
    assert len(contents) > 1
    assert all(len(content) <= 12 or " " not in content for content in contents)


def test_stdout_beside_files(run: Run, files: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    printed, _ = run("-o", out, "--stdout", files[0])
    assert printed == (out / "a.txt").read_text()
    assert run("--stdout", files[0])[0] == printed


def test_folders_keep_their_structure(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    for index, name in enumerate(["x/1.wav", "x/y/1.wav", "2.flac"]):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / name, spoken(0.5, index), RATE)
    (folder / "notes.md").touch()
    run(folder, "-o", tmp_path / "out")
    assert names_below(tmp_path / "out") == ["2.txt", "x/1.txt", "x/y/1.txt"]
    printed, _ = run(folder)
    assert [line.partition(": ")[0] for line in printed.splitlines()] == [
        str(folder / name) for name in ("2.flac", "x/1.wav", "x/y/1.wav")
    ]


def test_three_bad_files_of_ten(run: Run, files: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for index in range(10):
        data = b"RIFFnonsense" if index in (0, 4, 9) else Path(files[0]).read_bytes()
        (folder / f"{index}.wav").write_bytes(data)
    printed, errors = run(folder, "-o", tmp_path / "out", code=3)
    assert printed == ""
    assert names_below(tmp_path / "out") == [f"{index}.txt" for index in (1, 2, 3, 5, 6, 7, 8)]
    *each, last = errors.splitlines()
    bad = [str(folder / f"{index}.wav") for index in (0, 4, 9)]
    assert [line.startswith(f"asr transcribe: {path}: ") for line, path in zip(each, bad, strict=True)] == [True] * 3
    assert last == f"asr transcribe: 3 of 10 files could not be transcribed: {', '.join(bad)}"


def test_files_that_are_done_are_skipped(run: Run, files: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    run("-o", out, files[0])
    before = (out / "a.txt").stat().st_mtime_ns
    _, errors = run("-o", out, "--skip-existing", *files)
    assert errors == "asr transcribe: 1 of 3 files skipped: their transcripts are there\n"
    assert names_below(out) == ["a.txt", "b.txt", "c.txt"]
    assert (out / "a.txt").stat().st_mtime_ns == before
    _, errors = run("-o", out, "--skip-existing", "--model", "not needed", *files)
    assert "3 of 3 files skipped" in errors
    os.utime(files[1], (2e9, 2e9))  # changed after it was transcribed
    assert "2 of 3 files skipped" in run("-o", out, "--skip-existing", *files)[1]


def test_what_is_partial_is_made_again(run: Run, files: list[str], tmp_path: Path) -> None:
    path, out = Path(files[0]), tmp_path / "out"
    whole = path.read_bytes()
    path.write_bytes(whole[:40000])
    os.utime(path, (1e9, 1e9))
    again = ("-o", out, "--skip-existing", "--format", "txt,json", *files)
    _, errors = run(*again, "--keep-going", code=3)
    partial = ["a.json.partial", "a.txt.partial"]
    assert names_below(out) == sorted([f"{name}.{format}" for name in "abc" for format in ("txt", "json")] + partial)
    assert (out / "a.txt.partial").read_text() == errors.splitlines()[0].removeprefix(f"asr transcribe: {path}: ") + "\n"
    assert "2 of 3 files skipped" in run(*again, "--keep-going", code=3)[1]
    assert "2 of 3 files skipped" in run(*again, code=3)[1]  # it cannot be read whole
    path.write_bytes(whole)
    os.utime(path, (1e9, 1e9))
    run("-o", out, path)
    assert [name for name in names_below(out) if name.endswith(".partial")] == ["a.json.partial"]
    assert "2 of 3 files skipped" in run(*again)[1]
    assert "3 of 3 files skipped" in run(*again)[1]
    assert [name for name in names_below(out) if name.endswith(".partial")] == []


def test_a_recording_is_no_list_of_losses(run: Run, files: list[str], tmp_path: Path) -> None:
    recording = Path(files[0]).rename(tmp_path / "b.txt.partial")
    assert f"{recording} is a recording and would be overwritten" in run("-o", tmp_path, recording, files[1], code=2)[1]


def test_interrupted_work_is_counted(run: Run, files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Recogniser.transcribe_many

    def interrupted(*arguments: Any, **options: Any) -> Iterator[Any]:
        results = whole(*arguments, **options)
        yield next(results)
        raise KeyboardInterrupt

    monkeypatch.setattr(Recogniser, "transcribe_many", interrupted)
    _, errors = run("-o", tmp_path / "out", *files, code=130)
    assert "1 of 3 files are done; --skip-existing leaves them out" in errors
    assert errors.endswith("asr transcribe: interrupted\n")
    assert names_below(tmp_path / "out") == ["a.txt"]


# Standard input


def test_standard_input(run: Run, files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, _ = run(files[2])
    give(monkeypatch, Path(files[2]).read_bytes())
    assert run("-")[0] == expected
    give(monkeypatch, Path(files[2]).read_bytes())
    run("-", files[0], "--format", "json,ctm", "-o", tmp_path / "out")
    assert names_below(tmp_path / "out") == ["a.ctm", "a.json", "stdin.ctm", "stdin.json"]
    assert json.loads((tmp_path / "out" / "stdin.json").read_text())["file"] == "stdin"
    assert (tmp_path / "out" / "stdin.ctm").read_text().startswith("stdin 1 ")


def test_bad_standard_input(run: Run, files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch, b"")
    printed, errors = run("-", files[0], code=3)
    assert "stdin: is empty (0 bytes)" in errors
    assert printed.startswith(f"{files[0]}: ")
    stream = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(stream, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", stream)
    assert "standard input is a terminal" in run("-", code=2)[1]
    monkeypatch.setattr(sys, "stdin", None)  # as `<&-` leaves it
    assert "standard input is closed; expected audio, as in `asr transcribe - < talk.mp3`" in run("-", code=2)[1]


# Settings


def test_settings_reach_the_recogniser(run: Run, files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    class Spy(Recogniser):
        def __init__(self, package: Any, **options: Any) -> None:
            super().__init__(package, **options)
            made.append((package.config.decoding, options))

    monkeypatch.setattr("asr.transcription.recogniser.Recogniser", Spy)
    threads = torch.get_num_threads()
    try:
        settings = ("--decoding", "kind=beam", "--decoding", "beam=7", "--hotwords", "fg")
        run(files[0], *settings, "--batch-seconds", "2.5", "--threads", threads + 1, "--no-vad")
        assert torch.get_num_threads() == threads + 1
    finally:
        torch.set_num_threads(threads)
    run(files[0], "--format", "vtt", "--channel", "0")
    (decoding, options), (_, other) = made
    assert (decoding.kind, decoding.beam, decoding.hot_words) == ("beam", 7, ["fg"])
    whole = {"track": None, "keep_going": False}
    assert options == {"vad": False, "channel": None, "batch_s": 2.5, "words": False, **whole}
    assert other == {"vad": True, "channel": 0, "batch_s": None, "words": True, **whole}


def test_one_channel(run: Run, tmp_path: Path) -> None:
    left, right = spoken(2.0, 0), spoken(2.0, 1)
    soundfile.write(tmp_path / "both.flac", np.stack([left, right], axis=1), RATE)
    soundfile.write(tmp_path / "right.flac", right, RATE)
    alone, _ = run(tmp_path / "right.flac")
    assert run(tmp_path / "both.flac", "--channel", 1)[0] == alone
    assert run(tmp_path / "both.flac")[0] != alone
    assert json.loads(run(tmp_path / "both.flac", "--channel", 1, "--format", "json")[0])["channel"] == 1
    assert " 2 " in run(tmp_path / "both.flac", "--channel", 1, "--format", "ctm")[0]
    printed, errors = run(tmp_path / "both.flac", tmp_path / "right.flac", "--channel", 1, code=3)
    assert printed.startswith(f"{tmp_path / 'both.flac'}: ")
    assert f"asr transcribe: {tmp_path / 'right.flac'}: " in errors


def test_the_model_is_named_by_the_environment_or_asked_for(
    package: Path, files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("asr.package.shipped.models_dir", lambda: tmp_path / "none")
    monkeypatch.delenv("ASR_MODEL", raising=False)
    assert main(["transcribe", files[0]]) == 2
    assert "scripts/quickstart" in capsys.readouterr().err
    monkeypatch.setenv("ASR_MODEL", str(package))
    assert main(["transcribe", files[0]]) == 0
    assert main(["transcribe", "--model", "nowhere", files[0]]) == 2
    assert "nowhere: no such folder" in capsys.readouterr().err


def test_progress_on_a_terminal(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Progress] = []

    class Spy(Progress):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            shown.append(self)

    monkeypatch.setattr("asr.transcription.display.Progress", Spy)
    for index in range(3):
        soundfile.write(tmp_path / f"{index}.wav", spoken(1.4, index), RATE)
    assert run(tmp_path)[1] == ""
    assert (shown[-1].total, shown[-1].done) == pytest.approx((0.0, 4.2), abs=0.1)
    monkeypatch.setattr(type(sys.stderr), "isatty", lambda _: True)
    run(tmp_path, "absent.wav", "--batch-seconds", 1, code=3)
    assert (shown[-1].total, shown[-1].done) == pytest.approx((4.2, 4.2), abs=0.1)


# Wrong arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "str"], "--format str: 'str' is none. Did you mean srt? There are: txt, json, srt, vtt, tsv, ctm, all"),
        (["--format", "txt,"], "--format txt,: '' is none."),
        (["--format", "all"], "--format all: only one can be printed; write files with -o DIR"),
        (["--format", "srt,vtt", "-o", "out", "--stdout"], "only one can be printed"),
        (["--format", "vtt", "other.wav"], "--format vtt: printed, it holds one recording, not 2; write files with -o DIR"),
        (["--format", "ctm", "b/FILE"], "--format ctm: a.wav and b/a.wav would have one name"),
        (["--words"], "--words with --format txt: only json shows words; give --format json"),
        (["--max-lines", "1"], "--max-lines with --format txt: it is about subtitles; give --format srt or vtt"),
        (["--max-lines", "0", "--format", "srt"], "--max-lines: '0' is not a whole number, at least 1"),
        (["--max-line-length", "5", "--format", "srt"], "max_line_length=5: subtitles need 10 to 200"),
        (["--skip-existing"], "--skip-existing looks for transcripts in a folder; name it with -o DIR"),
        (["--batch-seconds", "0"], "--batch-seconds: '0' is not a number of seconds above 0"),
        (["--batch-seconds", "inf"], "--batch-seconds: 'inf' is not a number of seconds above 0"),
        (["--channel", "-1"], "--channel: '-1' is not a whole number, at least 0"),
        (["--threads", "two"], "--threads: 'two' is not a whole number from 1 to 4096"),
        (["--decoding", "beam"], "--decoding: 'beam' is no setting; expected KEY=VALUE, such as beam=100"),
        (["--decoding", "beem=3"], "Did you mean decoding.beam?"),
        (["decoding.beam=3"], "decoding.beam=3: no such file; settings of the decoder are given as --decoding beam=3"),
        (["b/FILE", "-o", "out"], "a.wav and b/a.wav would both be written to out/a.txt; rename one"),
        ([""], "a name is empty; expected that of a file or folder"),
        (["--model", ""], "the model's name is empty"),
        (["-o", ""], "-o/--output: the name is empty"),
        (["-", "-"], "- is named twice; standard input can be read only once"),
        (["empty"], "empty: no audio file is below this folder"),
    ],
)
def test_wrong_arguments(
    arguments: list[str], message: str, run: Run, files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    printed, errors = run("a.wav", *(item.replace("FILE", "a.wav") for item in arguments), code=2)
    assert printed == ""
    assert message in errors
    assert not Path("out").exists()
