"""Figures in the style of asr, and their files."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from asr.errors import ConfigError
from asr.files import replacing
from asr.pictures.style import DPI, FONT_SIZE, FONTS, INK, LINE, MARKERS, SERIES, SMALL_FONT_SIZE, SOFT, WIDTH_IN

_SETTINGS: Any = {
    "font.family": FONTS,
    "font.size": FONT_SIZE,
    "axes.titlesize": FONT_SIZE,
    "figure.titlesize": FONT_SIZE + 1,
    "legend.fontsize": SMALL_FONT_SIZE,
    "legend.frameon": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": SOFT,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "lines.linewidth": 1.3,
    "lines.markersize": 4.0,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "asr",  # the same picture has the same bytes
}
# Without the day and the program, the same picture has the same bytes.
_METADATA: dict[str, dict[str, None]] = {
    ".svg": {"Date": None},
    ".png": {"Software": None},
    ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


@contextmanager
def styled() -> Iterator[None]:
    """Draw in the style of asr; also a decorator of functions that draw."""
    with matplotlib.rc_context(_SETTINGS):
        yield


def new_figure(height_in: float) -> Figure:
    """Return an empty figure of the usual width, which makes room for all that is written in it."""
    return Figure(figsize=(WIDTH_IN, height_in), dpi=DPI, layout="constrained")


def series(number: int) -> dict[str, Any]:
    """Return the look of a line, from 0: told apart by its colour and, where colours come again, by its mark."""
    return {"color": SERIES[number % len(SERIES)], "marker": MARKERS[number % len(MARKERS)]}


def colour_map(colours: Sequence[str]) -> LinearSegmentedColormap:
    """Return a colour map of some of :mod:`asr.pictures.style`."""
    return LinearSegmentedColormap.from_list("asr", list(colours))


def encode(figure: Figure, ending: str) -> bytes:
    """Return a figure's file, the same bytes for the same figure.

    Parameters
    ----------
    figure
        What was drawn.
    ending
        ``.svg``, ``.png`` or ``.pdf``.
    """
    stream = io.BytesIO()
    with styled():
        figure.savefig(stream, format=ending[1:], metadata=_METADATA[ending])
    return stream.getvalue()


def save(figure: Figure, path: Path) -> None:
    """Write a figure in the format that the path's ending names, whole or not at all.

    Raises
    ------
    ConfigError
        The ending is that of no format, or no file can be there.
    StorageError
        The file cannot be written.
    """
    ending = path.suffix.lower()
    if ending not in _METADATA:
        raise ConfigError(f"{path}: pictures end in {', '.join(_METADATA)}, not {ending or 'nothing'}; choose another name")
    content = encode(figure, ending)
    with replacing(path) as stream:
        stream.write(content)
