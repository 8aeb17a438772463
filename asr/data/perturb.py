"""Perturbations of training waveforms: speed, volume, and the losses of telephones and codecs."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Any

import numpy as np

from asr.config import TELEPHONE_RATE
from asr.data.reading import from_int16, to_int16
from asr.resampling import resample

TELEPHONES = ("ULAW", "ALAW", "GSM610")
"""What a telephone codes speech with: G.711's two laws, and GSM 06.10's full rate."""

_TELEPHONE_BAND_HZ = (300.0, 3400.0)
_MP3_DELAY = 1105  # samples that encoder and decoder add together, where the file has no room to say so
_BLOCK = 1 << 15  # the fastest of those tried, for kernels of up to a second


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


def change_volume(waveform: np.ndarray, gain_db: float) -> np.ndarray:
    """Record a waveform at another level, with 16 bits: what is too loud is clipped, and little is left of what is quiet.

    Parameters
    ----------
    waveform
        ``(sample,)`` float32.
    gain_db
        New level over old (dB).

    Returns
    -------
    numpy.ndarray
        ``(sample,)`` float32 in [-1, 1].
    """
    return from_int16(to_int16(waveform * np.float32(10 ** (gain_db / 20))))


def convolve(waveform: np.ndarray, kernel: np.ndarray, delay: int = 0) -> np.ndarray:
    """Convolve by overlapping blocks, whose Fourier transforms are quicker than one of the whole.

    Parameters
    ----------
    waveform
        ``(sample,)`` float32.
    kernel
        ``(tap,)`` float32.
    delay
        The tap that leaves a sample where it is.

    Returns
    -------
    numpy.ndarray
        ``(sample,)`` float32; what rings on beyond the end is cut off.
    """
    n_before = len(kernel) - 1
    size = max(_BLOCK, 2 << n_before.bit_length())
    step = size - n_before
    n_samples = len(waveform) + delay
    padded = np.zeros(n_before + -(-n_samples // step) * step, dtype=np.float32)
    padded[n_before : n_before + len(waveform)] = waveform
    blocks = np.lib.stride_tricks.sliding_window_view(padded, size)[::step]
    convolved = np.fft.irfft(np.fft.rfft(blocks) * np.fft.rfft(kernel, size), size)[:, n_before:]
    result: np.ndarray = convolved.reshape(-1)[delay:n_samples].astype(np.float32)
    return result


def through_telephone(waveform: np.ndarray, sample_rate: int, codec: str) -> np.ndarray:
    """Send a waveform over a telephone line: 300 to 3400 Hz, 8000 samples a second, and the line's codec.

    Parameters
    ----------
    waveform
        ``(sample,)`` float32.
    sample_rate
        Its rate, at least 8000 Hz.
    codec
        One of :data:`TELEPHONES`.

    Returns
    -------
    numpy.ndarray
        ``(sample,)`` float32, in step with the input.
    """
    narrow = resample(waveform, sample_rate, TELEPHONE_RATE)
    band = _telephone_filter()
    coded = _coded(convolve(narrow, band, len(band) // 2), TELEPHONE_RATE, format="WAV", subtype=codec)
    return resample(coded[: len(narrow)], TELEPHONE_RATE, sample_rate)[: len(waveform)]


@lru_cache(maxsize=1)
def _telephone_filter() -> np.ndarray:
    """``(tap,)`` float32: a windowed-sinc band-pass of the telephone's band, symmetric about its middle tap."""
    taps = np.arange(-127, 128)
    low, high = (2 * edge_hz / TELEPHONE_RATE for edge_hz in _TELEPHONE_BAND_HZ)
    kernel: np.ndarray = np.hamming(len(taps)) * (high * np.sinc(high * taps) - low * np.sinc(low * taps))
    return kernel.astype(np.float32)


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
    if not len(waveform):
        return waveform
    highest = 64 if sample_rate < 16000 else 160
    level = (highest - kbps) / (highest - 8)
    subtype = "MPEG_LAYER_III"
    decoded = _coded(waveform, sample_rate, format="MP3", subtype=subtype, bitrate_mode="CONSTANT", compression_level=level)
    if len(decoded) > len(waveform):  # else the decoder read the delay in the file and removed it
        decoded = decoded[_MP3_DELAY:]
    coded = np.zeros_like(waveform)
    n_samples = min(len(decoded), len(waveform))
    coded[:n_samples] = decoded[:n_samples]
    return coded


def _coded(waveform: np.ndarray, sample_rate: int, **codec: Any) -> np.ndarray:
    """Write ``(sample,)`` float32 by a codec of libsndfile and read it back; there may be more of it then."""
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, np.clip(waveform, -1.0, 1.0), sample_rate, **codec)
    buffer.seek(0)
    decoded: np.ndarray = soundfile.read(buffer, dtype="float32")[0]
    return decoded
