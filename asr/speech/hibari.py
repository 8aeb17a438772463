"""One English voice of a parametric vocoder, hibari-tts, made into as many speakers as one likes.

The network says for each frame of 12.5 ms the spectra of the voiced and of the noisy part and the pitch, and a vocoder makes
the waveform of them. In between, the pitch is moved and stretched, the axis of frequencies is scaled (a longer or shorter vocal
tract), the spectra are tilted and breath is added. Prosody and articulation remain those of the one voice.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from asr.errors import ConfigError, TextError
from asr.speech.english import check_english, to_tokens
from asr.speech.synthesiser import PACE_SPREAD, Origin, installed_version, read_voice, voice_text

_SAMPLE_RATE = 24000
_VOICED_HZ = 40.0  # below it a frame has no pitch
_PITCH_HZ = (55.0, 500.0)
_TILT_BIN, _TILT_FROM_BIN = 50.0, 8  # 20 Hz a bin: the spectrum turns around 1 kHz, and is level below 160 Hz
_LOUDEST = 0.95
_MOST_PHONEMES = 1000  # it parts sentences of more than 400 at commas


class HibariVoices:
    """hibari-tts as a :class:`asr.speech.Synthesiser`.

    A voice consists of settings alone: ``pitch`` and ``tract`` are factors of the fundamental frequency and of all others,
    ``spread`` an exponent that makes the intonation livelier (above 1) or flatter, ``tilt`` an exponent of the frequency by
    which the spectrum is multiplied, ``breath`` what is added to the logarithm of the noise, ``pace`` a factor of the speed.

    Parameters
    ----------
    what
        Empty: it has one voice.

    Raises
    ------
    ConfigError
        The package is not installed, or a voice is named.
    """

    sample_rate = _SAMPLE_RATE
    carries_state = False
    _DEFAULTS: ClassVar = {"pitch": 1.0, "tract": 1.0, "spread": 1.0, "tilt": 0.0, "breath": 0.0, "pace": 1.0}

    def __init__(self, what: str = "") -> None:
        no_voice_name("hibari", what)
        self.origin = Origin("hibari-tts", installed_version("hibari-tts", "hibari"), "Apache-2.0, voice and software")
        self._model: Any = None

    def draw_voice(self, rng: random.Random) -> str:
        """Return a speaker, a man's vocal tract and pitch or a woman's."""
        man = rng.random() < 0.5
        drawn = {
            "pitch": rng.uniform(0.45, 0.72) if man else rng.uniform(0.82, 1.25),
            "tract": rng.uniform(0.80, 0.93) if man else rng.uniform(0.94, 1.10),
            "spread": rng.uniform(0.5, 1.4),
            "tilt": rng.uniform(-0.3, 0.25),
            "breath": rng.uniform(-0.6, 0.8),
            "pace": rng.uniform(0.85, 1.25),
        }
        return voice_text("", {key: round(value, 3) for key, value in drawn.items()})

    def speak(self, text: str, voice: str, seed: int) -> np.ndarray:
        """Speak a text; the seed decides the vocoder's noise, and by how much the pace differs from the speaker's."""
        name, settings = read_voice(voice, self._DEFAULTS)
        no_voice_name("hibari", name)
        rng = np.random.default_rng(seed)
        settings["pace"] *= float(np.exp(PACE_SPREAD * rng.standard_normal()))
        waveform = np.concatenate([self._piece(phonemes, settings, rng) for phonemes in self._phonemes(text)])
        return (waveform / max(1.0, float(np.abs(waveform).max()) / _LOUDEST)).astype(np.float32)

    def _phonemes(self, text: str) -> list[str]:
        """Return the phonemes of each sentence, or of parts of long ones."""
        from hibari import Hibari

        check_english(text)
        if self._model is None:
            self._model = Hibari()
        phonemes: list[str] = self._model.phonemize(text)
        if not phonemes:
            raise TextError(f"there is nothing to say in {text!r}")
        return phonemes

    def _piece(self, phonemes: str, settings: Mapping[str, float], rng: np.random.Generator) -> np.ndarray:
        from hibari import dsp

        tokens = to_tokens(phonemes, self._model.vocab, phonemes, _MOST_PHONEMES)
        feed = {"ids": np.array([[0, *tokens, 0]], np.int64), "speed": np.array([settings["pace"]], np.float32)}
        voiced, phase, noise, rest, angle, f0 = (output[0] for output in self._model.sess.run(None, feed))
        voiced, noise, rest = (_shaped(part, settings["tract"], settings["tilt"]) for part in (voiced, noise, rest))
        f0 = _intoned(f0, settings["pitch"], settings["spread"])
        waveform: np.ndarray = dsp.synth(voiced, phase, noise + np.float32(settings["breath"]), rest, angle, f0, rng)
        return waveform


def _shaped(spectrum: np.ndarray, tract: float, tilt: float) -> np.ndarray:
    """Scale the axis of frequencies of ``(bin, frame)`` log magnitudes by ``tract``, and add a slope."""
    n_bins = len(spectrum)
    bins = np.arange(n_bins)
    position = np.clip(bins / tract, 0, n_bins - 1)
    low = position.astype(np.int64)
    share = (position - low).astype(np.float32)[:, None]
    slope = (tilt * np.log(np.maximum(bins, _TILT_FROM_BIN) / _TILT_BIN)).astype(np.float32)[:, None]
    shaped: np.ndarray = spectrum[low] * (1 - share) + spectrum[np.minimum(low + 1, n_bins - 1)] * share + slope
    return shaped


def _intoned(f0: np.ndarray, pitch: float, spread: float) -> np.ndarray:
    """Move ``(frame,)`` fundamental frequencies (Hz) by a factor, and raise their ratios to the mean to a power."""
    voiced = f0 > _VOICED_HZ
    moved = f0.astype(np.float32)
    if voiced.any():
        mean = np.exp(np.log(f0[voiced]).mean())
        moved[voiced] = np.clip(mean * pitch * (f0[voiced] / mean) ** spread, *_PITCH_HZ)
    return moved


def no_voice_name(engine: str, name: str) -> None:
    """Refuse the name of a voice, with a ConfigError, where there is but one."""
    if name:
        raise ConfigError(f"--voices {engine}:{name}: {engine} has one voice, which has no name; say {engine} alone")
