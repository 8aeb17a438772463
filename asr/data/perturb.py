"""Perturbations of training waveforms: speed, and the losses of a codec."""

from __future__ import annotations

import io

import numpy as np

from asr.audio import resample

_MP3_DELAY = 1105  # samples that encoder and decoder add together, where the file has no room to say so


def change_speed(waveform: np.ndarray, factor: float) -> np.ndarray:
    """Play a waveform faster (``factor`` above 1) or slower, as a tape would.

    Parameters
    ----------
    waveform
        ``(sample,)`` float32.
    factor
        New speed over old, to two decimals.

    Returns
    -------
    numpy.ndarray
        ``(ceil(sample / factor),)`` float32.
    """
    return resample(waveform, round(factor * 100), 100)


def through_mp3(waveform: np.ndarray, sample_rate: int, kbps: int) -> np.ndarray:
    """Encode a waveform as MP3 and decode it again.

    Few bits a second leave holes in the spectrum wherever the encoder found something masked, and nothing at all above a
    few kHz; much of the speech of audio books and podcasts has been through this.

    Parameters
    ----------
    waveform
        ``(sample,)`` float32.
    sample_rate
        One of :data:`asr.config.MP3_RATES` (Hz).
    kbps
        Constant bit rate, 16 to 64 (kbit/s); the nearest that MP3 has is taken.

    Returns
    -------
    numpy.ndarray
        ``(sample,)`` float32, in step with the input.
    """
    import soundfile

    if not len(waveform):
        return waveform
    highest = 64 if sample_rate < 16000 else 160
    buffer = io.BytesIO()
    level = (highest - kbps) / (highest - 8)
    soundfile.write(
        buffer,
        np.clip(waveform, -1.0, 1.0),
        sample_rate,
        format="MP3",
        subtype="MPEG_LAYER_III",
        bitrate_mode="CONSTANT",
        compression_level=level,
    )
    buffer.seek(0)
    decoded = soundfile.read(buffer, dtype="float32")[0]
    if len(decoded) > len(waveform):  # else the decoder read the delay in the file and removed it
        decoded = decoded[_MP3_DELAY:]
    coded = np.zeros_like(waveform)
    n_samples = min(len(decoded), len(waveform))
    coded[:n_samples] = decoded[:n_samples]
    return coded
