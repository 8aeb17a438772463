"""Fetch a file with resume and checksum, and unpack an archive that is not trusted."""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from asr.errors import DataError, Failure, StorageError
from asr.files import make_folder, sync
from asr.progress import Progress

_BLOCK_BYTES = 1 << 18
_TIMEOUT_S = 30.0
_TRANSIENT = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError)


def download(url: str, path: Path, md5: str, *, n_attempts: int = 4, pause_s: float = 2.0) -> Path:
    """Fetch a file; what an interrupted call left in ``<path>.part`` is gone on with.

    Parameters
    ----------
    url
        Where the file lies (http or https).
    path
        Where to put it.
    md5
        Its checksum, hexadecimal.
    n_attempts
        How often in a row a broken connection is tried again without any progress.
    pause_s
        Seconds before the second attempt; doubled before each further one.

    Raises
    ------
    DataError
        The address is wrong, or the checksum is: the file is removed then.
    Failure
        The connection broke too often; another call goes on where this one stopped.
    StorageError
        The disk is full or cannot be written.
    """
    if not url.lower().startswith(("http://", "https://")):
        raise DataError(f"{url}: expected an address that starts with http:// or https://")
    partial = path.with_name(path.name + ".part")
    if not path.exists():
        try:
            make_folder(path.parent)
            _fetch(url, partial, n_attempts, pause_s)
            sync(partial)
            partial.replace(path)
            sync(path.parent)
        except _TRANSIENT as error:
            raise Failure(f"{url}: the connection failed: {error}. Run it again: it goes on where it stopped") from error
        except OSError as error:
            raise StorageError(f"{partial}: cannot be written: {error.strerror or error}") from error
    found = _md5(path)
    if found != md5:
        path.unlink()
        raise DataError(f"{url}: has the MD5 checksum {found}, expected {md5}; removed. Try again, or another mirror")
    return path


def _fetch(url: str, partial: Path, n_attempts: int, pause_s: float) -> None:
    n_failed = 0
    while True:
        n_before = partial.stat().st_size if partial.exists() else 0
        try:
            _fetch_rest(url, partial)
            return
        except urllib.error.HTTPError as error:
            if error.code < 500:
                raise DataError(f"{url}: the server answers {error.code} {error.reason}; is the address right?") from None
            failure: Exception = error
        except _TRANSIENT as error:
            failure = error
        n_now = partial.stat().st_size if partial.exists() else 0
        n_failed = 1 if n_now > n_before else n_failed + 1
        if n_failed >= n_attempts:
            raise failure
        time.sleep(pause_s * 2 ** (n_failed - 1))


def _fetch_rest(url: str, partial: Path) -> None:
    """One connection: append to the partial file what it lacks."""
    n_have = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={n_have}-"} if n_have else {})
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == 416 and n_have:  # nothing lies beyond what is here: it is whole, or no part of this file
            return
        raise
    with response:
        resumed = response.status == 206
        n_rest = int(response.headers.get("Content-Length") or 0)
        n_total = n_rest + (n_have if resumed else 0)
        mode = "ab" if resumed else "wb"
        with open(partial, mode) as stream, Progress(partial.stem, n_total, "bytes") as progress:
            progress.resume(n_have if resumed else 0)
            while block := response.read(_BLOCK_BYTES):
                stream.write(block)
                progress.advance(len(block))
        if n_rest and progress.done < n_total:
            raise ConnectionError(f"the connection closed after {progress.done} of {n_total} bytes")


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as stream, Progress(f"{path.name}: checksum", path.stat().st_size, "bytes") as progress:
        while block := stream.read(_BLOCK_BYTES):
            digest.update(block)
            progress.advance(len(block))
    return digest.hexdigest()


def unpack_tar(archive: Path, folder: Path, target: Path, *, strip: str) -> None:
    """Unpack an archive so that ``target`` is there whole or not at all.

    Parameters
    ----------
    archive
        A tar file, compressed or not.
    folder
        Where its files go.
    target
        The folder below ``folder`` that the archive is expected to hold.
    strip
        Leading folder in the archive that is left away.

    Raises
    ------
    DataError
        The archive is corrupt, does not hold the target, or has a member that would be written outside the folder.
    """
    staging = folder / f".{target.name}.unpacking"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        with tarfile.open(archive) as tar, Progress(f"{archive.name}: unpacking", 0, "files") as progress:
            for member in _stripped(tar, strip):
                tar.extract(member, staging, filter="data")
                progress.advance(1)
        if not (staging / target.name).is_dir():
            raise DataError(f"{archive}: does not hold {strip}/{target.name}")
        os.sync()  # of many thousand files, all at once
        for path in staging.iterdir():
            if path.name == target.name or not (folder / path.name).exists():
                path.replace(folder / path.name)
    except tarfile.FilterError as error:
        raise DataError(f"{archive}: refused, a member would be written outside the folder: {error}") from None
    except (tarfile.TarError, EOFError) as error:
        raise DataError(f"{archive}: is not a whole tar archive: {error}. Remove it and try again") from None
    except OSError as error:
        raise StorageError(f"{folder}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _stripped(tar: tarfile.TarFile, strip: str) -> Iterator[tarfile.TarInfo]:
    """Members with the leading folder left away; the folder itself is left out."""
    for member in tar:
        parts = [part for part in PurePosixPath(member.name).parts if part != "."]
        if parts[:1] == [strip]:
            parts = parts[1:]
        if parts and not (member.islnk() or member.issym()):
            # An absolute name stays absolute here, for the extraction filter to refuse.
            yield member.replace(name=str(PurePosixPath(*parts)), deep=False)
