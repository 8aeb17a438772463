"""Damaged checkpoints of both kinds of training, gone on from: to the weights of an unbroken run, or to a clear error."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import safetensors.torch
import torch
from beeps import small_config, write_corpus

from asr.config import Config
from asr.engine import checkpoint
from asr.engine.checkpoint import LAST, PREVIOUS, read_checkpoint, write_checkpoint
from asr.engine.module import TrainingModule
from asr.language.config import LstmTraining, compose_training
from asr.language.lstm_training import train_lstm
from asr.training import train
from fuzzing.audio import MUTATIONS
from fuzzing.kind import Mutant
from fuzzing.watched import Handle, Silent

_NAMES = ("none", "begin cut", "end cut", "bits flipped", "overwritten", "inserted", "removed", "shuffled", "zeros", "empty")
BYTES = {name: MUTATIONS[name] for name in _NAMES}
"""What is done to the bytes of a file."""

_TEXTS = ["ab", "ba c", "cab", "a b c", "bc", "acb", "cc a", "b"]
_SENTENCES = "The cat meows.\nThe dog barks.\nThe cow moos.\n" * 40


class Fuzzed:
    """Runs of a small network and a small LSTM language model that were stopped twice in the second epoch.

    Half of the mutants have damage in the bytes of the last checkpoint, and now and then of the one before; the others were
    written whole, and hold what does not belong there.
    """

    number = 200
    limit_s = 60.0

    def __init__(self, scratch: Path) -> None:
        self.originals = scratch / "original"
        self.expected: dict[str, Path] = {}
        write_corpus(scratch, "train", _TEXTS)
        write_corpus(scratch, "dev", _TEXTS[:2])
        (scratch / "text.txt").write_text(_SENTENCES)
        self.configs: dict[str, Any] = {"train": speech_config(scratch), "lm": language_config(scratch)}
        for group, config in self.configs.items():
            whole = scratch / "whole" / group
            run_to_end(config, whole)
            self.expected[group] = next(whole.glob("**/model.safetensors"))
            for step in STOPS[group]:
                with stopping(step):
                    run_to_end(config, self.originals / group)

    def load(self) -> Handle:
        torch.set_num_threads(1)
        expected = {group: safetensors.torch.load_file(path) for group, path in self.expected.items()}

        def go_on(folder: Path) -> None:
            group = folder.name.split("-")[2]
            if run_to_end(self.configs[group], folder) != 0:
                raise Silent("it ended before its end")
            found = safetensors.torch.load_file(next(path for path in folder.glob("**/model.safetensors")))
            for name, tensor in expected[group].items():
                if not torch.equal(tensor, found[name]):
                    raise Silent(f"{name} is not what an unbroken run has")

        return go_on

    def mutant(self, index: int, seed: int, folder: Path) -> Mutant:
        rng = np.random.default_rng([seed, index])
        group = list(self.configs)[index % len(self.configs)]
        in_bytes = rng.random() < 0.5
        mutation = str(rng.choice(list(BYTES if in_bytes else CONTENTS)))
        path = folder / f"{seed}-{index:05}-{group}-{mutation}".replace(" ", "-")
        shutil.copytree(self.originals / group, path)
        last = next(path.glob(f"**/{LAST}"))
        if in_bytes:
            for file in (last, *([last.with_name(PREVIOUS)] if rng.random() < 0.25 else [])):
                file.write_bytes(BYTES[mutation](file.read_bytes(), rng))
        else:
            content = read_checkpoint(last)
            CONTENTS[mutation](content, rng)
            with patch.object(checkpoint, "_not_finite", lambda content: None):
                write_checkpoint(last.parent, content)
        return Mutant(path, group, mutation)


def speech_config(scratch: Path) -> Config:
    """Return the configuration of the small network's runs."""
    return small_config(scratch, scratch, "trainer.batch_s=2", "trainer.samples=0", "trainer.progress=none")


def language_config(scratch: Path) -> LstmTraining:
    """Return the configuration of the language model's runs."""
    sizes = ("embedding_size=8", "hidden_size=8", "layers=1", "rows=4", "steps=5", "epochs=2", "samples=0", "held_out=0.05")
    rest = ("lm.precision=float32", "lm.accelerator=cpu", "lm.threads=1", f"text=[{scratch}/text.txt]")
    config = compose_training(["lm=lstm", *(f"lm.{size}" for size in sizes), *rest])
    assert isinstance(config, LstmTraining)
    return config


def run_to_end(config: Config | LstmTraining, folder: Path) -> int:
    """Run or go on with a training in a folder, and return its exit code."""
    if isinstance(config, Config):
        return train(replace(config, output=str(folder)))
    return train_lstm(replace(config, output=str(folder / "lm")))


STOPS: dict[str, tuple[int, int]] = {"train": (11, 13), "lm": (40, 45)}
"""Steps in which the runs are stopped, counted by those of each start from 1."""


@contextmanager
def stopping(step: int) -> Any:
    """Ask a training to stop in a step."""
    original = TrainingModule.on_train_batch_start

    def stop(self: TrainingModule, batch: Any, batch_idx: int) -> None:
        if self.global_step + 1 == step:
            os.kill(os.getpid(), signal.SIGTERM)
        original(self, batch, batch_idx)

    with patch.object(TrainingModule, "on_train_batch_start", stop):
        yield


def _draw(content: Any, rng: np.random.Generator, wanted: type | tuple[type, ...] = object) -> tuple[Any, Any] | None:
    """Return a container in a checkpoint and a key of it, drawn among all whose values are of a type."""
    places: list[tuple[Any, Any]] = []

    def walk(part: Any) -> None:
        keys = list(part) if isinstance(part, dict) else range(len(part)) if isinstance(part, list) else []
        for key in keys:
            if isinstance(part[key], wanted):
                places.append((part, key))
            walk(part[key])

    walk(content)
    return places[rng.integers(len(places))] if places else None


def _change(wanted: type | tuple[type, ...], change: Callable[[Any, Any, np.random.Generator], None]) -> Any:
    def apply(content: dict[str, Any], rng: np.random.Generator) -> None:
        place = _draw(content, rng, wanted)
        assert place is not None
        change(*place, rng)

    return apply


def _not_a_number(part: Any, key: Any, rng: np.random.Generator) -> None:
    if part[key].is_floating_point() and part[key].numel():
        part[key] = part[key].clone()
        part[key].view(-1)[rng.integers(part[key].numel())] = float(rng.choice([np.nan, np.inf]))
    else:
        part[key] = "tensor"


def _set(*values: Any) -> Callable[[Any, Any, np.random.Generator], None]:
    def change(part: Any, key: Any, rng: np.random.Generator) -> None:
        part[key] = values[rng.integers(len(values))]

    return change


CONTENTS: dict[str, Callable[[dict[str, Any], np.random.Generator], None]] = {
    "key absent": _change(object, lambda part, key, rng: part.pop(key)),
    "tensor absent": _change(torch.Tensor, lambda part, key, rng: part.pop(key)),
    "emptied": _change((dict, list), lambda part, key, rng: part[key].clear()),
    "another type": _change(object, _set(None, "text", [], {}, {"a": 1}, torch.zeros(2))),
    "another shape": _change(torch.Tensor, _set(torch.zeros(0), torch.zeros(1), torch.zeros(2, 3), torch.zeros(1, 1, 1))),
    "another precision": _change(torch.Tensor, lambda part, key, rng: part.__setitem__(key, part[key].to(torch.float16))),
    "not a number": _change(torch.Tensor, _not_a_number),
    "another count": _change(int, _set(-1, 10**9)),
}
