"""Fixtures that several test modules share."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import settings

SAMPLE_RATE = 16000

pytest_plugins = ("bad_input",)

settings.register_profile("untimed", deadline=None)  # how long an example takes says nothing about whether it is right
settings.load_profile("untimed")

# A shell's background job ignores Ctrl-C, and so would all that the tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


def tone(duration_s: float = 0.5, frequency_hz: float = 440.0, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
    """``(sample,)`` float32, a sine at half of full scale."""
    time_s = np.arange(round(duration_s * sample_rate)) / sample_rate
    return (0.5 * np.sin(2 * np.pi * frequency_hz * time_s)).astype(np.float32)


SENTENCES = (
    "the old man walked slowly down to the river and sat under the willow until the evening bells began to ring",
    "seven green bottles of medicine were standing on a narrow shelf above the kitchen door of the northern house",
    "nobody remembered who had written those letters although everybody in the village could read them by heart",
    "when the storm was over they opened every window and let the cold clean air blow through the empty rooms",
)


@cache
def _sentence(index: int) -> np.ndarray:
    from asr.resampling import resample
    from asr.speech.espeak import EspeakVoices

    espeak = EspeakVoices()
    return resample(espeak.speak(SENTENCES[index], "en-us+f3" if index % 2 else "en-us"), espeak.sample_rate, SAMPLE_RATE)


def spoken(duration_s: float, seed: int = 0) -> np.ndarray:
    """``(sample,)`` float32, a synthetic voice that reads a sentence, again and again with a short pause; 16 kHz."""
    sentence = np.pad(_sentence(seed % len(SENTENCES)), (0, SAMPLE_RATE // 2))
    return np.resize(sentence, round(duration_s * SAMPLE_RATE))


@pytest.fixture
def spoken_wav(tmp_path: Path) -> Path:
    """Half a second of a synthetic voice, 16 kHz, mono, 16 bit."""
    path = tmp_path / "spoken.wav"
    soundfile.write(path, spoken(1.0)[SAMPLE_RATE // 2 :], SAMPLE_RATE)
    return path


@pytest.fixture
def tone_wav(tmp_path: Path) -> Path:
    """Half a second of 440 Hz, 16 kHz, mono, 16 bit."""
    path = tmp_path / "tone.wav"
    soundfile.write(path, tone(), SAMPLE_RATE)
    return path


@pytest.fixture
def write_corpus(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes wavs of noise of given durations and a CSV table of them, and returns the table."""

    def write(durations_s: list[float], name: str = "corpus") -> Path:
        folder = tmp_path / name
        folder.mkdir()
        rng = np.random.default_rng(0)
        rows = ["id,audio,text,speaker"]
        for index, duration_s in enumerate(durations_s):
            noise = 0.1 * rng.standard_normal(round(duration_s * SAMPLE_RATE))
            soundfile.write(folder / f"u{index}.wav", noise, SAMPLE_RATE, subtype="PCM_16")
            rows.append(f"{name}-{index:03d},u{index}.wav,text {index},s{index % 3}")
        table = folder / "table.csv"
        table.write_text("\n".join(rows) + "\n", encoding="utf-8")
        return table

    return write


@pytest.fixture(autouse=True)
def _subnormal_numbers() -> None:
    """Training in this process rounds them to zero, which random tests of others take for a broken machine."""
    if "torch" in sys.modules:
        import torch

        torch.set_flush_denormal(False)


@pytest.fixture(scope="session")
def speech_data() -> Path:
    """The folder of real speech; tests that need it are skipped where there is none."""
    named = os.environ.get("ASR_TEST_DATA")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not (folder / "LibriSpeech").is_dir():
        pytest.skip(f"no real speech in {folder}; name a folder that holds LibriSpeech/ in ASR_TEST_DATA")
    return folder


def write_nonsense_package(folder: Path, cell: str = "lstm") -> Path:
    """Write a small network with random weights: it writes nonsense, the same nonsense for the same audio."""
    import torch

    from asr.config import CnnConfig, Config, FrontendConfig, ModelConfig, RecurrentConfig
    from asr.model.acoustic import SpeechModel
    from asr.package.save import write_package
    from asr.text import build_tokenizer

    torch.manual_seed(3)
    cnn = CnnConfig(
        channels=[4], time_kernels=[3], frequency_kernels=[3], time_strides=[4], frequency_strides=[2], norm="layer"
    )
    sizes = ModelConfig(cnn=cnn, recurrent=RecurrentConfig(cell=cell, layers=1, hidden_size=16, norm="layer"))
    config = Config(name="nonsense", frontend=FrontendConfig(n_mels=20), model=sizes)
    tokenizer = build_tokenizer(config.tokens)
    model = SpeechModel(config.frontend, config.model, len(tokenizer))
    with torch.no_grad():
        for parameter in model.acoustic.head.parameters():
            parameter.mul_(8)  # far from ties, which rounding could decide
    return write_package(folder, config, model, tokenizer, "card")


@pytest.fixture(scope="session")
def package_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Writes networks of any cell with random weights."""
    return lambda cell: write_nonsense_package(tmp_path_factory.mktemp(f"model-{cell}") / "package", cell)


@pytest.fixture(scope="session")
def package(package_of: Callable[[str], Path]) -> Path:
    return package_of("lstm")
