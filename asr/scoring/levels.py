"""How far speech stands above the noise of a recording, estimated from the recording alone."""

from __future__ import annotations

import math

import numpy as np

_FRAME_S = 0.02
_QUIET = 0.1
_LOWEST_DB, _HIGHEST_DB = -10.0, 60.0


def estimate_snr(waveform: np.ndarray, sample_rate: int) -> float | None:
    """Estimate the signal-to-noise ratio of an utterance.

    The quietest tenth of its frames of 20 ms is taken for the noise, and what all frames have above it for the speech, as is
    right where the noise is steady and people pause.

    Parameters
    ----------
    waveform
        ``(sample,)``.
    sample_rate
        In Hz.

    Returns
    -------
    float or None
        In dB, from -10 to 60; none where there are fewer than ten frames, or nothing but silence.
    """
    length = round(_FRAME_S * sample_rate)
    n_frames = len(waveform) // length
    if n_frames < round(1 / _QUIET):
        return None
    frames = waveform[: n_frames * length].reshape(n_frames, length).astype(np.float64)
    power = np.sort(frames.var(axis=1))
    if not power[-1] > 0:
        return None
    noise = power[: max(1, round(_QUIET * n_frames))].mean()
    above = power.mean() - noise
    if noise <= 0 or above <= 0:
        return _HIGHEST_DB if noise <= 0 else _LOWEST_DB
    return float(np.clip(10 * math.log10(above / noise), _LOWEST_DB, _HIGHEST_DB))
