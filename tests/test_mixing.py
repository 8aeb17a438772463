"""Channels to one: their mean, but where it would take away what is in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import SAMPLE_RATE, spoken

from asr.audio import load_audio, stream_audio
from asr.errors import AudioError
from asr.mixing import is_silent, to_mono
from asr.waveform import check_waveform

SPEECH = spoken(4.0)
NOISE = (0.01 * np.random.default_rng(0).standard_normal((2, len(SPEECH)))).astype(np.float32)


def mixed(*channels: np.ndarray) -> tuple[np.ndarray, list[str]]:
    notices: list[str] = []
    return to_mono(np.stack(channels, axis=1).astype(np.float32), "mine", tell=notices.append), notices


@pytest.mark.parametrize("gain", [1.0, 0.8, 1.3])
def test_channels_that_cancel_are_not_mixed(gain: float) -> None:
    waveform, notices = mixed(SPEECH, -gain * SPEECH)
    np.testing.assert_array_equal(waveform, SPEECH if gain <= 1 else -np.float32(gain) * SPEECH)
    np.testing.assert_array_equal(mixed(-SPEECH, SPEECH * 1.0001)[0], -SPEECH)  # the first of those that are as loud
    assert notices == [
        f"its channels cancel each other in 100% of it, where channel {int(gain > 1)} was taken alone; is another one inverted?"
    ]
    with_offset, _ = mixed(SPEECH + 0.1, 0.1 - gain * SPEECH)  # the mean of an offset is no speech
    assert with_offset.std() > 0.9 * SPEECH.std()
    noisy, notices = mixed(SPEECH + 0.01 * NOISE[0], -gain * SPEECH + 0.01 * NOISE[1])
    assert noisy.std() > 0.9 * SPEECH.std()
    assert len(notices) == 1


def test_other_channels_are_mixed() -> None:
    later = np.roll(SPEECH, 20)
    hollow = SPEECH.copy()
    hollow[: len(hollow) // 2] = 0
    for channels in (
        [SPEECH, SPEECH],
        [SPEECH, later],
        [SPEECH, 0 * SPEECH],
        [SPEECH, 0.4 * -SPEECH],
        [hollow, SPEECH - hollow],
        [*NOISE],
        [0 * SPEECH, 0 * SPEECH],
        [*np.random.default_rng(1).standard_normal((16, len(SPEECH))).astype(np.float32)],
        [SPEECH] + 15 * [0 * SPEECH],
    ):
        waveform, notices = mixed(*channels)
        np.testing.assert_allclose(waveform, np.mean(channels, axis=0), atol=1e-6)
        assert not notices


def test_three_channels_of_which_two_cancel_the_third() -> None:
    waveform, notices = mixed(SPEECH / 2, SPEECH / 2, -SPEECH)
    np.testing.assert_array_equal(waveform, -SPEECH)
    assert "channel 2" in notices[0]


def test_only_the_part_that_cancels_is_taken_from_one_channel() -> None:
    second = SPEECH.copy()
    second[SAMPLE_RATE * 2 :] *= -1
    waveform, notices = mixed(SPEECH, second)
    frame = 1 << 12
    whole = 2 * SAMPLE_RATE // frame * frame
    np.testing.assert_array_equal(waveform[:whole], SPEECH[:whole])
    np.testing.assert_array_equal(waveform[whole + frame :], SPEECH[whole + frame :])
    assert 0.2 < float(notices[0].split("%")[0].split()[-1]) / 100 < 0.8


@pytest.mark.parametrize("block_s", [0.05, 1.0, 3.0, 100.0])
def test_blocks_change_nothing(tmp_path: Path, block_s: float) -> None:
    second = np.concatenate([SPEECH[:30000], -SPEECH[30000:]])
    soundfile.write(tmp_path / "a.wav", np.stack([SPEECH, second], axis=1), SAMPLE_RATE, subtype="FLOAT")
    heard: list[str] = []
    whole = load_audio(tmp_path / "a.wav", SAMPLE_RATE, tell=heard.append)
    streamed = list(stream_audio(tmp_path / "a.wav", SAMPLE_RATE, block_s, tell=heard.append))
    np.testing.assert_array_equal(np.concatenate(streamed), whole)
    assert len(set(heard)) == 1
    assert len(heard) == 2
    np.testing.assert_array_equal(load_audio(tmp_path / "a.wav", SAMPLE_RATE, channel=1), second)


def test_moments_are_not_told_of() -> None:
    second = SPEECH.copy()
    second[12288:16384] *= -1
    assert np.abs(SPEECH[12288:16384]).max() > 0.05
    waveform, notices = mixed(SPEECH, second)
    np.testing.assert_array_equal(waveform[12288:16384], SPEECH[12288:16384])
    assert "in 6% of it" in notices[0]
    waveform, notices = mixed(*(np.concatenate([channel, np.tile(SPEECH, 8)]) for channel in (SPEECH, second)))
    np.testing.assert_array_equal(waveform[12288:16384], SPEECH[12288:16384])
    assert not notices


def test_arrays_are_mixed_alike() -> None:
    heard: list[str] = []
    np.testing.assert_array_equal(check_waveform(np.stack([SPEECH, -SPEECH]), tell=heard.append), SPEECH)
    assert heard


def test_what_is_in_the_channels_is_looked_at_all_the_same() -> None:
    bad = SPEECH.copy()
    bad[5] = np.nan
    with pytest.raises(AudioError, match=r"mine: 1 of \d+ samples are NaN or infinite"):
        mixed(bad, -bad)


def test_silence_is_a_constant_and_rounding() -> None:
    rng = np.random.default_rng(0)
    assert is_silent(np.zeros(100, np.float32))
    assert is_silent(np.full(100, 0.25, np.float32))
    assert is_silent((rng.integers(-1, 2, 1000) / 32768).astype(np.float32))
    assert is_silent(np.zeros(0, np.float32))
    assert not is_silent(1e-3 * SPEECH)
