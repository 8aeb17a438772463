"""What files, folders and ``-`` stand for, and where transcripts go."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from asr.errors import ConfigError, DataError
from asr.transcription.sources import RecordingFile, find_sources, is_done, output_paths


def found(names: list[str], tell: Callable[[str], None] = lambda notice: None) -> list[RecordingFile]:
    return find_sources(names, tell)


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_files_are_taken_as_they_are() -> None:
    assert found(["x/talk.final.mp3", "absent", "-"]) == [
        RecordingFile("x/talk.final.mp3", Path("talk.final")),
        RecordingFile("absent", Path("absent")),
        RecordingFile("-", Path("stdin")),
    ]


def test_a_folder_is_all_audio_below_it(tmp_path: Path) -> None:
    wanted = ["b.WAV", "b/1.flac", "b/c/x y.mp3", "c.m4a"]
    for name in [*wanted, "notes.txt", ".hidden.wav", ".cache/a.wav", "b/._1.flac", "wav"]:
        touch(tmp_path / name)
    told: list[str] = []
    assert found([str(tmp_path)], told.append) == [
        RecordingFile(str(tmp_path / name), Path(name).with_suffix("")) for name in sorted(wanted, key=lambda name: Path(name))
    ]
    assert told == [
        f"{tmp_path}: passed over what does not end as audio does or is hidden, 4 in all: 2 hidden, 1 .txt, 1 without an ending"
    ]


def test_folders_without_audio_or_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "notes.txt")
    with pytest.raises(
        DataError, match=rf"{tmp_path}: no audio file is below this folder; passed over .*1 .txt; expected .*\.flac"
    ):
        found([str(tmp_path)])

    def forbidden(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", forbidden)
    with pytest.raises(DataError, match=rf"{tmp_path}: cannot look into this folder: Permission denied"):
        found([str(tmp_path)])


def test_standard_input_is_read_once() -> None:
    with pytest.raises(ConfigError, match="- is named twice"):
        found(["-", "a.wav", "-"])


def test_output_keeps_the_folders(tmp_path: Path) -> None:
    touch(tmp_path / "in" / "a" / "1.wav")
    touch(tmp_path / "in" / "b" / "1.wav")
    sources = found([str(tmp_path / "in"), "x/2.mp3"])
    assert output_paths(sources, Path("out"), ["srt", "txt"]) == [
        (Path("out/a/1.srt"), Path("out/a/1.txt")),
        (Path("out/b/1.srt"), Path("out/b/1.txt")),
        (Path("out/2.srt"), Path("out/2.txt")),
    ]


@pytest.mark.parametrize(
    "names", [["x/a.wav", "y/a.wav"], ["a.wav", "a.mp3"], ["a.wav", "A.wav"], ["a.wav", "a.wav"], ["-", "stdin.wav"]]
)
def test_names_that_collide(names: list[str]) -> None:
    with pytest.raises(ConfigError, match=rf"{names[0]} and {names[1]} would both be written to out/.*\.txt; rename one"):
        output_paths(found(names), Path("out"), ["txt"])


def test_recordings_are_not_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sources = found(["a.wav", str(tmp_path / "a" / ".." / "b.txt")])
    with pytest.raises(ConfigError, match=r"b\.txt is a recording and would be overwritten"):
        output_paths(sources, Path(), ["txt"])
    assert output_paths(sources, Path(), ["srt"])


def test_done_is_what_is_there_in_all_formats_and_not_older(tmp_path: Path) -> None:
    source = RecordingFile(str(touch(tmp_path / "a.wav")), Path("a"))
    paths = [tmp_path / "a.txt", tmp_path / "a.srt"]
    os.utime(source.path, (1000, 1000))
    assert not is_done(source, paths)
    os.utime(touch(paths[0]), (1000, 1000))
    assert not is_done(source, paths)
    assert is_done(source, paths[:1])
    os.utime(touch(paths[1]), (1001, 1001))
    assert is_done(source, paths)
    os.utime(source.path, (1001, 1001))
    assert not is_done(source, paths)
    assert not is_done(RecordingFile("-", Path("a")), paths)
    assert not is_done(RecordingFile(str(tmp_path / "absent.wav"), Path("a")), paths)
