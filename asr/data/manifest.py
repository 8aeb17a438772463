"""Manifests: gzipped lines of JSON, one lhotse cut (an utterance) a line.

``asr prepare`` writes them to ``<manifests>/<corpus>/<part>.jsonl.gz``; everything else names them ``<corpus>/<part>``.
"""

from __future__ import annotations

import difflib
import gzip
import json
import math
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from asr.errors import ConfigError, DataError
from asr.files import replacing
from asr.output import is_unicode, to_json

if TYPE_CHECKING:
    from lhotse import CutSet
    from lhotse.cut import Cut

SUFFIXES = (".jsonl.gz", ".jsonl")
# Not `command` and `url`: data never decides what is run or fetched.
_SOURCES = frozenset({"file", "memory"})


def resolve(name: str, folder: str | Path) -> Path:
    """Find a manifest by its name below the manifests folder, or by its path.

    Parameters
    ----------
    name
        A name such as ``librispeech/train-clean-5``, or the path of a ``.jsonl`` or ``.jsonl.gz`` file of lhotse cuts.
    folder
        The manifests folder.

    Raises
    ------
    DataError
        There is no such manifest; the message names the nearest ones that exist.
    """
    folder = Path(folder)
    by_path = name.endswith(SUFFIXES)
    candidates = [Path(name), folder / name] if by_path else [folder / f"{name}{suffix}" for suffix in SUFFIXES]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    existing = available(folder)
    nearest = difflib.get_close_matches(name, existing, n=3, cutoff=0.4) or existing[:5]
    hint = f"the nearest there are: {', '.join(nearest)}" if nearest else f"there is none in {folder}"
    raise DataError(f"manifest {name!r}: not found as {candidates[0]}; {hint}. Write it with `asr prepare`")


def manifest_stem(name: str) -> str:
    """Return the name of the files of a manifest's results: ``an4-test`` of ``an4/test``, ``mine`` of ``/data/mine.jsonl``."""
    plain = name.removesuffix(".gz").removesuffix(".jsonl")
    return Path(plain).name if plain != name else plain.strip("/").replace("/", "-")


def manifest_stems(names: Sequence[str]) -> dict[str, str]:
    """Return the stem of each manifest.

    Raises
    ------
    ConfigError
        Two are the same, so that one's results would overwrite the other's.
    """
    stems: dict[str, str] = {}
    for name in names:
        stem = manifest_stem(name)
        if stem in stems.values():
            raise ConfigError(f"manifest {name}: another one's results are called {stem} as well; evaluate them one by one")
        stems[name] = stem
    return stems


def available(folder: str | Path) -> list[str]:
    """Names of the manifests below a folder, sorted."""
    folder = Path(folder)
    names = []
    for path in folder.rglob("*.jsonl*"):
        name = path.relative_to(folder).as_posix()
        for suffix in SUFFIXES:
            if name.endswith(suffix) and not name.endswith((".rejected.jsonl", ".partial.jsonl")):
                names.append(name.removesuffix(suffix))
                break
    return sorted(names)


def read_manifest(names: str | Sequence[str], folder: str | Path) -> CutSet:
    """Read one or more manifests into memory, in the order given.

    Parameters
    ----------
    names
        Manifests, as :func:`resolve` takes them.
    folder
        The manifests folder.

    Returns
    -------
    lhotse.CutSet
        Eager; every cut has a transcript and an id of its own.

    Raises
    ------
    DataError
        A manifest is absent, empty or corrupt, an utterance has no transcript, or an id occurs twice.
    """
    from lhotse import CutSet

    names = [names] if isinstance(names, str) else list(names)
    if not names:
        raise DataError("no manifest is named; expected at least one, such as librispeech/train-clean-5")
    seen: dict[str, str] = {}
    cuts: list[Cut] = []
    for path in [resolve(name, folder) for name in names]:
        n_before = len(cuts)
        for line_number, cut in _read_cuts(path):
            where = f"{path}, line {line_number}"
            if cut.id in seen:
                raise DataError(f"{where}: the id {cut.id!r} occurs twice, first in {seen[cut.id]}; ids must be unique")
            seen[cut.id] = where
            if any(supervision.text is None for supervision in cut.supervisions) or not cut.supervisions:
                raise DataError(f"{where}: utterance {cut.id!r} has no transcript; expected a supervision with a text")
            cuts.append(cut)
        if len(cuts) == n_before:
            raise DataError(f"{path}: the manifest is empty; expected at least one utterance. Prepare it again")
    return CutSet.from_cuts(cuts)


def transcript(cut: Cut) -> str:
    """Return the text of an utterance: of all its supervisions, in the order of time."""
    supervisions = sorted(cut.supervisions, key=lambda supervision: supervision.start)
    return " ".join(supervision.text for supervision in supervisions if supervision.text)


def write_manifest(cuts: Iterable[Cut], path: str | Path) -> Path:
    """Write a manifest, whole or not at all; the same cuts give the same bytes.

    Raises
    ------
    StorageError
        The file cannot be written.
    """
    path = Path(path)
    lines = (to_json(cut.to_dict()).encode() + b"\n" for cut in cuts)
    with replacing(path) as stream:
        if path.suffix == ".gz":
            with gzip.GzipFile(fileobj=stream, mode="wb", mtime=0, filename="") as packed:
                packed.writelines(lines)
        else:
            stream.writelines(lines)
    return path


def _read_cuts(path: Path) -> Iterator[tuple[int, Cut]]:
    from lhotse.serialization import deserialize_item

    line_number = 0
    try:
        opened = gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb")  # noqa: SIM115 - closed by `with`
        with opened as stream:
            for line_number, line in enumerate(stream, start=1):
                if line.strip():
                    yield line_number, _checked_cut(deserialize_item(json.loads(line.decode("utf-8"))))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{path}, line {line_number}: is not a lhotse cut: {error}. Prepare the manifest again") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read after line {line_number}: {error}. Prepare the manifest again") from None


def _checked_cut(item: object) -> Cut:
    from lhotse.cut import Cut, MixedCut

    if not isinstance(item, Cut):
        raise ValueError(f"expected a cut, found a {type(item).__name__}")
    if not isinstance(item.id, str) or not item.id:
        raise ValueError(f"the id is {item.id!r}, expected a text")
    for name, value, allowed in (("start", item.start, item.start >= 0), ("duration", item.duration, item.duration > 0)):
        if not allowed or not math.isfinite(value):
            raise ValueError(f"the {name} of {item.id!r} is {value} s")
    for supervision in item.supervisions:
        if not isinstance(supervision.text, str | None):
            raise ValueError(f"the text of {item.id!r} is {supervision.text!r}, expected a text")
        if not is_unicode(supervision.text or ""):
            raise ValueError(f"the text of {item.id!r} holds a half of a surrogate pair")
    for part in [track.cut for track in item.tracks] if isinstance(item, MixedCut) else [item]:
        for source in part.recording.sources if part.has_recording else []:
            if source.type not in _SOURCES:
                raise ValueError(f"the audio of {item.id!r} is of type {source.type!r}, expected a file")
    return item
