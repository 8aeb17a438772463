"""Download with resume and checksum, against a server on this machine; unpacking of hostile archives."""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import asr.data.librispeech as librispeech
from asr.data.download import download, unpack_tar
from asr.errors import DataError, Failure

CONTENT = bytes(range(256)) * 4000
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves ``files``; breaks off after ``break_after`` bytes, ``n_breaks`` times; notes the ranges asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {"/file": CONTENT}
        self.break_after = len(CONTENT)
        self.n_breaks = 0
        self.ranges: list[str | None] = []
        self.takes_ranges = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.ranges.append(asked)
        content = self.server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.server.takes_ranges else 0
        if start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if self.server.n_breaks > 0:
            self.server.n_breaks -= 1
            self.wfile.write(content[start : start + self.server.break_after])
            self.close_connection = True
        else:
            self.wfile.write(content[start:])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def fetch(server: Server, path: Path, **options: float) -> Path:
    return download(f"{server.url}/file", path, MD5, **{"pause_s": 0.0, **options})  # type: ignore[arg-type]


def test_fetches_once(server: Server, tmp_path: Path) -> None:
    assert fetch(server, tmp_path / "below" / "f").read_bytes() == CONTENT
    fetch(server, tmp_path / "below" / "f")
    assert server.ranges == [None]
    assert [path.name for path in (tmp_path / "below").iterdir()] == ["f"]


def test_broken_connection_is_gone_on_with(server: Server, tmp_path: Path) -> None:
    server.break_after, server.n_breaks = 300_000, 2
    assert fetch(server, tmp_path / "f").read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=300000-", "bytes=600000-"]


def test_second_call_goes_on_where_the_first_gave_up(server: Server, tmp_path: Path) -> None:
    server.break_after, server.n_breaks = 300_000, 1
    with pytest.raises(Failure, match="goes on where it stopped"):
        fetch(server, tmp_path / "f", n_attempts=1)
    assert (tmp_path / "f.part").stat().st_size == 300_000
    assert fetch(server, tmp_path / "f").read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=300000-"]


def test_server_without_ranges_starts_anew(server: Server, tmp_path: Path) -> None:
    server.takes_ranges = False
    (tmp_path / "f.part").write_bytes(CONTENT[:1000])
    assert fetch(server, tmp_path / "f").read_bytes() == CONTENT


def test_interrupted_just_before_the_end(server: Server, tmp_path: Path) -> None:
    (tmp_path / "f.part").write_bytes(CONTENT)
    assert fetch(server, tmp_path / "f").read_bytes() == CONTENT


def test_wrong_checksum(server: Server, tmp_path: Path) -> None:
    server.files["/file"] = CONTENT[:-1] + b"x"
    with pytest.raises(DataError, match=f"expected {MD5}; removed"):
        fetch(server, tmp_path / "f")
    assert not list(tmp_path.iterdir())


def test_wrong_address(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the server answers 404"):
        download(f"{server.url}/gone", tmp_path / "f", MD5)
    with pytest.raises(DataError, match="expected an address"):
        download("file:///etc/passwd", tmp_path / "f", MD5)


def archive_of(members: dict[str, bytes], links: dict[str, str] | None = None) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
    return packed.getvalue()


@pytest.mark.parametrize("name", ["../evil", "LibriSpeech/../../evil", "LibriSpeech/p/../../../evil"])
def test_member_outside_the_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.tar.gz").write_bytes(archive_of({"LibriSpeech/p/1": b"1", name: b"evil"}))
    with pytest.raises(DataError, match="outside the folder"):
        unpack_tar(tmp_path / "a.tar.gz", tmp_path / "c" / "d", tmp_path / "c" / "d" / "p", strip="LibriSpeech")
    assert not list(tmp_path.rglob("evil"))
    assert not list((tmp_path / "c" / "d").iterdir())


def test_absolute_member_and_link_do_not_leave_the_folder(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    members = {"LibriSpeech/p/1": b"1", f"{outside}/evil": b"evil", "LibriSpeech/link/evil": b"evil"}
    packed = archive_of(members, links={"LibriSpeech/link": str(outside)})
    (tmp_path / "a.tar.gz").write_bytes(packed)
    unpack_tar(tmp_path / "a.tar.gz", tmp_path / "c", tmp_path / "c" / "p", strip="LibriSpeech")
    assert not list(outside.iterdir())
    assert (tmp_path / "c" / "p" / "1").read_bytes() == b"1"


@pytest.mark.parametrize(
    "packed", [b"no archive", archive_of({"LibriSpeech/p/1": bytes(100_000)})[:60], archive_of({"x/1": b"1"})]
)
def test_archive_that_is_not_the_part(tmp_path: Path, packed: bytes) -> None:
    (tmp_path / "a.tar.gz").write_bytes(packed)
    with pytest.raises(DataError, match=r"a\.tar\.gz: (is not a whole|does not hold)"):
        unpack_tar(tmp_path / "a.tar.gz", tmp_path / "c", tmp_path / "c" / "p", strip="LibriSpeech")
    assert not list((tmp_path / "c").iterdir())


def test_official_part_from_a_mirror(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = archive_of({"LibriSpeech/SPEAKERS.TXT": b"1 | F |", "LibriSpeech/dev-clean-2/1/2/1-2.trans.txt": b"1-2-0000 A"})
    monkeypatch.setitem(librispeech.ARCHIVES, "dev-clean-2", (31, hashlib.md5(packed).hexdigest()))
    server.files["/31/dev-clean-2.tar.gz"] = packed
    folder = tmp_path / "LibriSpeech"
    for _ in range(2):
        librispeech.download_part("dev-clean-2", folder, server.url + "/")
    assert server.ranges == [None]
    assert (folder / "dev-clean-2" / "1" / "2" / "1-2.trans.txt").read_bytes() == b"1-2-0000 A"
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["1-2.trans.txt", "SPEAKERS.TXT"]
    with pytest.raises(DataError, match=r"'dev-clean-3' cannot be downloaded\. Did you mean dev-clean-2\?"):
        librispeech.download_part("dev-clean-3", folder, server.url)
