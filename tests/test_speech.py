"""Finding speech: against the detector's own program, in blocks, quiet, and between silence and noise."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SAMPLE_RATE, spoken, tone

from asr.audio import load_audio
from asr.errors import Failure
from asr.transcription import speech
from asr.transcription.speech import FRAME, SpeechDetector


@pytest.fixture(scope="module")
def detector() -> SpeechDetector:
    return SpeechDetector()


def blocks_of(waveform: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for start in range(0, len(waveform), size):
        yield waveform[start : start + size]


def found(detector: SpeechDetector, waveform: np.ndarray, size: int = 10**9) -> np.ndarray:
    return np.concatenate(list(detector.probabilities(blocks_of(waveform.astype(np.float32), size))))


def hiss(seconds: float, level: float = 0.02) -> np.ndarray:
    return level * np.random.default_rng(0).standard_normal(round(seconds * SAMPLE_RATE))


def silero(waveform: np.ndarray) -> np.ndarray:
    """What the wheel's own network gives, one frame after the other."""
    spec = importlib.util.find_spec("silero_vad")
    assert spec is not None
    assert spec.origin is not None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = torch.jit.load(Path(spec.origin).parent / "data" / "silero_vad.jit")
    frames = torch.from_numpy(waveform[: len(waveform) // FRAME * FRAME]).view(-1, FRAME)
    with torch.no_grad():
        return np.array([model(frame, SAMPLE_RATE).item() for frame in frames])


def test_the_numbers_are_those_of_silero(detector: SpeechDetector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speech, "_HIGHEST_GAIN_DB", 0.0)
    waveform = (0.8 * spoken(6.0) + hiss(6.0)).astype(np.float32)
    expected = silero(waveform)
    assert expected.min() < 0.1 < 0.9 < expected.max()
    np.testing.assert_allclose(found(detector, waveform)[: len(expected)], expected, atol=1e-5)


@pytest.mark.parametrize("size", [100, 7777, 16000])
def test_blocks_change_nothing(size: int, detector: SpeechDetector) -> None:
    waveform = np.concatenate([0.01 * spoken(20.0), hiss(3.0), spoken(20.1)])
    whole = found(detector, waveform)
    assert len(whole) == -(-len(waveform) // FRAME)
    np.testing.assert_allclose(found(detector, waveform, size), whole, atol=1e-4)


def test_speech_between_silence_and_noise(detector: SpeechDetector) -> None:
    parts = [np.zeros(2 * SAMPLE_RATE), spoken(4.0), hiss(3.0), spoken(4.0, seed=1), tone(3.0)]
    is_speech = np.repeat([False, True, False, True, False], [len(part) for part in parts])
    sure = found(detector, np.concatenate(parts))
    per_frame = is_speech[: len(sure) * FRAME : FRAME]
    edges = np.flatnonzero(np.diff(per_frame.astype(int)))
    far = np.min(np.abs(np.arange(len(sure))[:, None] - edges), axis=1) > 10
    assert (sure[far & per_frame] > 0.5).mean() > 0.9
    assert (sure[far & ~per_frame] < 0.25).all()


@pytest.mark.parametrize("level_db", [-10, -30, -40])
def test_quiet_voices_are_found(level_db: int, detector: SpeechDetector) -> None:
    """The noise of the recorder is as quiet as the voice is, and no speech."""
    quiet = 10 ** (level_db / 20)
    waveform = quiet * np.concatenate([hiss(3.0, 0.003), spoken(8.0) + hiss(8.0, 0.003), hiss(3.0, 0.003)])
    waveform = np.round(waveform * 32768) / 32768  # as 16 bits keep it
    sure = found(detector, waveform)
    second = SAMPLE_RATE / FRAME
    assert (sure[round(3.3 * second) : round(10.7 * second)] > 0.5).mean() > 0.9
    assert (sure[: round(2.7 * second)] < 0.25).all()


def test_a_bang_hides_a_quiet_voice_for_seconds_only(detector: SpeechDetector) -> None:
    voice = 10 ** (-30 / 20) * spoken(20.0)
    sure = found(detector, np.concatenate([tone(0.2) * 2, np.zeros(SAMPLE_RATE), voice]))
    assert (sure[-round(8 * SAMPLE_RATE / FRAME) :] > 0.5).mean() > 0.8


def test_nothing_and_little(detector: SpeechDetector) -> None:
    assert list(detector.probabilities([])) == []
    assert found(detector, np.zeros(1)).shape == (1,)
    assert found(detector, np.zeros(FRAME)).shape == (1,)
    assert found(detector, np.zeros(FRAME + 1)).shape == (2,)


def test_torch_keeps_its_threads_and_the_wheel_is_not_imported() -> None:
    """Importing the wheel's package would set torch to one thread."""
    code = (
        "import sys, torch; torch.set_num_threads(3); from asr.transcription.speech import SpeechDetector; SpeechDetector(); "
        "assert torch.get_num_threads() == 3; assert not any(name.startswith('silero') for name in sys.modules)"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_a_wheel_without_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Failure, match="install silero-vad again"):
        SpeechDetector()


def test_real_speech(detector: SpeechDetector, speech_data: Path) -> None:
    path = sorted((speech_data / "LibriSpeech").rglob("*.mp3"))[0]
    waveform = load_audio(path, SAMPLE_RATE, duration_s=8.0)
    quiet = np.round(10 ** (-30 / 20) * waveform * 32768) / 32768
    assert 0.4 < (found(detector, waveform) > 0.5).mean() < 1.0
    assert np.mean((found(detector, waveform) > 0.5) == (found(detector, quiet) > 0.5)) > 0.95
