"""Checkpoints: damage is found, the one before is kept and gone on from."""

from __future__ import annotations

import logging
import math
import os
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from asr.engine.checkpoint import LAST, PREVIOUS, last_checkpoint, read_checkpoint, write_checkpoint
from asr.errors import DataError, StorageError, TrainingDiverged


def content(number: int) -> dict[str, Any]:
    return {"number": number, "state": {"weight": torch.full((20, 30), float(number))}, "more": [torch.arange(3), None, "text"]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(3):
        write_checkpoint(tmp_path, content(number))
    return tmp_path


def number_of(folder: Path) -> int:
    found = last_checkpoint(folder, "Remove it")
    assert found is not None
    assert torch.equal(found["state"]["weight"], content(found["number"])["state"]["weight"])
    return int(found["number"])


def test_the_last_two_are_kept(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert sorted(os.listdir(folder)) == [LAST, PREVIOUS]
    assert read_checkpoint(folder / PREVIOUS)["number"] == 1
    assert torch.load(folder / LAST, weights_only=True)["number"] == 2  # by anybody who has torch
    assert number_of(folder) == 2
    assert not caplog.messages


@pytest.mark.parametrize("damaged", ["a bit", "a byte", "cut", "the hash cut off", "empty", "grown", "another's end"])
def test_a_damaged_one_is_not_taken_and_the_one_before_is(folder: Path, damaged: str, caplog: pytest.LogCaptureFixture) -> None:
    path = folder / LAST
    whole = path.read_bytes()
    rng = np.random.default_rng(1)
    kinds = {
        "cut": [whole[:-1], whole[:2000]],
        "the hash cut off": [whole[:-86]],
        "empty": [b""],
        "grown": [whole + b"x", b"x" + whole],
        "another's end": [whole[:-64] + (folder / PREVIOUS).read_bytes()[-64:]],
        "a bit": [flipped(whole, int(place), 1) for place in [0, len(whole) - 88, *rng.integers(len(whole), size=60)]],
        "a byte": [flipped(whole, int(place), 255) for place in rng.integers(len(whole), size=20)],
    }
    for content in kinds[damaged]:
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"last\.ckpt: cannot be read as a checkpoint \((there is no hash|its content)"):
            read_checkpoint(path)
    with caplog.at_level(logging.WARNING, "asr"):
        assert number_of(folder) == 1
    assert "going on from the checkpoint before it" in caplog.text
    assert os.listdir(folder) == [LAST]
    write_checkpoint(folder, {"number": 7})
    assert (read_checkpoint(folder / PREVIOUS)["number"], read_checkpoint(path)["number"]) == (1, 7)


def flipped(data: bytes, place: int, bits: int) -> bytes:
    return data[:place] + bytes([data[place] ^ bits]) + data[place + 1 :]


def test_where_none_can_be_read(folder: Path) -> None:
    (folder / LAST).write_bytes(b"no")
    (folder / PREVIOUS).write_bytes(b"no")
    with pytest.raises(DataError, match=r"last\.ckpt: cannot .* nor the one before it: .*previous\.ckpt: cannot .*Remove it"):
        last_checkpoint(folder, "Remove it")
    (folder / PREVIOUS).unlink()
    with pytest.raises(DataError, match=r"last\.ckpt: cannot .* Remove it"):
        last_checkpoint(folder, "Remove it")
    (folder / LAST).unlink()
    assert last_checkpoint(folder, "") is None


def test_the_one_before_is_never_of_another_run(folder: Path) -> None:
    """Whoever removes the last one begins anew."""
    (folder / LAST).unlink()
    assert last_checkpoint(folder, "") is None
    write_checkpoint(folder, content(9))
    assert os.listdir(folder) == [LAST]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_is_neither_written_nor_read(folder: Path, value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = content(3)
    wrong["more"].append({"deep": torch.tensor([1.0, value])})
    with pytest.raises(TrainingDiverged, match=r"more\.3\.deep holds NaN or infinity, so it is not written"):
        write_checkpoint(folder, wrong)
    assert number_of(folder) == 2
    with monkeypatch.context() as patch:
        patch.setattr("asr.engine.checkpoint._not_finite", lambda content: None)
        write_checkpoint(folder, wrong)
    with pytest.raises(DataError, match=r"more\.3\.deep holds NaN or infinity"):
        read_checkpoint(folder / LAST)


def test_a_file_system_without_links(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "link", fail)
    write_checkpoint(folder, content(3))
    assert read_checkpoint(folder / PREVIOUS)["number"] == 2
    assert number_of(folder) == 3


def test_a_full_disk_is_named_and_the_last_ones_stay(folder: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(StorageError, match=rf"{LAST}: cannot be written: File too large"):
            write_checkpoint(folder, {"weight": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert sorted(os.listdir(folder)) == [LAST, PREVIOUS]
    assert number_of(folder) == 2


def test_a_lack_of_memory_is_no_damage(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*args: Any, **settings: Any) -> Any:
        monkeypatch.undo()  # there would be enough for the one before
        raise MemoryError

    monkeypatch.setattr(torch, "load", load)
    with pytest.raises(MemoryError):
        last_checkpoint(folder, "Remove it")
    assert number_of(folder) == 2
