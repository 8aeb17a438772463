"""Simulated rooms: what walls send back after the sound that comes straight from the mouth."""

from __future__ import annotations

import numpy as np

from asr.data.perturb import convolve

_SPEED_OF_SOUND = 343.0  # m/s
_VOLUMES_M3 = (30.0, 250.0)  # from a small office to a seminar room


def room_response(rng: np.random.Generator, sample_rate: int, rt60_s: float, distance_m: float) -> np.ndarray:
    """Draw the impulse response of a room.

    In a room with flat walls every echo is a mirror image of the source (Allen and Berkley 1979). Of these images, those that
    are heard ``t`` seconds after the sound was made number ``4 pi c^3 t^2 / V`` a second in a room of volume ``V``, and each
    has the amplitude ``1 / (c t)`` times what the walls left. Here their number is drawn at random, so the first echoes
    stand alone, the later ones run together, and the share of echo against direct sound follows from room and distance.

    Parameters
    ----------
    rng
        Draws the room's volume and its echoes.
    sample_rate
        Rate of the response (Hz).
    rt60_s
        Time in which the echo's level falls by 60 dB.
    distance_m
        From the mouth to the microphone.

    Returns
    -------
    numpy.ndarray
        ``(tap,)`` float32, ``rt60_s`` long; the first tap is the direct sound, 1.
    """
    volume = rng.uniform(*_VOLUMES_M3)
    time_s = distance_m / _SPEED_OF_SOUND + np.arange(1, max(2, round(rt60_s * sample_rate))) / sample_rate
    n_images = rng.poisson(4 * np.pi * _SPEED_OF_SOUND**3 * time_s**2 / volume / sample_rate)
    amplitudes = distance_m / (_SPEED_OF_SOUND * time_s) * 10 ** (-3 * time_s / rt60_s)
    echoes = np.sqrt(n_images) * rng.standard_normal(len(time_s)) * amplitudes
    return np.concatenate([[1.0], echoes]).astype(np.float32)


def reverberate(waveform: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Play a waveform in a room.

    Parameters
    ----------
    waveform
        ``(sample,)`` float32.
    response
        ``(tap,)`` float32, as from :func:`room_response`.

    Returns
    -------
    numpy.ndarray
        ``(sample,)`` float32, as loud as the input and in step with it.
    """
    heard = convolve(waveform, response)
    power, power_before = np.dot(heard, heard), np.dot(waveform, waveform)
    return heard * np.float32(np.sqrt(power_before / power)) if power else heard
