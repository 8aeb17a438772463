"""A trace as one HTML page that needs nothing beside itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from asr.inspection.sound import FLOOR_DBFS, Sound, mel_edges
from asr.inspection.trace import Trace
from asr.model.gates import NAMES
from asr.pictures.page import Ticks, envelope, fill_page, frequency_ticks, heatmap, sound_file, track

_BETWEEN = {**dict.fromkeys("iforz", (0.0, 1.0)), **dict.fromkeys("gn", (-1.0, 1.0))}
_MAX_DISPLAYED_TOKENS = 40
_DISPLAYED_DB = 80.0  # below the loudest of a spectrogram
_MEL, _LINEAR, _CEPSTRAL = "mel frequency (Hz)", "frequency (Hz)", "coefficient"


def build_page(trace: Trace, sound: Sound | None, *, title: str, subtitle: str, units: Sequence[int], n_maps: int) -> str:
    """Return the page.

    Parameters
    ----------
    trace
        What is shown.
    sound
        What can be heard; without it, that is left out, with the frequencies of mel bands.
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
        "duration": len(trace.waveform) / trace.frontend.sample_rate,
        "audio": sound_file(trace.waveform, trace.frontend.sample_rate),
        "envelope": envelope(trace.waveform),
        "sound": None if sound is None else _sound(sound),
        "features": _features(trace, has_mel_edges=sound is not None),
        "maps": _maps(trace, n_maps),
        "cells": [
            {
                "name": f"layer {cell.layer}, {cell.direction}",
                "units": list(units),
                "traces": [
                    {"letter": letter, "name": NAMES[letter]}
                    | heatmap(values[:, units], trace.frame_s, symmetric=letter in "cghn", bounds=_BETWEEN.get(letter))
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
    return fill_page(content)


def _sound(sound: Sound) -> dict[str, Any]:
    n_bins = sound.spectrogram.shape[1]
    highest = 100 * max(2, math.ceil(np.nanmax(sound.pitch_hz, initial=0.0) / 100))
    loudest = max(float(sound.spectrogram.max()), FLOOR_DBFS + _DISPLAYED_DB)
    return {
        "spectrogram": {"axis": _LINEAR, "hz": _rounded(np.arange(n_bins) * sound.bin_hz)}
        | heatmap(
            sound.spectrogram,
            sound.spectrogram_s,
            bounds=(loudest - _DISPLAYED_DB, loudest),
            ticks=frequency_ticks(np.arange(-1, n_bins + 1) * sound.bin_hz),
        ),
        "pitch": track(sound.pitch_hz, sound.pitch_s, unit="Hz", bounds=(0, highest), ticks=range(0, highest + 1, 100)),
        "level": track(
            sound.level_dbfs, sound.level_s, unit="dBFS", bounds=(FLOOR_DBFS, 0.0), ticks=(-100, -80, -60, -40, -20, 0)
        ),
    }


def _features(trace: Trace, *, has_mel_edges: bool) -> dict[str, Any]:
    """Return the features with an axis of what their rows are."""
    frontend, n_rows = trace.frontend, trace.features.shape[1]
    hz: list[float] = []
    ticks: Ticks = []
    if frontend.kind == "log_mel" and has_mel_edges:
        edges = mel_edges(frontend)
        axis, ticks, hz = _MEL, frequency_ticks(edges), _rounded(edges[1:-1])
    elif frontend.kind == "spectrogram":
        step_hz = frontend.sample_rate / round(frontend.window_s * frontend.sample_rate)
        axis, ticks = _LINEAR, frequency_ticks(np.arange(-1, n_rows + 1) * step_hz)
        hz = _rounded(np.arange(n_rows) * step_hz)
    elif frontend.kind == "mfcc":
        axis, ticks = _CEPSTRAL, [((row + 0.5) / n_rows, str(row)) for row in range(0, n_rows, max(1, n_rows // 4))]
    else:
        axis = "mel band"
    return {"kind": frontend.kind, "axis": axis, "hz": hz} | heatmap(trace.features, trace.feature_s, ticks=ticks)


def _rounded(frequencies: np.ndarray) -> list[float]:
    return [round(float(hz), 1) for hz in frequencies]


def _seconds(trace: Trace, edge: int) -> float:
    """Return the time at which an output frame begins; frame k stands for the time around ``k * frame_s``."""
    return round(max(0.0, (edge - 0.5) * trace.frame_s), 4)


def _maps(trace: Trace, n_maps: int) -> list[dict[str, Any]]:
    result = []
    for number, layer in enumerate(trace.maps, start=1):
        liveliest = np.sort(np.argsort(-layer.std(axis=(1, 2)), kind="stable")[:n_maps])
        step_s = len(trace.features) * trace.feature_s / layer.shape[1]
        heatmaps = [{"channel": int(channel)} | heatmap(layer[channel], step_s) for channel in liveliest]
        result.append({"name": f"convolution {number}", "channels": layer.shape[0], "maps": heatmaps})
    return result


def _posteriors(trace: Trace) -> dict[str, Any]:
    """Return the probabilities of the tokens that are likely somewhere, blank first."""
    probs = np.exp(trace.log_probs)
    highest = probs.max(axis=0, initial=0.0)
    shown = np.argsort(-highest, kind="stable")[:_MAX_DISPLAYED_TOKENS]
    shown = np.sort(np.union1d(shown[highest[shown] > 0.02], [0]))
    names = [trace.token_names[token] for token in shown]
    return {"names": names, **heatmap(probs[:, shown], trace.frame_s, bounds=(0.0, 1.0))}
