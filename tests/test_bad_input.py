"""Bad input of every kind, through the command line: exit code, a message that names the culprit, and nothing lost."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import resource
import shutil
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import soundfile
import torch
import yaml

from asr.cli import main
from asr.compose import compose
from asr.decoding.waveforms import decode_waveforms
from asr.engine.checkpoint import LAST, read_checkpoint, write_checkpoint
from asr.model.acoustic import SpeechModel
from asr.package.save import write_package
from asr.text import build_tokenizer

SAMPLE_RATE = 8000
SMALL = (
    "tokens.alphabet=' abc'",
    "frontend.sample_rate=8000",
    "frontend.n_mels=8",
    "model.cnn.channels=[2]",
    "model.cnn.time_kernels=[3]",
    "model.cnn.frequency_kernels=[3]",
    "model.cnn.time_strides=[3]",
    "model.cnn.frequency_strides=[4]",
    "model.recurrent.layers=1",
    "model.recurrent.hidden_size=4",
)
TRAINER = ("trainer.epochs=1", "trainer.accelerator=cpu", "trainer.threads=1", "trainer.progress=none", "trainer.samples=0")


@dataclass(frozen=True)
class Outcome:
    """What a command returned and wrote."""

    code: int
    out: str
    err: str


Run = Callable[..., Outcome]


class Evil:
    """Unpickling one runs a command."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.trace}",)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs a command in this process; a traceback is never right."""

    def call(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        assert "fault in asr" not in err
        return Outcome(code, out, err)

    return call


def assert_refused(outcome: Outcome, *words: str, code: int = 2) -> None:
    """Check exit code and message."""
    assert outcome.code == code, outcome.err
    assert [word for word in words if word not in outcome.err] == [], outcome.err


def content(folder: Path) -> dict[str, bytes | None]:
    """Every file (its bytes) and folder below a folder, hidden and temporary ones included."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@contextmanager
def files_limited_to(n_bytes: int) -> Iterator[None]:
    """Let every write beyond so many bytes of a file fail, as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def write_wav(path: Path, duration_s: float = 1.0) -> Path:
    noise = 0.1 * np.random.default_rng(len(path.name)).standard_normal(round(duration_s * SAMPLE_RATE))
    soundfile.write(path, noise, SAMPLE_RATE)
    return path


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model package with random weights."""
    config = compose(SMALL)
    tokenizer = build_tokenizer(config.tokens)
    torch.manual_seed(1)
    model = SpeechModel(config.frontend, config.model, len(tokenizer))
    return write_package(tmp_path_factory.mktemp("model") / "package", config, model, tokenizer, "the card\n")


@pytest.fixture
def package(pristine: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    return Path(shutil.copytree(pristine, tmp_path / "package"))


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return write_wav(tmp_path / "good.wav")


@pytest.fixture
def table(good: Path, tmp_path: Path) -> Path:
    """Four utterances."""
    for index in range(3):
        write_wav(tmp_path / f"u{index}.wav", 0.8)
    path = tmp_path / "table.csv"
    path.write_text("audio,text\ngood.wav,abc\nu0.wav,a\nu1.wav,b a\nu2.wav,cab\n")
    return path


@pytest.fixture
def manifests(table: Path, tmp_path: Path, run: Run) -> Path:
    """The manifest ``corpus/all`` of the table."""
    assert run("prepare", "table", table, "--name", "corpus", "--manifests", tmp_path / "manifests").code == 0
    return tmp_path / "manifests"


@pytest.fixture
def train(manifests: Path, tmp_path: Path, run: Run) -> Run:
    """Return a function that trains on the manifest, in the folder ``run``, with overrides."""

    def call(*overrides: str) -> Outcome:
        given = (f"output={tmp_path / 'run'}", f"corpus.manifests={manifests}", "corpus.train=[corpus/all]", *overrides)
        return run("train", *SMALL, *TRAINER, *given)

    return call


def edit_manifest(manifests: Path, change: Callable[[list[dict[str, Any]]], Any]) -> Path:
    """Write ``corpus/edited``: the cuts, changed."""
    lines = gzip.decompress((manifests / "corpus" / "all.jsonl.gz").read_bytes()).decode().splitlines()
    cuts = [json.loads(line) for line in lines]
    change(cuts)
    path = manifests / "corpus" / "edited.jsonl"
    path.write_text("".join(json.dumps(cut) + "\n" for cut in cuts))
    return path


# Audio


def truncated(path: Path) -> None:
    write_wav(path, 3.0)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def not_a_number(path: Path) -> None:
    waveform = np.zeros(800, np.float32)
    waveform[7] = np.nan
    soundfile.write(path, waveform, SAMPLE_RATE, subtype="FLOAT")


def ten_hours_promised_by_wav(path: Path) -> None:
    write_wav(path)
    header = bytearray(path.read_bytes())
    header[40:44] = (36000 * SAMPLE_RATE * 2).to_bytes(4, "little")
    path.write_bytes(header)


def years_promised_by_flac(path: Path) -> None:
    write_wav(path)
    header = bytearray(path.read_bytes())
    header[18:26] = (int.from_bytes(header[18:26], "big") | (1 << 36) - 1).to_bytes(8, "big")
    path.write_bytes(header)


BAD_AUDIO: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "missing": ("bad.wav", lambda path: None, "no such audio file"),
    "empty": ("bad.wav", lambda path: path.write_bytes(b""), "is empty (0 bytes)"),
    "truncated wav": ("bad.wav", truncated, "is truncated"),
    "truncated flac": ("bad.flac", truncated, "is truncated"),
    "truncated mp3": ("bad.mp3", truncated, "is truncated"),
    "without samples": ("bad.wav", lambda path: write_wav(path, 0.0), "holds no audio samples"),
    "ten hours, wav": ("bad.wav", ten_hours_promised_by_wav, "promises 576000000 bytes of audio, 16000 are there"),
    "years, flac": ("bad.flac", years_promised_by_flac, "is truncated or corrupt"),
    "not a number": ("bad.wav", not_a_number, "1 of 800 samples are NaN or infinite"),
    "text": ("bad.wav", lambda path: path.write_text("dear diary\n" * 99), "no audio file"),
    "folder": ("bad.wav", lambda path: path.mkdir(), "is a folder, expected an audio file"),
    "pipe": ("bad.wav", lambda path: os.mkfifo(path), "is a pipe or a device, expected an audio file"),
    "name too long": (f"{'bad' * 90}.wav", lambda path: None, "File name too long"),
}


@pytest.mark.parametrize("kind", [kind for kind in BAD_AUDIO if kind != "folder"])  # what is in a folder is transcribed
def test_bad_audio_is_named_and_the_others_are_transcribed(
    kind: str, pristine: Path, good: Path, tmp_path: Path, run: Run
) -> None:
    name, write, message = BAD_AUDIO[kind]
    write(tmp_path / name)
    outcome = run("transcribe", tmp_path / name, good, "--model", pristine)
    assert_refused(outcome, f"asr transcribe: {tmp_path / name}: ", message, "1 of 2 files could not be transcribed", code=3)
    assert outcome.out.startswith(f"{good}: ")
    assert run("transcribe", tmp_path / name, good, "--model", pristine, "-o", tmp_path / "out").code == 3
    assert list(content(tmp_path / "out")) == ["good.txt"]
    assert run("transcribe", tmp_path / name, "--model", pristine).code == 2  # nothing is done


@pytest.mark.parametrize("kind", BAD_AUDIO)
def test_bad_audio_is_refused_by_prepare_and_nothing_is_written(
    kind: str, manifests: Path, table: Path, tmp_path: Path, run: Run
) -> None:
    name, write, _ = BAD_AUDIO[kind]
    write(tmp_path / name)
    before = content(manifests)
    with table.open("a") as file:
        file.write(f"{name},a\n")
    outcome = run("prepare", "table", table, "--name", "corpus", "--manifests", manifests, "--decode")
    assert_refused(outcome, "1 of 5 rows cannot be used", f"{table}, row 6: bad", "nothing written", "--skip-invalid")
    journal = {"corpus/all.partial.jsonl"}  # of the files that were found to be good, so that they are not read again
    assert {name: data for name, data in content(manifests).items() if name not in journal} == before
    outcome = run("prepare", "table", table, "--name", "corpus", "--manifests", manifests, "--decode", "--skip-invalid")
    assert outcome.code == 3
    assert "4 utterances" in outcome.out
    rejected = json.loads((manifests / "corpus" / "all.rejected.jsonl").read_text())
    assert rejected["reason"] == ("missing file" if kind in ("missing", "name too long") else "unreadable audio")
    assert not (manifests / "corpus" / "all.partial.jsonl").exists()


@pytest.mark.parametrize("n_samples", [1, 2 * SAMPLE_RATE], ids=["one sample", "silence"])
def test_one_sample_and_silence_are_no_mistake(n_samples: int, pristine: Path, tmp_path: Path, run: Run) -> None:
    soundfile.write(tmp_path / "quiet.wav", np.zeros(n_samples), SAMPLE_RATE)
    outcome = run("transcribe", tmp_path / "quiet.wav", "--model", pristine, "--format", "json")
    assert (outcome.code, outcome.err) == (0, f"asr transcribe: {tmp_path / 'quiet.wav'}: holds nothing but digital silence\n")
    mapping = json.loads(outcome.out)
    assert mapping["duration_s"] == round(n_samples / SAMPLE_RATE, 3)
    assert mapping["notices"] == ["holds nothing but digital silence"]


def test_long_audio_is_read_by_parts(pristine: Path, tmp_path: Path, run: Run) -> None:
    """Half an hour takes 58 MB as float32; what is held of it at any time must be far less."""
    path = write_wav(tmp_path / "long.wav", 1800)
    tracemalloc.start()
    outcome = run("transcribe", path, "--model", pristine, "--format", "json")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert outcome.code == 0
    assert json.loads(outcome.out)["duration_s"] == 1800
    assert peak < 25e6


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


# Model packages


def edit_config(package: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    mapping = yaml.safe_load((package / "config.yaml").read_text())
    change(mapping)
    (package / "config.yaml").write_text(yaml.safe_dump(mapping))


def spoil_weights(package: Path) -> None:
    weights = safetensors.torch.load_file(package / "model.safetensors")
    next(iter(weights.values())).view(-1)[0] = float("nan")
    safetensors.torch.save_file(weights, package / "model.safetensors")


def clear(package: Path) -> None:
    shutil.rmtree(package)
    package.mkdir()
    (package / "diary.txt").write_text("dear diary")


def grow_tokenizer(package: Path) -> None:
    mapping = json.loads((package / "tokenizer.json").read_text())
    (package / "tokenizer.json").write_text(json.dumps({**mapping, "alphabet": " abcdef"}))


def tag(package: Path) -> None:
    (package / "config.yaml").write_text(f"format: !!python/object/apply:os.system ['touch {package.parent}/trace']\n")


BAD_PACKAGES: dict[str, tuple[Callable[[Path], Any], tuple[str, ...]]] = {
    "absent": (lambda package: shutil.rmtree(package), ("no such folder", "asr train")),
    "foreign folder": (clear, ("config.yaml, model.safetensors, tokenizer.json not found", "no model package")),
    "no tokenizer": (lambda package: (package / "tokenizer.json").unlink(), ("tokenizer.json not found",)),
    "truncated weights": (
        lambda package: os.truncate(package / "model.safetensors", 700),
        ("model.safetensors", "corrupt, truncated or foreign"),
    ),
    "pickle": (
        lambda package: (package / "model.safetensors").write_bytes(pickle.dumps(Evil(package.parent / "trace"))),
        ("model.safetensors", "pickle"),
    ),
    "NaN": (spoil_weights, ("model.safetensors", "holds NaN or infinity")),
    "unknown key": (lambda package: edit_config(package, lambda c: c["model"].update(depth=3)), ("config.yaml", "depth")),
    "huge": (
        lambda package: edit_config(package, lambda c: c["model"]["recurrent"].update(hidden_size=8192, layers=32)),
        ("config.yaml", "weights; expected 268,435,456 at most"),
    ),
    "out of range": (
        lambda package: edit_config(package, lambda c: c["model"]["recurrent"].update(hidden_size=10**9)),
        ("config.yaml", "hidden_size", "1 to 8192"),
    ),
    "python tag": (tag, ("config.yaml", "not readable as YAML")),
    "other tokenizer": (grow_tokenizer, ("model.safetensors", "tokenizer.json", "shape")),
}


@pytest.mark.parametrize("kind", BAD_PACKAGES)
def test_bad_packages(kind: str, package: Path, good: Path, tmp_path: Path, run: Run) -> None:
    damage, words = BAD_PACKAGES[kind]
    damage(package)
    before = content(tmp_path)
    outcome = run("transcribe", good, "--model", package, "-o", tmp_path / "out")
    assert_refused(outcome, "asr transcribe: error: ", str(package), *words)
    assert content(tmp_path) == before  # no trace of code that ran either


# Arguments and configuration


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["transcrib"], ("unknown command 'transcrib'", "Did you mean transcribe?")),
        (["prepare", "libri"], ("invalid choice: 'libri'", "librispeech")),
        (["train", "trainer.epoch=3"], ("unknown key trainer.epoch", "Did you mean trainer.epochs?")),
        (["train", "trainer.epochs=many"], ("trainer.epochs", "expected an integer", "many")),
        (["train", "trainer.epochs=0"], ("trainer.epochs=0", "expected 1 to")),
        (["train", "optim.lr=nan"], ("optim.lr", "expected")),
        (["train", "model.recurrent.cell=lsmt"], ("model.recurrent.cell=lsmt", "Did you mean lstm?")),
        (["train", "+recipe=librispech/mini"], ("recipe=librispech/mini", "Did you mean librispeech/mini?")),
        (["train", "frontend=mfc"], ("frontend=mfc", "Did you mean mfcc?")),
        (["train", "modle=small"], ("unknown key modle", "Did you mean model?")),
        (["train", "corpus.train=[]"], ("corpus.train is empty",)),
        (["train", "--config-dir", "nowhere"], ("--config-dir nowhere: no such folder",)),
        (["transcribe", "a.wav", "--threads", "two"], ("--threads", "'two' is not a whole number from 1 to 4096")),
        (["transcribe", "a.wav", "b/a.flac", "--model", "m", "-o", "out"], ("a.wav and b/a.flac", "out/a.txt")),
        (["evaluate", "m", "a/b", "--batch-seconds", "nan"], ("--batch-seconds: 'nan'", "above 0")),
    ],
)
def test_mistyped_arguments(
    arguments: list[str], words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    monkeypatch.chdir(tmp_path)
    assert_refused(run(*arguments), *words)
    assert content(tmp_path) == {}


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("decoding.knd=greedy", ("decoding.knd", "Did you mean decoding.kind?")),
        ("decoding.kind=[", ("decoding.kind=[", "expected one of greedy")),
        ("decoding.kind.size=3", ("unknown key decoding.kind.size",)),
    ],
)
def test_mistyped_decoder_settings(override: str, words: tuple[str, ...], pristine: Path, manifests: Path, run: Run) -> None:
    assert_refused(run("evaluate", pristine, "corpus/all", override, "--manifests", manifests), *words)


@pytest.mark.parametrize("device", ["cuda:99", "cudo", "meta", "hpu", ""])
def test_devices_that_are_not_there(device: str, pristine: Path, good: Path, run: Run) -> None:
    outcome = run("transcribe", good, "--model", pristine, "--device", device)
    assert_refused(outcome, f"device '{device}' cannot be used here", "'cpu' always can")
    assert len(outcome.err) < 400


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
    for content, words in (
        ({"epoch": 0, "evil": Evil(tmp_path / "trace")}, "cannot be read as a checkpoint"),
        ({"epoch": 0, "state_dict": {}}, "cannot be read as a checkpoint (it lacks callbacks"),
        ({**good, "run": {**good["run"], "settings": {"modle": 1}}}, "cannot be read as a checkpoint"),
    ):
        checkpoint.unlink()
        write_checkpoint(finished, content)
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
