"""Changes of the sample rate, of whole waveforms and of streams."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np

from asr.errors import AudioError


def resample(waveform: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """Change the sample rate of a waveform by windowed-sinc interpolation.

    Parameters
    ----------
    waveform
        ``(sample,)`` float32.
    from_rate, to_rate
        Rates in Hz. A ratio that is no fraction of small integers is rounded to the nearest one (to within 1e-6).

    Returns
    -------
    numpy.ndarray
        ``(ceil(sample * to_rate / from_rate),)`` float32.
    """
    if from_rate == to_rate:
        return waveform
    import torch

    with torch.inference_mode():
        resampled: np.ndarray = resampler(from_rate, to_rate)(torch.from_numpy(np.ascontiguousarray(waveform))).numpy()
    return resampled


def resample_whole(waveform: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """Change the sample rate of a short waveform by cutting its spectrum: NumPy alone, where a process has to start fast.

    Parameters
    ----------
    waveform
        ``(sample,)``, with silence at both ends: what is at one end is heard a little at the other.
    from_rate, to_rate
        Rates in Hz.

    Returns
    -------
    numpy.ndarray
        ``(ceil(sample / step) * step * to_rate / from_rate,)`` float64, where step is the least for which that is whole.
    """
    step = from_rate // math.gcd(from_rate, to_rate)
    padded = np.pad(waveform, (0, -len(waveform) % step))
    n_out = len(padded) * to_rate // from_rate
    return np.fft.irfft(np.fft.rfft(padded)[: n_out // 2 + 1], n_out) * (n_out / len(padded))


def resample_blocks(blocks: Iterable[np.ndarray], from_rate: int, to_rate: int, name: str) -> Iterator[np.ndarray]:
    """Resample blockwise: each block is computed with its neighbours' samples around it, so the seams cannot be heard.

    Parameters
    ----------
    blocks
        Consecutive ``(sample,)`` float32 arrays.
    from_rate, to_rate
        As for :func:`resample`.
    name
        What to call the recording in an error.

    Yields
    ------
    numpy.ndarray
        ``(sample,)`` float32; the blocks joined equal what :func:`resample` makes of the whole.

    Raises
    ------
    AudioError
        There is no sample in any block.
    """
    ratio = Fraction(to_rate, from_rate).limit_denominator(1000)
    step = ratio.denominator  # input samples after which the kernel's phase repeats
    margin = step * -(-max(from_rate // 100, 64) // step)
    pending, left, empty = np.zeros(0, np.float32), 0, True
    for block in blocks:
        empty = empty and len(block) == 0
        if from_rate == to_rate:
            yield block
            continue
        pending = np.concatenate([pending, block])
        n_ready = (len(pending) - left - margin) // step * step
        if n_ready < from_rate:
            continue
        start = left * ratio.numerator // step
        yield resample(pending, from_rate, to_rate)[start : start + n_ready * ratio.numerator // step]
        keep = min(margin, left + n_ready)
        pending, left = pending[left + n_ready - keep :], keep
    if empty:
        raise AudioError(f"{name}: holds no audio samples")
    if len(pending) > left:
        yield resample(pending, from_rate, to_rate)[left * ratio.numerator // step :]


@lru_cache(maxsize=64)
def resampler(from_rate: int, to_rate: int) -> Any:
    """Return torchaudio's resampling module for a pair of rates, its kernel computed once."""
    import torchaudio

    # Two rates without a common divisor would need a kernel of gigabytes.
    ratio = Fraction(to_rate, from_rate).limit_denominator(1000)
    return torchaudio.transforms.Resample(ratio.denominator, ratio.numerator)
