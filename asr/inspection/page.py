"""A trace as one HTML page that needs nothing beside itself."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import numpy as np

from asr.inspection.trace import Trace
from asr.model.gates import NAMES
from asr.output import to_json

# Values outside this share of the distribution have the colour of its ends.
_CLIPPED_PERCENT = 0.5
_BETWEEN = {**dict.fromkeys("iforz", (0.0, 1.0)), **dict.fromkeys("gn", (-1.0, 1.0))}
_MAX_DISPLAYED_TOKENS = 40


def build_page(trace: Trace, *, title: str, subtitle: str, units: Sequence[int], n_maps: int) -> str:
    """Return the page.

    Parameters
    ----------
    trace
        What is shown.
    title, subtitle
        Heading, and the line below it.
    units
        Units of each recurrent layer that are shown, from 0.
    n_maps
        Feature maps of each convolution that are shown at most: those that change most.
    """
    content = {
        "title": title,
        "subtitle": subtitle,
        "text": trace.hypothesis.text,
        "duration": len(trace.waveform) / trace.sample_rate,
        "audio": base64.b64encode(_wav(trace.waveform, trace.sample_rate)).decode("ascii"),
        "envelope": _envelope(trace.waveform),
        "features": _heatmap(trace.features, trace.feature_s, symmetric=False),
        "maps": _maps(trace, n_maps),
        "cells": [
            {
                "name": f"layer {cell.layer}, {cell.direction}",
                "units": list(units),
                "traces": [
                    {"letter": letter, "name": NAMES[letter]}
                    | _heatmap(values[:, units], trace.frame_s, symmetric=letter in "cghn", bounds=_BETWEEN.get(letter))
                    for letter, values in cell.values.items()
                ],
            }
            for cell in trace.cells
        ],
        "posteriors": _posteriors(trace),
        "tokens": [
            {"text": trace.token_names[token], "start": _seconds(trace, span.start), "end": _seconds(trace, span.end)}
            for token, span in zip(trace.hypothesis.tokens, trace.spans, strict=True)
        ],
        "words": [
            {"text": word.text, "start": word.start_s, "end": word.end_s, "confidence": word.confidence}
            for word in trace.hypothesis.words
        ],
    }
    # "<" cannot end the script element, nor begin a comment in it.
    data = to_json(content, separators=(",", ":")).replace("<", "\\u003c")
    template = files("asr.inspection").joinpath("page.html").read_text(encoding="utf-8")
    return template.replace("/*DATA*/null", data, 1)


def _seconds(trace: Trace, edge: int) -> float:
    """Return the time at which an output frame begins; frame k stands for the time around ``k * frame_s``."""
    return round(max(0.0, (edge - 0.5) * trace.frame_s), 4)


def _maps(trace: Trace, n_maps: int) -> list[dict[str, Any]]:
    result = []
    for number, layer in enumerate(trace.maps, start=1):
        liveliest = np.sort(np.argsort(-layer.std(axis=(1, 2)), kind="stable")[:n_maps])
        step_s = len(trace.features) * trace.feature_s / layer.shape[1]
        heatmaps = [{"channel": int(channel)} | _heatmap(layer[channel], step_s, symmetric=False) for channel in liveliest]
        result.append({"name": f"convolution {number}", "channels": layer.shape[0], "maps": heatmaps})
    return result


def _posteriors(trace: Trace) -> dict[str, Any]:
    """Return the probabilities of the tokens that are likely somewhere, blank first."""
    probs = np.exp(trace.log_probs)
    highest = probs.max(axis=0, initial=0.0)
    shown = np.argsort(-highest, kind="stable")[:_MAX_DISPLAYED_TOKENS]
    shown = np.sort(np.union1d(shown[highest[shown] > 0.02], [0]))
    names = [trace.token_names[token] for token in shown]
    return {"names": names, **_heatmap(probs[:, shown], trace.frame_s, symmetric=False, bounds=(0.0, 1.0))}


def _heatmap(
    values: np.ndarray, step_s: float, *, symmetric: bool, bounds: tuple[float, float] | None = None
) -> dict[str, Any]:
    """Return ``(frame, row)`` as bytes between two values, row by row."""
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
        "data": base64.b64encode(np.ascontiguousarray(scaled.T).tobytes()).decode("ascii"),
    }


def _envelope(waveform: np.ndarray, n_columns: int = 2000) -> list[list[float]]:
    """Return the lowest and the highest sample of each of many stretches."""
    columns = np.array_split(waveform, min(n_columns, len(waveform)))
    return [[round(float(column.min()), 3), round(float(column.max()), 3)] for column in columns]


def _wav(waveform: np.ndarray, sample_rate: int) -> bytes:
    import soundfile

    stream = io.BytesIO()
    peak = max(1.0, float(np.abs(waveform).max(initial=0.0)))
    soundfile.write(stream, waveform / peak, sample_rate, format="WAV", subtype="PCM_16")
    return stream.getvalue()
