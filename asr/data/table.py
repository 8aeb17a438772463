"""Corpora of one's own: a CSV, TSV or JSONL table with one utterance a row, or a Kaldi data folder."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from asr.data.hold_out import hold_out
from asr.data.validate import PartSummary, Utterance, write_part
from asr.errors import DataError
from asr.option import nearest

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_OTHER_DELIMITERS = (";", "\t", "|", ",")
_NAMES = {"\t": "tab"}
_NAME = re.compile(r"[\w.+-]+(/[\w.+-]+)?")


@dataclass(frozen=True)
class Columns:
    """Which column of a table holds what; ``None`` where there is none (``id`` and ``speaker``: where none has that name).

    Attributes
    ----------
    audio, text
        Path of the audio file, and the transcript.
    id, speaker, split
        Utterance id, speaker, and the part a row belongs to.
    start, duration
        The stretch of the audio file, in seconds.
    """

    audio: str = "audio"
    text: str = "text"
    id: str | None = None
    speaker: str | None = None
    split: str | None = None
    start: str | None = None
    duration: str | None = None


def prepare_table(
    file: Path,
    name: str,
    manifests: Path,
    columns: Columns | None = None,
    *,
    delimiter: str | None = None,
    dev_share: float = 0.0,
    skip_invalid: bool = False,
    decode: bool = False,
    n_threads: int = 8,
) -> Iterator[PartSummary]:
    """Write the manifests of a table: ``<name>/all``, or ``name`` itself if it names a part, or one for each split.

    With ``dev_share`` they are ``<name>/train`` and ``<name>/dev``, and the other splits.

    Parameters
    ----------
    file
        ``.csv`` or ``.tsv`` with a header row, or ``.jsonl`` with one object a line; UTF-8. Relative audio paths count from
        its folder.
    name
        ``corpus`` or ``corpus/part``.
    manifests
        The manifests folder.
    columns
        Names of the columns.
    delimiter
        What divides the columns; a comma in ``.csv`` and a tab in ``.tsv`` if left out.
    dev_share
        Share of the training utterances that :func:`asr.data.hold_out.hold_out` sets aside as ``dev``; 0 for none.
    skip_invalid, decode, n_threads
        As for :func:`asr.data.validate.write_part`.

    Raises
    ------
    DataError
        The table is absent, malformed or empty, lacks a column, or has rows that cannot be used; or there is nothing to set
        ``dev_share`` of aside.
    """
    columns = columns or Columns()
    path = manifest_path(name, manifests)
    if dev_share and columns.split is None:
        if "/" in name:
            raise DataError(
                f"{name!r} names a part, but the parts of a table with held-out rows are train and dev; name the corpus"
            )
        path = path.with_name("train.jsonl.gz")
    rows = list(_read_table(file, delimiter, columns))
    if not rows:
        raise DataError(f"{file}: the table is empty; expected one utterance a row")
    columns = _check_columns(file, columns, list(dict.fromkeys(key for _, row in rows for key in row)))
    parts: dict[Path, list[Utterance]] = {}
    for row_number, row in rows:
        utterance = _row_to_utterance(f"{file}, row {row_number}", row, columns, file.parent)
        parts.setdefault(_part_path(path, utterance.where, row, columns.split), []).append(utterance)
    if dev_share:
        _set_aside(file, parts, path.with_name("train.jsonl.gz"), path.with_name("dev.jsonl.gz"), dev_share)
    for part, utterances in parts.items():
        yield write_part(utterances, part, skip_invalid=skip_invalid, decode=decode, n_threads=n_threads)


def prepare_kaldi(
    folder: Path, name: str, manifests: Path, *, skip_invalid: bool = False, decode: bool = False, n_threads: int = 8
) -> PartSummary:
    """Write the manifest of a Kaldi data folder: ``wav.scp`` and ``text``, with ``utt2spk`` and ``segments`` if there.

    Entries of ``wav.scp`` that are commands (ending in ``|``) are refused: data never decides what is run.

    Parameters
    ----------
    folder
        The data folder. Relative paths in ``wav.scp`` count from the current folder, as in Kaldi, or else from this one.
    name, manifests, skip_invalid, decode, n_threads
        As for :func:`prepare_table`.

    Raises
    ------
    DataError
        A file is absent or malformed, an entry is a command, or utterances cannot be used.
    """
    path = manifest_path(name, manifests)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected a Kaldi data folder with wav.scp and text")
    utterances = list(_read_kaldi(folder))
    if not utterances:
        raise DataError(f"{folder / 'text'}: is empty; expected lines `UTTERANCE-ID WORDS...`")
    entries = {"wav.scp": {row.recording_id or row.id for row in utterances}, "segments": {row.id for row in utterances}}
    spare = [
        f"{folder / name}: {len(unused)} entries have no transcript, such as {min(unused)}"
        for name, used in entries.items()
        if (unused := {entry for _, entry, _ in _read_kaldi_file(folder / name, optional=True)} - used)
    ]
    return write_part(utterances, path, spare, skip_invalid=skip_invalid, decode=decode, n_threads=n_threads)


def manifest_path(name: str, manifests: Path) -> Path:
    """Return the manifest that ``corpus`` or ``corpus/part`` names; the part is ``all`` by default.

    Raises
    ------
    DataError
        It cannot name one.
    """
    if not _NAME.fullmatch(name) or {".", ".."} & set(name.split("/")):
        raise DataError(f"{name!r} cannot name a manifest; expected CORPUS or CORPUS/PART of letters, digits, `.+-_`")
    return manifests / f"{name if '/' in name else name + '/all'}.jsonl.gz"


def _part_path(path: Path, where: str, row: Mapping[str, Any], split_column: str | None) -> Path:
    if split_column is None:
        return path
    split = str(row.get(split_column) or "").strip()
    if not _NAME.fullmatch(split) or "/" in split or split in (".", ".."):
        raise DataError(f"{where}: the split {split!r} in column {split_column!r} cannot name a manifest")
    return path.with_name(f"{split}.jsonl.gz")


def _set_aside(file: Path, parts: dict[Path, list[Utterance]], train: Path, dev: Path, share: float) -> None:
    there = ", ".join(part.name.partition(".")[0] for part in parts)
    if train not in parts or dev in parts:
        raise DataError(
            f"{file}: rows are set aside as `dev` from `train`, so there must be that and not yet this; it has {there}"
        )
    kept, held_out = hold_out(parts[train], share)
    if not kept:
        raise DataError(f"{file}: has {len(held_out)} training rows; none is left when a share of {share:g} is set aside")
    parts |= {train: kept, dev: held_out}


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{file}: no such file") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        byte = error.object[error.start]
        raise DataError(f"{file}, line {line}: is not UTF-8 text (byte 0x{byte:02x}); convert it to UTF-8") from None
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror or error}") from None


def _read_table(file: Path, delimiter: str | None, columns: Columns) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the number of a row's line in the file, and the row."""
    suffix = file.suffix.lower()
    if suffix == ".jsonl" and delimiter is None:
        yield from _read_jsonl(file)
    elif suffix in _DELIMITERS:
        yield from _read_delimited(file, delimiter or _DELIMITERS[suffix], columns)
    elif suffix == ".jsonl":
        raise DataError(f"{file}: nothing divides the columns of .jsonl; leave out --delimiter")
    else:
        raise DataError(f"{file}: expected a table that ends in .csv, .tsv or .jsonl")


def _read_jsonl(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for line_number, line in enumerate(_read_text(file).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"{file}, row {line_number}: is not JSON: {error}") from None
        if not isinstance(row, dict):
            raise DataError(f"{file}, row {line_number}: expected an object {{...}}, found a {type(row).__name__}")
        yield line_number, row


def _read_delimited(file: Path, delimiter: str, columns: Columns) -> Iterator[tuple[int, dict[str, Any]]]:
    # In tab-separated files a quotation mark is text; in comma-separated ones it may enclose commas and line ends.
    quoting: Literal[0, 3] = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
    reader = csv.reader(io.StringIO(_read_text(file), newline=""), delimiter=delimiter, quoting=quoting, strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        first = next(reader, [])
        if other := _other_delimiter(header, first, delimiter, {columns.audio, columns.text}):
            found = f"one column, {header[0]!r}" if len(header) == 1 else f"the columns {', '.join(map(repr, header))}"
            raise DataError(
                f"{file}: has {found}, as {delimiter!r} divides those of {file.suffix}; if {other!r} divides these, "
                f"give --delimiter {_NAMES.get(other, repr(other))}"
            )
        repeated = next((name for name in header if header.count(name) > 1), None)
        if repeated is not None:
            raise DataError(f"{file}: two columns are called {repeated!r}; give each a name of its own")
        for row in chain([first], reader):
            if not any(cell.strip() for cell in row):
                continue
            if len(row) != len(header):
                raise DataError(f"{file}, row {reader.line_num}: has {len(row)} columns, the header has {len(header)}")
            yield reader.line_num, dict(zip(header, row, strict=True))
    except csv.Error as error:
        raise DataError(f"{file}, row {reader.line_num}: is malformed: {error}") from None


def _other_delimiter(header: list[str], row: list[str], delimiter: str, wanted: set[str]) -> str:
    """Return what seems to divide the columns of a header that lacks wanted ones, and of a row; empty where nothing does."""
    if not header or wanted.issubset(header):
        return ""

    def worth(names: list[str]) -> tuple[int, int]:
        return len(wanted.intersection(names)), len(names)

    others = [mark for mark in _OTHER_DELIMITERS if mark != delimiter]
    divided = {mark: [name.strip() for name in delimiter.join(header).split(mark)] for mark in others}
    mark = max(divided, key=lambda mark: worth(divided[mark]))
    if len(header) == 1 or worth(divided[mark])[0] > worth(header)[0]:
        return mark if worth(divided[mark]) > worth(header) else ""
    # The name of a column may hold another mark: it is believed where it divides the row alike.
    fits = len(divided[mark]) > len(header) != len(row) and len(delimiter.join(row).split(mark)) == len(divided[mark])
    return mark if fits else ""


def _check_columns(file: Path, columns: Columns, present: list[str]) -> Columns:
    """Fill in the columns that are taken where they exist; refuse those that were asked for and do not."""
    chosen = {column.name: getattr(columns, column.name) for column in fields(columns)}
    for optional in ("id", "speaker"):
        if chosen[optional] is None and optional in present:
            chosen[optional] = optional
    for role, column in chosen.items():
        if column is not None and column not in present:
            raise DataError(
                f"{file}: has no column {column!r}.{nearest(column, present)} There are: {', '.join(map(repr, present))}. "
                f"Name it with --{role}-column"
            )
    return Columns(**chosen)


def _row_to_utterance(where: str, row: Mapping[str, Any], columns: Columns, folder: Path) -> Utterance:
    def cell(column: str | None) -> str:
        value = row.get(column) if column else None
        return "" if value is None else str(value).strip()

    name = cell(columns.audio)
    audio = folder / name if name else Path("(no audio path)")
    start, duration = cell(columns.start), cell(columns.duration)
    is_part = bool(start or duration)
    return Utterance(
        id=cell(columns.id) if columns.id else _id_from_path(name, start),
        audio=audio,
        text=cell(columns.text),
        where=where,
        speaker=cell(columns.speaker) or None,
        recording_id=_id_from_path(name, "") if is_part else None,
        start_s=_seconds(start) if start else 0.0,
        duration_s=_seconds(duration) if duration else None,
    )


def _id_from_path(name: str, start: str) -> str:
    stem = re.sub(r"\.\w+$", "", name.replace("\\", "/").lstrip("./"))
    return f"{stem}-{start}" if start else stem


def _seconds(value: str) -> float:
    """Read a number of seconds; what is no number becomes NaN, which the row check reports."""
    try:
        return float(value)
    except ValueError:
        return float("nan")


def _read_kaldi(folder: Path) -> Iterator[Utterance]:
    recordings = {name: (path, row) for row, name, path in _read_kaldi_file(folder / "wav.scp")}
    for path, row in recordings.values():
        if path.endswith("|") or path.startswith("|"):
            raise DataError(
                f"{folder / 'wav.scp'}, row {row}: is a command ({path[:60]}), which is never run; "
                "convert the audio to files first (`wav-copy scp:wav.scp ...`) and list their paths"
            )
    speakers = {name: value for _, name, value in _read_kaldi_file(folder / "utt2spk", optional=True)}
    segments = {name: (value, row) for row, name, value in _read_kaldi_file(folder / "segments", optional=True)}
    for row, name, text in _read_kaldi_file(folder / "text"):
        where = f"{folder / 'text'}, row {row}"
        recording_id, start_s, duration_s = name, 0.0, None
        if segments:
            if name not in segments:
                raise DataError(f"{where}: the utterance {name!r} is not in {folder / 'segments'}")
            recording_id, start_s, duration_s = _segment(segments[name][0], f"{folder / 'segments'}, row {segments[name][1]}")
        if recording_id not in recordings:
            raise DataError(f"{where}: the recording {recording_id!r} is not in {folder / 'wav.scp'}")
        audio = Path(recordings[recording_id][0])
        if not audio.is_absolute() and not audio.exists():
            audio = folder / audio
        yield Utterance(name, audio, text, where, speakers.get(name), recording_id if segments else None, start_s, duration_s)


def _segment(value: str, where: str) -> tuple[str, float, float | None]:
    cells = value.split()
    if len(cells) != 3:
        raise DataError(f"{where}: expected `UTTERANCE-ID RECORDING-ID START END`, found {len(cells) + 1} columns")
    start_s, end_s = _seconds(cells[1]), _seconds(cells[2])
    # Kaldi writes -1 for the end of the recording.
    return cells[0], start_s, None if end_s == -1 else end_s - start_s


def _read_kaldi_file(path: Path, *, optional: bool = False) -> Iterator[tuple[int, str, str]]:
    """Yield row number, first word and the rest of each line; a first word that occurs twice is refused, save in ``text``."""
    if optional and not path.exists():
        return
    seen: set[str] = set()
    for row, line in enumerate(_read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        cells = line.strip().split(maxsplit=1)
        if cells[0] in seen and path.name != "text":  # utterances are checked with the other rows
            raise DataError(f"{path}, row {row}: {cells[0]!r} occurs twice")
        seen.add(cells[0])
        yield row, cells[0], cells[1] if len(cells) > 1 else ""
