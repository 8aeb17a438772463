"""Files and folders that are written whole or not at all, whatever becomes of the process that writes them."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asr import files
from asr.errors import ConfigError, StorageError
from asr.files import locked, make_folder, remove_folder, replacing, replacing_folder, tidy

_KILLED = """
import os, signal, sys, shutil
from pathlib import Path
from asr import files
folder = Path(sys.argv[1])
kill = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
match sys.argv[2]:
    case "file":
        with files.replacing(folder / "table.csv") as stream:
            stream.write(b"half")
            stream.flush()
            kill()
    case "folder":
        with files.replacing_folder(folder / "package") as new:
            (new / "part").write_text("half")
            kill()
    case "exchanged":
        files.shutil.rmtree = kill
        with files.replacing_folder(folder / "package") as new:
            (new / "part").write_text("new")
    case "moved away":
        files._exchange = lambda *_: False
        rename = os.rename
        files.os.rename = lambda a, b: rename(a, b) if str(b).endswith("old") else kill()
        with files.replacing_folder(folder / "package") as new:
            (new / "part").write_text("new")
    case "removed":
        files.shutil.rmtree = kill
        files.remove_folder(folder / "package")
"""


@pytest.fixture(autouse=True)
def _forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_tidied", set())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a package that one shall take the place of."""
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "part").write_text("old")
    return tmp_path


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


@pytest.mark.parametrize(
    ("what", "standing"),
    [("file", "old"), ("folder", "old"), ("exchanged", "new"), ("moved away", "old"), ("removed", None)],
)
def test_what_a_killed_process_left_is_put_right(folder: Path, what: str, standing: str | None) -> None:
    command = [sys.executable, "-c", _KILLED, str(folder), what]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert any(name.startswith(".") for name in names(folder))
    with replacing(folder / "other"):  # whatever is next written there
        pass
    assert names(folder) == ["other"] + (["package"] if standing else [])
    assert standing is None or (folder / "package" / "part").read_text() == standing


def test_what_others_write_or_named_is_left_alone(folder: Path) -> None:
    kept = [".table.csv.backup", ".package.old", ".package.abcdefgh", ".part"]
    for name in kept:
        (folder / name).write_text("")
    with replacing(folder / "table.csv") as stream, replacing_folder(folder / "package") as new:
        before = names(folder)
        tidy(folder)
        assert names(folder) == before
        assert {Path(stream.name).name, new.name} <= set(before)
    assert names(folder) == sorted([*kept, "package", "table.csv"])


def test_a_folder_is_tidied_once_by_a_process(folder: Path) -> None:
    left = folder / ".table.csv.abcdefgh.asr-part"
    for expected in (False, True):
        left.write_text("half")
        with replacing(folder / "table.csv"):
            pass
        assert left.exists() == expected


def test_a_system_that_cannot_exchange(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_exchange", lambda *_: False)
    with replacing_folder(folder / "package") as new:
        (new / "part").write_text("new")
    assert (folder / "package" / "part").read_text() == "new"
    assert names(folder) == ["package"]


def test_the_old_folder_comes_back_where_the_new_one_cannot_take_its_place(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = os.rename

    def fail_once(source: Path, target: Path) -> None:
        if source.name.endswith("part"):
            raise OSError(errno.EACCES, "Permission denied")
        rename(source, target)

    monkeypatch.setattr(files, "_exchange", lambda *_: False)
    monkeypatch.setattr(os, "rename", fail_once)
    with pytest.raises(OSError, match="Permission"), replacing_folder(folder / "package") as new:
        (new / "part").write_text("new")
    assert (folder / "package" / "part").read_text() == "old"
    assert names(folder) == ["package"]


def test_a_link_stays_a_link(folder: Path) -> None:
    (folder / "link").symlink_to("package")
    with replacing_folder(folder / "link") as new:
        (new / "part").write_text("new")
    assert (folder / "link").is_symlink()
    assert (folder / "package" / "part").read_text() == "new"


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is brought to the disk, and what is renamed, in order."""
    done: list[str] = []

    def note(name: str, call: Any, told: Callable[[Any], str]) -> Any:
        def noting(*arguments: Any) -> Any:
            done.append(told(arguments[0]))
            return call(*arguments)

        monkeypatch.setattr(files if name.startswith("_") else os, name, noting)

    note("fsync", os.fsync, lambda number: Path(os.readlink(f"/proc/self/fd/{number}")).name)
    note("replace", os.replace, lambda _: "renamed")
    note("_exchange", files._exchange, lambda _: "exchanged")
    return done


def test_what_is_replaced_is_on_the_disk_first(folder: Path, synced: list[str]) -> None:
    """Once a file, not once a write; the folder that names it afterwards."""
    with replacing(folder / "package" / "part") as stream:
        for _ in range(10):
            stream.write(b"new")
    assert synced == [Path(stream.name).name, "renamed", "package"]
    synced.clear()
    with replacing_folder(folder / "package") as new:
        (new / "below").mkdir()
        (new / "below" / "a").write_text("")
        (new / "b").write_text("")
    assert sorted(synced[:-2]) == sorted([new.name, "b", "below", "a"])
    assert synced[-2:] == ["exchanged", folder.name]


def test_a_disk_that_fails_at_the_end(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    with (
        pytest.raises(StorageError, match=r"part: cannot be written: Input/output error"),
        replacing(folder / "package" / "part"),
    ):
        pass
    with pytest.raises(OSError, match="Input/output"), replacing_folder(folder / "package"):
        pass
    assert names(folder) == ["package"]
    assert names(folder / "package") == ["part"]
    assert (folder / "package" / "part").read_text() == "old"


@pytest.mark.parametrize("use", [replacing, replacing_folder, locked, lambda path: make_folder(path.parent)])
def test_a_place_without_folders(use: Callable[[Path], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In /proc the system says of each new folder that it does not exist."""

    def absent(path: object, *_: object) -> None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)

    monkeypatch.setattr(os, "mkdir", absent)
    with pytest.raises(ConfigError, match=r"a: no folder can be made there; choose another"):
        use(tmp_path / "a" / "b").__enter__()


def test_removed_folder(folder: Path) -> None:
    remove_folder(folder / "package")
    assert names(folder) == []
