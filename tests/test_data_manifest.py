"""Manifests: written whole, read with every fault named."""

from __future__ import annotations

import errno
import gzip
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lhotse import CutSet

from asr.data.manifest import available, read_manifest, resolve, write_manifest
from asr.data.table import prepare_table
from asr.errors import ConfigError, DataError, StorageError


@pytest.fixture
def manifests(write_corpus: Callable[..., Path], tmp_path: Path) -> Path:
    folder = tmp_path / "manifests"
    list(prepare_table(write_corpus([0.3, 0.4]), "noise/train", folder))
    return folder


def rewrite(manifests: Path, name: str, change: Callable[[list[str]], list[str]]) -> Path:
    lines = gzip.decompress(resolve("noise/train", manifests).read_bytes()).decode().splitlines()
    path = manifests / "noise" / f"{name}.jsonl"
    path.write_text("\n".join(change(lines)) + "\n")
    return path


def without_text(lines: list[str]) -> list[str]:
    cut = json.loads(lines[1])
    del cut["supervisions"][0]["text"]
    return [lines[0], json.dumps(cut)]


def test_names_and_paths(manifests: Path) -> None:
    path = manifests / "noise" / "train.jsonl.gz"
    assert resolve("noise/train", manifests) == resolve("noise/train.jsonl.gz", manifests) == path
    assert resolve(str(path), "elsewhere") == path
    assert available(manifests) == ["noise/train"]
    assert [cut.supervisions[0].text for cut in read_manifest("noise/train", manifests)] == ["text 0", "text 1"]


def test_absent_manifest_names_the_nearest(manifests: Path) -> None:
    with pytest.raises(DataError, match=r"'noise/trian': not found .*nearest there are: noise/train.*asr prepare"):
        read_manifest(["noise/trian"], manifests)
    with pytest.raises(DataError, match="there is none in"):
        read_manifest(["noise/train"], manifests / "nowhere")
    with pytest.raises(DataError, match="no manifest is named"):
        read_manifest([], manifests)


def test_id_in_two_manifests(manifests: Path) -> None:
    rewrite(manifests, "again", lambda lines: lines[1:])
    with pytest.raises(DataError, match=r"again\.jsonl, line 1: the id 'corpus-001' occurs twice, first in .*line 2"):
        read_manifest(["noise/train", "noise/again"], manifests)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: [""], "is empty"),
        (lambda lines: [lines[0], lines[1][:50]], "line 2: is not a lhotse cut"),
        (lambda lines: [lines[0], '{"type": "Table"}'], "line 2: is not a lhotse cut"),
        (lambda lines: ["[1, 2]"], "line 1: is not a lhotse cut"),
        (lambda lines: [json.dumps(json.loads(lines[0])["recording"])], "line 1: is not a lhotse cut"),
        (without_text, "line 2: utterance 'corpus-001' has no transcript"),
    ],
)
def test_faults_are_named(manifests: Path, change: Callable[[list[str]], list[str]], message: str) -> None:
    rewrite(manifests, "broken", change)
    with pytest.raises(DataError, match=rf"broken\.jsonl.*{message}"):
        read_manifest(["noise/broken"], manifests)


@pytest.mark.parametrize("damage", [lambda data: data[:-20], lambda data: b"\x00" * 50, lambda data: b""])
def test_damaged_gzip(manifests: Path, damage: Callable[[bytes], bytes]) -> None:
    path = resolve("noise/train", manifests)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=r"train\.jsonl\.gz"):
        read_manifest(["noise/train"], manifests)


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz"])
def test_written_whole_or_not_at_all(manifests: Path, suffix: str) -> None:
    cuts = read_manifest("noise/train", manifests)
    path = write_manifest(cuts, manifests / f"copy.{suffix}")
    before = path.read_bytes()
    assert list(read_manifest("copy", manifests)) == list(cuts) == list(CutSet.from_file(path))

    def breaks_off() -> Iterator[object]:
        yield next(iter(cuts))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_manifest(breaks_off(), path)
    assert path.read_bytes() == before
    assert write_manifest(cuts, path).read_bytes() == before
    assert sorted(os.listdir(manifests)) == sorted([path.name, "noise"])


def test_folder_that_cannot_be_written(manifests: Path) -> None:
    (manifests / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        write_manifest(read_manifest("noise/train", manifests), manifests / "file" / "below.jsonl")


def test_what_is_no_plain_file_is_not_replaced(manifests: Path) -> None:
    cuts = read_manifest("noise/train", manifests)
    os.mkfifo(manifests / "pipe.jsonl")
    for place, words in ((manifests / "pipe.jsonl", "no plain file"), (manifests / "noise", "is a folder")):
        with pytest.raises(ConfigError, match=words):
            write_manifest(cuts, place)
    assert (manifests / "pipe.jsonl").is_fifo()
    assert sorted(os.listdir(manifests)) == ["noise", "pipe.jsonl"]


def test_full_disk(manifests: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cuts = read_manifest("noise/train", manifests)
    make: Any = tempfile.NamedTemporaryFile

    def on_full_disk(**options: object) -> Any:
        stream = make(**options)

        def write(_: bytes) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        stream.write = write
        return stream

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", on_full_disk)
    with pytest.raises(StorageError, match=r"copy\.jsonl\.gz: cannot be written: No space left"):
        write_manifest(cuts, manifests / "copy.jsonl.gz")
    assert sorted(os.listdir(manifests)) == ["noise"]
