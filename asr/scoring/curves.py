"""The curves of a training, read back from its folder without what wrote them."""

from __future__ import annotations

import csv
import io
import math
import struct
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from asr.errors import DataError
from asr.untrusted import open_file, read_text

Curves = Mapping[str, Mapping[str, Sequence[tuple[int, float]]]]
"""By what was measured, such as ``loss``, lines of steps and values by where, such as ``train``."""

_MAX_BYTES = 1 << 28
_MAX_POINTS = 400
_MAX_STEP = 1 << 52
_NAMES = {"loss": "loss", "wer": "WER", "cer": "CER", "lr": "learning rate", "gradient_norm": "gradient norm"}
_Value = tuple[int, str, float]


def read_curves(run: Path) -> Curves:
    """Return the curves of a run's folder, of its ``metrics.csv`` or else of TensorBoard's events; none where there are none.

    Of a step that was made twice the later value counts, and of many steps some hundred are kept.
    """
    found: defaultdict[str, dict[int, float]] = defaultdict(dict)
    table, logs = run / "metrics.csv", sorted((run / "tensorboard").glob("events.out.tfevents.*"))
    for path in [table] if table.is_file() else logs:
        try:
            for step, name, value in _table(path) if path == table else _events(path):
                if math.isfinite(value) and 0 <= step < _MAX_STEP:
                    found[name][step] = value
        except (OSError, DataError):
            continue  # a report needs no curves
    curves: defaultdict[str, dict[str, list[tuple[int, float]]]] = defaultdict(dict)
    for name in sorted(found, key=_order):
        where, slash, what = name.partition("/")
        if where == "gradient_norm":  # of each layer
            where, what = what, "norm of the gradient"
        if slash and len(found[name]) > 1:
            curves[_NAMES.get(what, what)][where] = _thinned(sorted(found[name].items()))
    return dict(curves)


def _order(name: str) -> tuple[int, str]:
    what = name.partition("/")[2]
    return (list(_NAMES).index(what) if what in _NAMES else len(_NAMES)), name


def _thinned(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    stride = max(1, math.ceil(len(points) / _MAX_POINTS))
    return [(step, float(f"{value:.4g}")) for step, value in points[::-stride][::-1]]  # the last one is kept


def _table(path: Path) -> Iterator[_Value]:
    for row in csv.DictReader(io.StringIO(read_text(path, _MAX_BYTES, DataError))):
        try:
            yield int(row["step"]), str(row["name"]), float(row["value"])
        except (KeyError, TypeError, ValueError):
            continue


def _events(path: Path) -> Iterator[_Value]:
    """Yield the scalars of a file of events: records with their lengths, each a message of Protocol Buffers.

    TensorBoard's own reader takes seconds to import. What is cut off at the end, or no such message, is passed over.
    """
    with open_file(path, _MAX_BYTES, DataError) as stream:
        content = memoryview(stream.read(_MAX_BYTES))
    at = 0
    while at + 12 <= len(content):
        (length,) = struct.unpack_from("<Q", content, at)
        at += 12  # the length and its checksum
        event = content[at : at + length]
        at += length + 4
        try:
            step = next((int(value) for field, value in _fields(event) if field == 2 and isinstance(value, int)), 0)
            for summary in _messages(event, 5):
                for entry in _messages(summary, 1):
                    for name, value in zip(_messages(entry, 1), _messages(entry, 2), strict=False):
                        yield step, str(name, "utf-8", "replace"), struct.unpack("<f", value)[0]
        except (IndexError, ValueError, struct.error):
            continue


def _messages(content: memoryview, number: int) -> Iterator[memoryview]:
    return (value for field, value in _fields(content) if field == number and isinstance(value, memoryview))


def _fields(content: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield the numbers and values of a message's fields."""
    at = 0
    while at < len(content):
        key, at = _varint(content, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(content, at)
            yield key >> 3, value
            continue
        if kind == 2:
            length, at = _varint(content, at)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError(f"a field of kind {kind}")
        if at + length > len(content):
            raise IndexError(at)
        yield key >> 3, content[at : at + length]
        at += length


def _varint(content: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[at]
        value |= (byte & 0x7F) << shift
        at += 1
        shift += 7
        if byte < 0x80 or shift > 63:
            return value, at
