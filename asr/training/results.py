"""What runs have reached: their figures, read from their output folders, and a table that compares them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from statistics import fmean
from typing import Any

from asr.data.manifest import manifest_stem
from asr.errors import DataError
from asr.file_names import CONFIG_NAME
from asr.package.load import weights_hash
from asr.scoring.compare import compare
from asr.scoring.systems import read_systems
from asr.training.run import PACKAGE, RESULT

EVALUATED = "test"
"""Folder of a run for what ``asr evaluate`` writes."""

_KEYS = {"checkpoint", "parameters", "epochs", "trained_s", "best_epoch", "dev_wer", "dev_cer"}

Figures = Mapping[str, float]
"""Of a run, by the columns of the table."""


def is_complete(folder: Path, epochs: int) -> bool:
    """Say whether a run has trained so many epochs, and the package that it wrote is there."""
    result, package = _read_json(folder / RESULT), folder / PACKAGE
    if result is None or not result.keys() >= _KEYS or result["epochs"] != epochs:
        return False
    return (package / CONFIG_NAME).exists() and _hash(package) == result["checkpoint"]


def is_evaluated(folder: Path, part: str) -> bool:
    """Say whether a run's package, as it is now, was evaluated on a manifest."""
    scores, package = _scores(folder, part), folder / PACKAGE / CONFIG_NAME
    found = _read_json(scores)
    if found is None or not {"wer", "cer", "signature"} <= found.keys() or not package.exists():
        return False
    # Its decoder may have been tuned since; and what took long may have been of the package before.
    is_newer = scores.stat().st_mtime >= package.stat().st_mtime
    return is_newer and f"checkpoint:{_hash(package.parent)}" in str(found["signature"]).split("|")


def count_left_out(folder: Path, part: str) -> int:
    """Return how many utterances of a manifest are not in the score, because they could not be read."""
    left_out = (_read_json(_scores(folder, part)) or {}).get("left_out")
    return len(left_out) if isinstance(left_out, dict) else 0


def read_figures(folder: Path, epochs: int, parts: Sequence[str]) -> Figures | None:
    """Return the figures of a run; none where it is not complete, or not evaluated on all of the manifests."""
    if not is_complete(folder, epochs) or not all(is_evaluated(folder, part) for part in parts):
        return None
    result, *scores = (_read_json(file) or {} for file in [folder / RESULT, *(_scores(folder, part) for part in parts)])
    row = {"parameters": result["parameters"], "training": result["trained_s"], "best epoch": result["best_epoch"]}
    if result["dev_wer"] is not None:
        row |= {"dev WER": result["dev_wer"], "dev CER": result["dev_cer"]}
    for part, score in zip(parts, scores, strict=True):
        row |= {f"{part} WER": score["wer"]["rate"], f"{part} CER": score["cer"]["rate"]}
    return row


def differences(runs: Sequence[tuple[str, Path]], part: str) -> str:
    """Say which differences between the runs on a manifest are real: a list of the best run and each of the others.

    Parameters
    ----------
    runs
        Names and folders of those that were evaluated on it.
    part
        Name of the manifest.
    """
    files = [_scores(folder, part).with_suffix(".jsonl") for _, folder in runs]
    if len(files) < 2 or not all(file.exists() for file in files):
        return ""
    try:
        corpus = read_systems(files, names=[name for name, _ in runs])
        found = compare(corpus.systems, corpus.speakers, with_best=True).differences
    except DataError as error:
        return f"\n{part}: differences cannot be told: {error}\n"
    return f"\n{part}, each run against the best:\n\n" + "".join(f"- {one.line()}\n" for one in found)


def table(runs: Sequence[tuple[Mapping[str, str], Figures | None]]) -> str:
    """Return the Markdown table of what is complete, and where seeds are varied that of their means.

    Parameters
    ----------
    runs
        What tells each run from the others, and its figures.
    """
    rows = [(values, row) for values, row in runs if row is not None]
    if not rows:
        return "no run is complete\n"
    text = _markdown([{**values, **_cells(row)} for values, row in rows])
    groups: dict[tuple[tuple[str, str], ...], list[Figures]] = {}
    for values, row in rows:
        groups.setdefault(tuple((key, value) for key, value in values.items() if key != "seed"), []).append(row)
    if len(groups) < len(rows):
        means = [{**dict(values), "runs": str(len(same)), **_mean_cells(same)} for values, same in groups.items()]
        text += f"\nMeans of the seeds, with the lowest and the highest:\n\n{_markdown(means)}"
    return text


def _read_json(path: Path) -> dict[str, Any] | None:
    """Return what a file holds; none where it is absent or damaged, so that it is made anew."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _hash(package: Path) -> str | None:
    """Return the hash of a package's weights; none where they are gone."""
    try:
        return weights_hash(package)
    except OSError:
        return None


def _scores(folder: Path, part: str) -> Path:
    return folder / EVALUATED / f"{manifest_stem(part)}.json"


def _cell(column: str, value: float) -> str:
    if column.endswith("ER"):
        return f"{100 * value:.2f} %"
    return str(timedelta(seconds=round(value))) if column == "training" else f"{value:,.0f}"


def _cells(row: Figures) -> dict[str, str]:
    return {column: _cell(column, value) for column, value in row.items()}


def _mean_cells(rows: Sequence[Figures]) -> dict[str, str]:
    cells = {}
    for column in rows[0]:
        values = [row[column] for row in rows]
        spread = f" ({_cell(column, min(values))} to {_cell(column, max(values))})" if min(values) < max(values) else ""
        cells[column] = f"{_cell(column, fmean(values))}{spread}"
    return cells


def _markdown(rows: Sequence[Mapping[str, str]]) -> str:
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
