"""Texts of utterances from files, ours or anybody's: references, and what systems wrote."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asr.errors import ConfigError, DataError, PackageError
from asr.option import nearest
from asr.output import is_unicode
from asr.scoring.timed import Timed, read_ctm, read_seglst, read_stm
from asr.untrusted import read_text, unique

_MAX_BYTES = 1 << 31
_IDS = ("id", "utterance_id", "utt_id", "key", "file", "audio_filepath")
_REFERENCES = ("reference", "ref", "ref_text")
_HYPOTHESES = ("hypothesis", "hyp", "pred_text", "prediction")
_TRN = re.compile(r"(?P<text>.*?)\((?P<id>[^()\s]+)\)\s*\Z", re.DOTALL)
_ATTRIBUTES = ("speaker", "gender")
_AUDIO = ("audio", "audio_filepath")
_NUMBERS = {
    "duration_s": ("duration_s", "duration"),
    "snr_db": ("snr_db",),
    "confidence": ("confidence",),
    "start_s": ("start_s", "offset"),
}
_MAX_S = 1e9  # of any recording


@dataclass(frozen=True)
class Texts:
    """What a file says of utterances.

    Attributes
    ----------
    path
        The file.
    by_id
        The texts: what was heard where the file holds two texts an utterance.
    references
        What was said, where the file holds it.
    attributes
        Of an utterance, where the file holds them: ``speaker``, ``gender``, ``duration_s``, ``snr_db``, ``confidence``; the
        path of its ``audio`` and where in it it begins, ``start_s``; and ``word_times_s``, where each word begins and ends.
    n_best
        Further readings of an utterance, best first, where the file holds them.
    timed
        Segments and words with times, where the file holds no utterances but these.
    words_alone
        Whether each of these is a word.
    normaliser
        How the texts were normalised, as a summary beside the file says.
    """

    path: Path
    by_id: Mapping[str, str] = field(default_factory=dict)
    references: Mapping[str, str] | None = None
    attributes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    n_best: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    timed: tuple[Timed, ...] | None = None
    words_alone: bool = False
    normaliser: str | None = None


def read_texts(path: Path, kind: str | None = None) -> Texts:
    """Read a file of texts.

    Parameters
    ----------
    path
        The file.
    kind
        One of :data:`KINDS`; by default what its ending says, and ``kaldi`` without one.

    Raises
    ------
    DataError
        The file is absent, or not of its kind, or names an utterance twice.
    """
    if kind is not None and kind not in KINDS:
        raise ConfigError(f"--format {kind}: there is no such form.{nearest(kind, KINDS)} There are: {_FORMS}")
    kind = _BY_ENDING.get(path.suffix.lower()) if kind is None else kind
    if kind is None:
        hint = nearest(path.suffix[1:], KINDS)
        raise DataError(f"{path}: what is in it cannot be told from its name.{hint} Say so with --format: {_FORMS}")
    try:
        content = read_text(path, _MAX_BYTES, DataError)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    if not content.strip():
        raise DataError(f"{path}: holds nothing; expected texts in the form {kind}")
    texts = KINDS[kind](path, content)
    written = (
        *texts.by_id,
        *texts.by_id.values(),
        *(texts.references or {}).values(),
        *(one.text for one in texts.timed or ()),
    )
    if not all(map(is_unicode, written)):
        raise DataError(f"{path}: holds halves of surrogate pairs, which are no text")
    return texts


def _lines(content: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(content.split("\n"), start=1):
        if line.strip():
            yield number, line


def _plain(path: Path, content: str) -> Texts:
    lines = content.split("\n")
    rows = lines[:-1] if lines[-1] == "" else lines
    return Texts(path, {str(number): " ".join(line.split()) for number, line in enumerate(rows, start=1)})


def _kaldi(path: Path, content: str) -> Texts:
    texts: dict[str, str] = {}
    for number, line in _lines(content):
        name, _, text = line.strip().partition(" ")
        name, tab, rest = name.partition("\t")
        _add(texts, name, f"{rest} {text}" if tab else text, f"{path}, line {number}")
    return Texts(path, texts)


def _trn(path: Path, content: str) -> Texts:
    texts: dict[str, str] = {}
    for number, line in _lines(content):
        where = f"{path}, line {number}"
        if line.startswith(";;"):
            continue
        match = _TRN.fullmatch(line)
        if match is None:
            raise DataError(f"{where}: ends in no (ID); expected `TEXT (ID)`, found {line[:60]!r}")
        if "{" in match["text"]:
            raise DataError(f"{where}: holds alternatives {{ ... }}, which are not supported; write one text an utterance")
        _add(texts, match["id"], match["text"], where)
    return Texts(path, texts)


def _json(path: Path, content: str) -> Texts:
    try:
        rows = json.loads(content, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is not JSON: {error}") from None
    if isinstance(rows, dict):
        return _from_rows(path, [(str(path), rows)])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{path}: expected a list of objects [{{...}}, ...]")
    if rows and "words" in rows[0] and "session_id" in rows[0]:
        return Texts(path, timed=tuple(read_seglst(path, rows)))
    return _from_rows(path, ((f"{path}, item {number}", row) for number, row in enumerate(rows, start=1)))


def _jsonl(path: Path, content: str) -> Texts:
    def rows() -> Iterator[tuple[str, dict[str, Any]]]:
        for number, line in _lines(content):
            where = f"{path}, line {number}"
            try:
                row = json.loads(line, object_pairs_hook=unique)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{where}: is not JSON: {error}") from None
            if not isinstance(row, dict):
                raise DataError(f"{where}: expected an object {{...}}, found {line[:60]!r}")
            yield where, row

    return _from_rows(path, rows())


def _table(delimiter: str) -> Callable[[Path, str], Texts]:
    def read(path: Path, content: str) -> Texts:
        quoting: Any = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
        csv.field_size_limit(_MAX_BYTES - 1)
        reader = csv.DictReader(io.StringIO(content, newline=""), delimiter=delimiter, quoting=quoting, strict=True)

        def rows() -> Iterator[tuple[str, dict[str, Any]]]:
            try:
                names = list(reader.fieldnames or [])
                if twice := next((name for name in names if names.count(name) > 1), None):
                    raise DataError(f"{path}: two columns are called {twice!r}; give each a name of its own")
                for row in reader:
                    where = f"{path}, line {reader.line_num}"
                    if None in row or None in row.values():
                        raise DataError(
                            f"{where}: has another number of columns than the header's {len(reader.fieldnames or [])}"
                        )
                    yield where, row
            except csv.Error as error:
                raise DataError(f"{path}, line {reader.line_num}: is malformed: {error}") from None

        return _from_rows(path, rows())

    return read


def _from_rows(path: Path, rows: Iterator[tuple[str, dict[str, Any]]] | list[tuple[str, dict[str, Any]]]) -> Texts:
    """Read rows that name an utterance, its texts and what else is known of it."""
    texts: dict[str, str] = {}
    references: dict[str, str] = {}
    attributes: dict[str, dict[str, Any]] = {}
    n_best: dict[str, tuple[str, ...]] = {}
    for where, row in rows:
        name, key = _cell(row, _IDS, where, "an id"), next(key for key in _IDS if key in row)
        name = Path(name).stem if key in ("file", "audio_filepath") else name
        reference = next((key for key in _REFERENCES if key in row), None)
        hypothesis = next((key for key in _HYPOTHESES if key in row), None)
        if hypothesis is not None and reference is None and "text" in row:
            reference = "text"  # as NeMo's manifests have it
        text = _cell(row, ("text",) if hypothesis is None and "text" in row else _HYPOTHESES + _REFERENCES, where, "a text")
        _add(texts, name, text, where)
        if reference is not None and (hypothesis is not None or "text" in row):
            references[name] = _cell(row, (reference,), where, "a reference")
        attributes[name] = _attributes(row, path.parent)
        if isinstance(readings := row.get("n_best"), list):
            n_best[name] = tuple(str(one["text"]) for one in readings if isinstance(one, dict) and "text" in one)
    if references and len(references) < len(texts):
        lacking = next(name for name in texts if name not in references)
        raise DataError(f"{path}: some utterances have a reference and others, such as {lacking}, have none")
    return Texts(path, texts, references or None, attributes, n_best, normaliser=_normaliser_of(path))


def _cell(row: Mapping[str, Any], keys: tuple[str, ...], where: str, what: str) -> str:
    key = next((key for key in keys if key in row), None)
    if key is None:
        raise DataError(
            f"{where}: names {what} under none of the keys {', '.join(keys)}; it has {', '.join(map(str, row)) or 'none'}"
        )
    value = row[key]
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise DataError(f"{where}: {key} is {value!r:.60}; expected a text")
    return str(value)


def _attributes(row: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    named = {key: row[key] for key in _ATTRIBUTES if isinstance(row.get(key), str | int) and not isinstance(row[key], bool)}
    found: dict[str, Any] = {key: str(value) for key, value in named.items() if value != "" and is_unicode(str(value))}
    audio = next((row[key] for key in _AUDIO if isinstance(row.get(key), str) and _is_path(row[key])), None)
    found |= {"audio": str(folder / audio)} if audio is not None else {}
    times = row.get("word_times_s")
    found |= {"word_times_s": times} if _are_times(times) else {}
    for name, keys in _NUMBERS.items():
        value = next((row[key] for key in keys if key in row), None)
        try:
            number = math.nan if value in (None, "") or isinstance(value, bool) else float(value)
            found |= {name: number} if math.isfinite(number) and (not name.endswith("_s") or 0 <= number < _MAX_S) else {}
        except (TypeError, ValueError, OverflowError):
            continue  # another table's column of that name
    return found


def _is_path(text: str) -> bool:
    try:
        return b"\0" not in os.fsencode(text) != b""
    except UnicodeEncodeError:
        return False


def _are_times(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(pair, list)
        and len(pair) == 2
        and all(isinstance(time, int | float) and not isinstance(time, bool) and 0 <= time < _MAX_S for time in pair)
        for pair in value
    )


def _normaliser_of(path: Path) -> str | None:
    """Return what the summary of ``asr evaluate`` beside a file says of its texts."""
    if path.suffix != ".jsonl":
        return None
    try:
        signature = json.loads(read_text(path.with_suffix(".json"), _MAX_BYTES))["signature"]
        return dict(part.split(":", 1) for part in str(signature).split("|")).get("normaliser")
    except (OSError, ValueError, LookupError, TypeError, PackageError):
        return None


def _add(texts: dict[str, str], name: str, text: str, where: str) -> None:
    if not name:
        raise DataError(f"{where}: the id is empty")
    if name in texts:
        raise DataError(f"{where}: the utterance {name!r} is there twice")
    texts[name] = " ".join(text.split())


KINDS: Mapping[str, Callable[[Path, str], Texts]] = {
    "jsonl": _jsonl,
    "json": _json,
    "csv": _table(","),
    "tsv": _table("\t"),
    "trn": _trn,
    "kaldi": _kaldi,
    "txt": _plain,
    "ctm": lambda path, content: Texts(path, timed=tuple(read_ctm(path, content)), words_alone=True),
    "stm": lambda path, content: Texts(path, timed=tuple(read_stm(path, content))),
}
"""Forms of files: a line of JSON an utterance; a list of such, or SegLST; tables; sclite's ``TEXT (ID)``; Kaldi's ``ID TEXT``;
a line of text an utterance; words with times; segments with times."""

_FORMS = f"{', '.join(KINDS)} (SegLST is json)"
_BY_ENDING = {"": "kaldi", **{f".{kind}": kind for kind in KINDS}}
