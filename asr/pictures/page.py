"""A page that stands alone: what is computed along the time of an utterance, drawn by a browser."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import numpy as np

from asr.output import to_json
from asr.pictures import style

# Values outside this share of the distribution have the colour of its ends.
_CLIPPED_PERCENT = 0.5
# Ticks are at least as far from each other, as a share of the axis.
_TICK_SHARE = 0.1
_SUBTYPES = {"WAV": "PCM_16", "MP3": "MPEG_LAYER_III"}
_MP3_LEVEL = 0.8  # some 3 KB a second of speech at 16 kHz
_ROUND_HZ = (0, 100, 200, 500, 1000, 2000, 3000, 4000, 6000, 8000, 12000, 16000, 20000, 24000)

Ticks = list[tuple[float, str]]
"""Places on an axis, as shares of it from below, and what is written there."""


def fill_page(content: Mapping[str, Any]) -> str:
    """Return the page with what it is to show, the look of :mod:`asr.pictures.style` added."""
    look = {
        "fonts": ", ".join(f'"{font}"' if " " in font else font for font in style.FONTS),
        **{name.lower(): getattr(style, name) for name in ("INK", "SOFT", "LINE", "GROUND", "BLUE", "ORANGE", "SKY", "AMBER")},
        **{name.lower(): getattr(style, name) for name in ("SEQUENTIAL", "DIVERGING")},
    }
    # "<" cannot end the script element, nor begin a comment in it.
    data = to_json({"style": look, **content}, separators=(",", ":")).replace("<", "\\u003c")
    template = files("asr.pictures").joinpath("page.html").read_text(encoding="utf-8")
    return template.replace("/*DATA*/null", data, 1)


def heatmap(
    values: np.ndarray,
    step_s: float,
    *,
    symmetric: bool = False,
    bounds: tuple[float, float] | None = None,
    ticks: Ticks | None = None,
) -> dict[str, Any]:
    """Return ``(frame, row)`` as bytes between two values, row by row; frame k stands for the time ``k * step_s``.

    Parameters
    ----------
    values
        What is shown.
    step_s
        Distance between frames (s).
    symmetric
        Whether zero is in the middle of the colours.
    bounds
        Values of the first and the last colour; by default what all but few values lie between.
    ticks
        Of the rows, the first below.
    """
    if bounds is not None:
        low, high = bounds
    elif not values.size:
        low, high = 0.0, 1.0
    else:
        low, high = np.percentile(values, [_CLIPPED_PERCENT, 100 - _CLIPPED_PERCENT])
        if symmetric:
            low, high = -max(-low, high), max(-low, high)
    span = max(float(high - low), 1e-9)
    scaled = np.rint(np.clip((values - low) / span, 0.0, 1.0) * 255).astype(np.uint8)
    return {
        "frames": values.shape[0],
        "rows": values.shape[1],
        "step": step_s,
        "low": round(float(low), 4),
        "high": round(float(low) + span, 4),
        "symmetric": symmetric,
        "ticks": ticks or [],
        "data": base64.b64encode(np.ascontiguousarray(scaled.T).tobytes()).decode("ascii"),
    }


def track(
    values: np.ndarray, step_s: float, *, unit: str, bounds: tuple[float, float], ticks: Sequence[float]
) -> dict[str, Any]:
    """Return ``(frame,)`` values to be drawn as a line, interrupted where they are NaN.

    Parameters
    ----------
    values
        What is shown; frame k stands for the time ``k * step_s``.
    step_s
        Distance between frames (s).
    unit
        Of the values.
    bounds
        The lower and the upper end of the axis.
    ticks
        Values on the axis that are written there.
    """
    low, high = bounds
    return {
        "values": [round(float(value), 1) if np.isfinite(value) else None for value in values],
        "step": step_s,
        "unit": unit,
        "low": low,
        "high": high,
        "ticks": [((tick - low) / (high - low), f"{tick:g}") for tick in ticks],
    }


def frequency_ticks(edges_hz: np.ndarray) -> Ticks:
    """Return round frequencies on an axis, as many as there is room for.

    Parameters
    ----------
    edges_hz
        ``(row + 2,)`` rising frequencies: that of each row, and those that one more row on each side would have.
    """
    rows = len(edges_hz) - 2
    ticks: Ticks = []
    for hz in _ROUND_HZ:
        share = (float(np.interp(hz, edges_hz, np.arange(-1, rows + 1))) + 0.5) / rows
        if edges_hz[0] <= hz <= edges_hz[-1] and (not ticks or share - ticks[-1][0] >= _TICK_SHARE):
            ticks.append((round(min(max(share, 0.0), 1.0), 4), str(hz)))
    return ticks


def envelope(waveform: np.ndarray, n_columns: int = 2000) -> list[list[float]]:
    """Return the lowest and the highest sample of each of many stretches."""
    columns = np.array_split(waveform, min(n_columns, len(waveform)))
    return [[round(float(column.min()), 3), round(float(column.max()), 3)] for column in columns]


def sound_file(waveform: np.ndarray, sample_rate: int, kind: str = "WAV") -> str:
    """Return ``(sample,)`` as a file in Base64: ``WAV``, or ``MP3``, in a tenth of the space."""
    import soundfile

    stream = io.BytesIO()
    peak = max(1.0, float(np.abs(waveform).max(initial=0.0)))
    options = {"compression_level": _MP3_LEVEL} if kind == "MP3" else {}
    soundfile.write(stream, waveform / peak, sample_rate, format=kind, subtype=_SUBTYPES[kind], **options)
    return base64.b64encode(stream.getvalue()).decode("ascii")
