"""A calibration report's files: its figures, and the reliability diagram.

DeGroot and Fienberg 1983; Niculescu-Mizil and Caruana 2005.
"""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np

from asr.files import replacing
from asr.scoring.calibration import CalibrationReport

_RIGHT, _WRONG, _GREY = "#0072b2", "#e69f00", "#767676"  # told apart by the colour-blind as well (Okabe and Ito 2008)
_HISTOGRAM_BINS = 30


def write_calibration(report: CalibrationReport, folder: Path, stem: str, title: str) -> tuple[Path, Path]:
    """Write ``<stem>.calibration.svg`` (the reliability diagram) and ``.json`` (the figures), each whole or not at all.

    Raises
    ------
    StorageError
        A file cannot be written.
    """
    diagram, figures = folder / f"{stem}.calibration.svg", folder / f"{stem}.calibration.json"
    with replacing(diagram) as stream:
        stream.write(draw_reliability(report, title))
    with replacing(figures) as stream:
        stream.write((json.dumps(report.to_mapping(), indent=2) + "\n").encode("utf-8"))
    return diagram, figures


def draw_reliability(report: CalibrationReport, title: str) -> bytes:
    """Return the diagram as SVG, the same bytes for the same report.

    Above, each bin's share of right words over its mean confidence, with 95 % intervals: below the diagonal the confidences
    promise too much. Underneath, the numbers of right and wrong words over their confidence.
    """
    import matplotlib
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.0, 6.4), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], color=_GREY, linestyle="--", linewidth=1, label="confidence = accuracy")
    bins = report.bins() if report.n_words else []
    if bins:
        accuracies = np.array([one.accuracy for one in bins])
        low, high = np.array([one.interval for one in bins]).T
        upper.errorbar(
            [one.confidence for one in bins],
            accuracies,
            yerr=np.maximum([accuracies - low, high - accuracies], 0.0),
            color=_RIGHT,
            marker="o",
            markersize=4,
            linewidth=1.5,
            elinewidth=1,
            capsize=2,
            label="words, 95 % interval",
        )
    upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="share of right words", title=title)
    upper.grid(alpha=0.3)
    upper.legend(loc="upper left", frameon=False)
    upper.text(0.97, 0.04, _caption(report), transform=upper.transAxes, ha="right", va="bottom")
    groups = [report.confidences[report.correct], report.confidences[~report.correct]]
    lower.hist(
        groups, bins=_HISTOGRAM_BINS, range=(0, 1), stacked=True, color=[_RIGHT, _WRONG], label=["right words", "wrong words"]
    )
    lower.set(xlabel="confidence", ylabel="words")
    lower.set_ylim(bottom=0)
    lower.legend(frameon=False)
    stream = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "asr", "svg.fonttype": "none"}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue()


def _caption(report: CalibrationReport) -> str:
    if not report.n_words:
        return "no words"
    return (
        f"{report.n_words} words, {100 * report.n_correct / report.n_words:.1f} % right\n"
        f"ECE {100 * report.error():.2f} %   AUC {report.auc:.3f}   NCE {report.normalised_cross_entropy:.3f}"
    )
