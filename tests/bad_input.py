"""Commands that are given bad input: what they return, what they leave behind, and what they are given."""

from __future__ import annotations

import gzip
import json
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from asr.cli import main

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


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model package with random weights."""
    import torch

    from asr.compose import compose
    from asr.model.acoustic import SpeechModel
    from asr.package.save import write_package
    from asr.text import build_tokenizer

    config = compose(SMALL)
    tokenizer = build_tokenizer(config.tokens)
    torch.manual_seed(1)
    model = SpeechModel(config.frontend, config.model, len(tokenizer))
    return write_package(tmp_path_factory.mktemp("model") / "package", config, model, tokenizer, "the card\n")


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
