"""A synthesiser for tests: each word is a tone of a tenth of a second. It notes its processes in the folder that WHAT names."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import numpy as np

from asr.errors import TextError
from asr.speech import Origin

RATE = 8000


class FakeVoices:
    sample_rate = RATE
    carries_state = False
    delay_s = 0.0

    def __init__(self, what: str = "") -> None:
        self.origin = Origin("fake", "1", "none")
        self._notes = Path(what) if what else None

    def draw_voice(self, rng: random.Random) -> str:
        return f"pitch={rng.randint(100, 400)}"

    def speak(self, text: str, voice: str, seed: int) -> np.ndarray:
        if self._notes:
            (self._notes / str(os.getpid())).touch()
        time.sleep(self.delay_s)
        if "unsayable" in text:
            raise TextError(f"cannot say {text!r}")
        time_s = np.arange(len(text.split()) * RATE // 10) / RATE
        noise = 0.1 * np.random.default_rng(seed).standard_normal(len(time_s))
        return (0.5 * np.sin(2 * np.pi * float(voice.removeprefix("pitch=")) * time_s) + noise).astype(np.float32)


class SlowVoices(FakeVoices):
    delay_s = 0.02


class CountingVoices(FakeVoices):
    """The pitch rises with each utterance that the process speaks."""

    carries_state = True
    n_spoken = 0

    def speak(self, text: str, voice: str, seed: int) -> np.ndarray:
        self.n_spoken += 1
        return super().speak(text, f"pitch={100 * self.n_spoken}", seed)
