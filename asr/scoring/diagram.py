"""A calibration report's files: its figures, and the reliability diagram."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from asr.files import write_json
from asr.scoring.calibration import CalibrationReport


def write_calibration(report: CalibrationReport, folder: Path, stem: str, title: str) -> tuple[Path, Path]:
    """Write ``<stem>.calibration.svg`` (the reliability diagram) and ``.json`` (the figures), each whole or not at all.

    Raises
    ------
    StorageError
        A file cannot be written.
    """
    from asr.pictures.figure import save
    from asr.pictures.reliability import draw_reliability

    diagram, figures = folder / f"{stem}.calibration.svg", folder / f"{stem}.calibration.json"
    bins = [(one.confidence, one.accuracy, *one.interval) for one in (report.bins() if report.n_words else [])]
    table = np.array(bins, dtype=np.float64).reshape(-1, 4)
    save(draw_reliability(report.confidences, report.correct, table, title=title, caption=_caption(report)), diagram)
    write_json(figures, report.to_mapping())
    return diagram, figures


def _caption(report: CalibrationReport) -> str:
    if not report.n_words:
        return "no words"
    return (
        f"{report.n_words} words, {100 * report.n_correct / report.n_words:.1f} % right, "
        f"ECE {100 * report.error():.2f} %, AUC {report.auc:.3f}, NCE {report.normalised_cross_entropy:.3f}"
    )
