"""What can be heard in an utterance, without any model: its spectrogram, its pitch and its level, by librosa."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from asr.config import FrontendConfig

FLOOR_DBFS = -100.0
"""Levels below are raised to it, so that digital silence has one."""

PITCH_HZ = (60.0, 500.0)
"""Pitches that are looked for: those of speaking men, women and children."""

_WINDOW_S, _STEP_S = 0.025, 0.010
# What is so far below the loudest (dB) is no voice: in pauses there is the hum of the mains, which has a pitch.
_PAUSE_DB = 40.0
# Of pyin, with half as many frames as usual and twice as far between pitches (semitones), which takes an eighth of the time. On
# read speech nine frames in ten are then voiced or not as they would be at 10 ms and a tenth of a semitone, once voice may
# set in and end more quickly, and thresholds are higher (2/9 on average, of a beta distribution) than by default.
_PITCH_WINDOW_S, _PITCH_STEPS, _PITCH_SEMITONES = 0.064, 2, 0.2
_SWITCHES, _THRESHOLDS = 0.1, (4.0, 14.0)


@dataclass(frozen=True, eq=False)
class Sound:
    """An utterance as it is heard. Frame k of each stands for the time ``k`` times its step.

    Attributes
    ----------
    spectrogram, spectrogram_s
        ``(frame, bin)`` levels (dBFS) at even frequencies from 0 to half the sample rate, and the step (s).
    bin_hz
        Distance between their frequencies (Hz).
    pitch_hz, pitch_s
        ``(frame,)`` fundamental frequency of the voice, NaN where there is none, and the step (s).
    level_dbfs, level_s
        ``(frame,)`` root mean square, and the step (s). A sine of full scale has 0 dBFS (AES17), here and in the spectrogram.
    """

    spectrogram: np.ndarray
    spectrogram_s: float
    bin_hz: float
    pitch_hz: np.ndarray
    pitch_s: float
    level_dbfs: np.ndarray
    level_s: float


def listen(waveform: np.ndarray, sample_rate: int) -> Sound:
    """Measure an utterance.

    The pitch is that of probabilistic YIN (Mauch and Dixon 2014).

    Parameters
    ----------
    waveform
        ``(sample,)`` float32, one sample at least.
    sample_rate
        In Hz.

    Raises
    ------
    ImportError
        librosa is not installed, or cannot be loaded.
    """
    librosa = _load_librosa()
    window, hop = round(_WINDOW_S * sample_rate), round(_STEP_S * sample_rate)
    size, pitch_size = _power_of_two(window), _power_of_two(round(_PITCH_WINDOW_S * sample_rate))
    n_samples = len(waveform)
    waveform = np.pad(waveform, (0, max(0, pitch_size - n_samples)))  # librosa warns of fewer than a window's
    magnitude = np.abs(librosa.stft(waveform, n_fft=size, win_length=window, hop_length=hop))
    of_full_scale = librosa.filters.get_window("hann", window).sum() / 2  # what a sine of full scale has
    rms = librosa.feature.rms(y=waveform, frame_length=window, hop_length=hop)[0]
    level_dbfs = _decibels(rms * np.sqrt(2.0))
    pitch_hz, _, _ = librosa.pyin(
        waveform,
        fmin=PITCH_HZ[0],
        fmax=PITCH_HZ[1],
        sr=sample_rate,
        frame_length=pitch_size,
        hop_length=_PITCH_STEPS * hop,
        resolution=_PITCH_SEMITONES,
        switch_prob=_SWITCHES,
        beta_parameters=_THRESHOLDS,
    )
    pitch_hz[level_dbfs[::_PITCH_STEPS] < level_dbfs.max() - _PAUSE_DB] = np.nan
    return Sound(
        spectrogram=_decibels(magnitude.T / of_full_scale)[: n_samples // hop + 1],
        spectrogram_s=hop / sample_rate,
        bin_hz=sample_rate / size,
        pitch_hz=pitch_hz[: n_samples // (_PITCH_STEPS * hop) + 1],
        pitch_s=_PITCH_STEPS * hop / sample_rate,
        level_dbfs=level_dbfs[: n_samples // hop + 1],
        level_s=hop / sample_rate,
    )


def mel_edges(config: FrontendConfig) -> np.ndarray:
    """Return ``(n_mels + 2,)``, the frequencies (Hz) between which the features' mel bands rise and fall.

    Raises
    ------
    ImportError
        As :func:`listen`.
    """
    librosa = _load_librosa()
    f_max = config.f_max_hz or config.sample_rate / 2
    edges: np.ndarray = librosa.mel_frequencies(config.n_mels + 2, fmin=config.f_min_hz, fmax=f_max)
    return edges


def _load_librosa() -> Any:
    """Load librosa with the functions that numba compiles for it, which needs a folder to keep them in."""
    try:
        import librosa

        librosa.pyin  # noqa: B018  # loaded on demand
    except ImportError as error:
        raise ImportError(f'{error}: pip install "librosa>=0.11"') from error
    except RuntimeError as error:
        raise ImportError(f"{error}: set NUMBA_CACHE_DIR to a folder that may be written to") from error
    return librosa


def _decibels(amplitudes: np.ndarray) -> np.ndarray:
    decibels: np.ndarray = 20 * np.log10(np.maximum(amplitudes, 10 ** (FLOOR_DBFS / 20)))
    return decibels


def _power_of_two(number: int) -> int:
    return 1 << (number - 1).bit_length()
