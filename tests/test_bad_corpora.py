"""Bad tables, manifests and transcripts, through the command line: a message that names the culprit, and nothing lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bad_input import Run, assert_refused, content, edit_manifest

# Tables


BAD_TABLES: dict[str, tuple[bytes, tuple[str, ...]]] = {
    "empty": (b"", ("the table is empty",)),
    "header alone": (b"audio,text\n", ("the table is empty", "expected one utterance a row")),
    "other columns": (b"path,txt\ngood.wav,a\n", ("no column 'audio'", "'path', 'txt'", "--audio-column")),
    "mistyped column": (b"audio,texts\ngood.wav,a\n", ("no column 'text'", "Did you mean texts?", "--text-column")),
    "column twice": (b"audio,audio,text\ngood.wav,u0.wav,a\n", ("two columns are called 'audio'",)),
    "not UTF-8": (b"audio,text\ngood.wav,na\xefve\n", ("line 2: is not UTF-8 text (byte 0xef)", "convert it")),
    "too many cells": (b"audio,text\ngood.wav,a,b\n", ("row 2: has 3 columns, the header has 2",)),
    "open quotation mark": (b'audio,text\n"good.wav,a\n', ("row 2: is malformed",)),
    "duplicate id": (b"id,audio,text\nx,good.wav,a\nx,u0.wav,b\n", ("row 3: x: duplicate id", "row 2", "--skip-invalid")),
    "no text": (b"audio,text\ngood.wav,\n", ("row 2: good: empty text", "--skip-invalid")),
    "no audio": (b"audio,text\n,a\n", ("row 2: (no id)", "--skip-invalid")),
    "absent audio": (b"audio,text\ngood.wav,a\ngone.wav,b\n", ("row 3: gone: missing file", "gone.wav", "--skip-invalid")),
}


@pytest.mark.parametrize("kind", BAD_TABLES)
def test_bad_tables(kind: str, manifests: Path, table: Path, run: Run) -> None:
    data, words = BAD_TABLES[kind]
    before = content(manifests)
    table.write_bytes(data)
    outcome = run("prepare", "table", table, "--name", "corpus", "--manifests", manifests)
    assert_refused(outcome, "asr prepare: error: ", str(table), *words)
    assert {name: data for name, data in content(manifests).items() if not name.endswith(".partial.jsonl")} == before


def test_kaldi_commands_are_not_run(tmp_path: Path, run: Run) -> None:
    (tmp_path / "wav.scp").write_text(f"u1 touch {tmp_path / 'trace'}; cat good.wav |\n")
    (tmp_path / "text").write_text("u1 a b\n")
    outcome = run("prepare", "kaldi", tmp_path, "--name", "corpus", "--manifests", tmp_path / "manifests")
    assert_refused(outcome, "wav.scp, row 1: is a command", "never run")
    assert sorted(content(tmp_path)) == ["text", "wav.scp"]


# Manifests


def command_as_audio(cuts: list[dict[str, Any]]) -> None:
    source = cuts[1]["recording"]["sources"][0]
    source.update(type="command", source=f"touch {Path(source['source']).parent / 'trace'}")


BAD_MANIFESTS: dict[str, tuple[Callable[[list[dict[str, Any]]], Any], tuple[str, ...]]] = {
    "empty": (lambda cuts: cuts.clear(), ("the manifest is empty", "Prepare it again")),
    "duplicate id": (lambda cuts: cuts.append(cuts[0]), ("line 5: the id 'good' occurs twice", "line 1")),
    "no transcript": (lambda cuts: cuts[1].update(supervisions=[]), ("line 2: utterance 'u0' has no transcript",)),
    "no duration": (lambda cuts: cuts[1].update(duration=float("nan")), ("line 2", "the duration of 'u0' is nan")),
    "endless": (lambda cuts: cuts[1].update(duration=float("inf")), ("line 2", "the duration of 'u0' is inf")),
    "duration of zero": (lambda cuts: cuts[1].update(duration=0.0), ("line 2", "the duration of 'u0' is 0.0")),
    "duration in words": (lambda cuts: cuts[1].update(duration="long"), ("line 2: is not a lhotse cut",)),
    "number as text": (lambda cuts: cuts[1]["supervisions"][0].update(text=12), ("line 2", "the text of 'u0' is 12")),
    "half a character": (
        lambda cuts: cuts[1]["supervisions"][0].update(text="a\ud800"),
        ("line 2", "'u0' holds a half"),
    ),
    "number as id": (lambda cuts: cuts[1].update(id=5), ("line 2", "the id is 5, expected a text")),
    "command as audio": (command_as_audio, ("line 2", "the audio of 'u0' is of type 'command', expected a file")),
}


@pytest.mark.parametrize("kind", BAD_MANIFESTS)
def test_bad_manifests(kind: str, pristine: Path, manifests: Path, tmp_path: Path, run: Run) -> None:
    change, words = BAD_MANIFESTS[kind]
    path = edit_manifest(manifests, change)
    outcome = run("evaluate", pristine, path, "corpus/all", "--manifests", manifests, "-o", tmp_path / "out")
    assert_refused(outcome, f"asr evaluate: error: {path}", *words)
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"{oops\n", "line 1: is not a lhotse cut"),
        (b"dear diary\n", "line 1: is not a lhotse cut"),
        (b"[" * 100_000, "line 1: is not a lhotse cut"),
        (b"\xff\xfe\n", "line 1: is not a lhotse cut"),
        (b'["a"]\n', "line 1: is not a lhotse cut"),
    ],
)
def test_corrupt_manifests(data: bytes, message: str, pristine: Path, tmp_path: Path, run: Run) -> None:
    (tmp_path / "bad.jsonl").write_bytes(data)
    assert_refused(run("evaluate", pristine, tmp_path / "bad.jsonl"), f"{tmp_path / 'bad.jsonl'}, {message}", "again")


def test_truncated_manifest(pristine: Path, manifests: Path, run: Run) -> None:
    path = manifests / "corpus" / "all.jsonl.gz"
    path.write_bytes(path.read_bytes()[:-30])
    outcome = run("evaluate", pristine, "corpus/all", "--manifests", manifests)
    assert_refused(outcome, f"{path}: cannot be read after line", "Prepare the manifest again")


def test_absent_manifest_names_the_nearest(pristine: Path, manifests: Path, run: Run) -> None:
    outcome = run("evaluate", pristine, "corpus/al", "--manifests", manifests)
    assert_refused(outcome, "'corpus/al'", "corpus/all", "asr prepare")


def test_audio_that_vanished_after_preparation(pristine: Path, manifests: Path, tmp_path: Path, run: Run, train: Run) -> None:
    (tmp_path / "u1.wav").unlink()
    outcome = run("evaluate", pristine, "corpus/all", "--manifests", manifests, "-o", tmp_path / "out")
    assert_refused(outcome, "utterance u1", "u1.wav: no such audio file", code=3)
    assert "corpus/all: 3 utterances" in outcome.out
    rows = (tmp_path / "out" / "corpus-all.jsonl").read_text().splitlines()
    assert [json.loads(row)["id"] for row in rows] == ["good", "u0", "u2"]
    assert list(json.loads((tmp_path / "out" / "corpus-all.json").read_text())["left_out"]) == ["u1"]
    assert_refused(train(), "utterance u1", "u1.wav: no such audio file")
    assert not (tmp_path / "run" / "last.ckpt").exists()


# Transcripts


def test_characters_that_the_model_cannot_write(manifests: Path, tmp_path: Path, train: Run) -> None:
    edit_manifest(manifests, lambda cuts: cuts[1]["supervisions"][0].update(text="a 12"))
    outcome = train("corpus.train=[corpus/edited]")
    assert_refused(outcome, "1 of 4 transcripts", "u0", "'1', '2'", "tokens.alphabet", "spell numbers out as words")
    assert not (tmp_path / "run" / "last.ckpt").exists()


def test_transcripts_that_the_audio_cannot_hold(manifests: Path, tmp_path: Path, train: Run) -> None:
    def lengthen(cuts: list[dict[str, Any]], n: int) -> None:
        for cut in cuts[:n]:
            cut["supervisions"][0]["text"] = "abc" * 50

    edit_manifest(manifests, lambda cuts: lengthen(cuts, 4))
    assert_refused(train("corpus.train=[corpus/edited]"), "none of the 4 training utterances can be trained on", "too long")
    edit_manifest(manifests, lambda cuts: lengthen(cuts, 1))
    outcome = train("corpus.train=[corpus/edited]")
    assert outcome.code == 0, outcome.err
    assert "good: transcript too long for the audio: 150 tokens" in outcome.out
    assert json.loads((tmp_path / "run" / "left-out.jsonl").read_text())["id"] == "good"
