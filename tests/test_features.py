"""Features against librosa, frame counts, and normalisation."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
import torch

from asr.config import FrontendConfig
from asr.features import POWER_FLOOR, Frontend, length_mask

SAMPLE_RATE = 16000
KINDS = ("log_mel", "mfcc", "spectrogram")


def noise(n_samples: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(n_samples, generator=torch.Generator().manual_seed(seed))


def compute(config: FrontendConfig, waveform: torch.Tensor) -> torch.Tensor:
    features, n_frames = Frontend(config)(waveform[None], torch.tensor([len(waveform)]))
    assert features.shape[1] == n_frames[0]
    return features[0]


def librosa_features(config: FrontendConfig, waveform: np.ndarray) -> np.ndarray:
    """The same features by librosa, (frame, bin), not normalised."""
    window, hop = round(config.window_s * config.sample_rate), round(config.hop_s * config.sample_rate)
    if config.kind == "spectrogram":
        return np.log1p(np.abs(librosa.stft(waveform, n_fft=window, hop_length=hop, pad_mode="constant"))).T
    mel = librosa.feature.melspectrogram(
        y=waveform,
        sr=config.sample_rate,
        n_fft=512,
        win_length=window,
        hop_length=hop,
        n_mels=config.n_mels,
        fmin=config.f_min_hz,
        fmax=config.f_max_hz,
        pad_mode="constant",
    )
    decibels = librosa.power_to_db(mel, amin=POWER_FLOOR, top_db=config.dynamic_range_db)
    log_mel = decibels * np.log(10) / 10
    if config.kind == "log_mel":
        return log_mel.T
    return librosa.feature.mfcc(S=log_mel, n_mfcc=config.n_mfcc, norm="ortho").T


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_samples", [401, 16000, 23456])
def test_agrees_with_librosa(kind: str, n_samples: int) -> None:
    config = FrontendConfig(kind=kind, normalisation="none")
    waveform = noise(n_samples)
    expected = librosa_features(config, waveform.numpy())
    np.testing.assert_allclose(compute(config, waveform).numpy(), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dynamic_range_db", [None, 80.0, 30.0])
def test_dynamic_range_agrees_with_librosa(dynamic_range_db: float | None) -> None:
    config = FrontendConfig(dynamic_range_db=dynamic_range_db, normalisation="none")
    waveform = noise(16000) * torch.linspace(0, 1, 16000) ** 4
    waveform[:4000] = 0
    expected = librosa_features(config, waveform.numpy())
    np.testing.assert_allclose(compute(config, waveform).numpy(), expected, atol=1e-4, rtol=1e-4)
    assert expected.max() - expected.min() == pytest.approx((dynamic_range_db or 98) / 4.343, abs=1.5)


def test_other_settings_agree_with_librosa() -> None:
    config = FrontendConfig(window_s=0.032, hop_s=0.008, n_mels=40, f_min_hz=100.0, f_max_hz=6000.0, normalisation="none")
    waveform = noise(9000)
    np.testing.assert_allclose(
        compute(config, waveform).numpy(), librosa_features(config, waveform.numpy()), atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize("n_samples", [0, 1, 159, 160, 161, 319, 320, 16000])
def test_frame_count(n_samples: int) -> None:
    expected = 0 if n_samples == 0 else n_samples // 160 + 1
    assert Frontend(FrontendConfig()).output_lengths(torch.tensor([n_samples])).tolist() == [expected]


def test_utterance_normalisation_has_zero_mean_and_unit_variance_despite_padding() -> None:
    waveforms = torch.stack([noise(16000, 1), torch.cat([3 * noise(8000, 2), torch.full((8000,), 9.0)])])
    features, n_frames = Frontend(FrontendConfig())(waveforms, torch.tensor([16000, 8000]))
    for row, n in zip(features, n_frames.tolist(), strict=True):
        torch.testing.assert_close(row[:n].mean(0), torch.zeros(80), atol=1e-4, rtol=0)
        torch.testing.assert_close(row[:n].std(0, correction=0), torch.ones(80), atol=1e-3, rtol=0)
        assert not row[n:].any()


def test_corpus_normalisation_by_statistics_of_the_frames_without_padding() -> None:
    raw = Frontend(FrontendConfig(normalisation="none"))
    frontend = Frontend(FrontendConfig(normalisation="corpus"))
    short, long = noise(8000, 3), 2 * noise(16000, 4)
    padded = torch.stack([torch.cat([short, torch.full((8000,), 5.0)]), long])
    frontend.fit_statistics([(padded, torch.tensor([8000, 16000]))])
    frames = torch.cat([compute(raw.config, short), compute(raw.config, long)])
    torch.testing.assert_close(frontend.mean, frames.mean(0), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(frontend.std, frames.std(0, correction=0), atol=1e-4, rtol=1e-3)
    expected = (compute(raw.config, long) - frames.mean(0)) / frames.std(0, correction=0)
    torch.testing.assert_close(frontend(long[None], torch.tensor([16000]))[0][0], expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("normalisation", ["utterance", "none"])
def test_silence_and_single_samples_give_finite_features(kind: str, normalisation: str) -> None:
    config = FrontendConfig(kind=kind, normalisation=normalisation)
    for waveform in (torch.zeros(16000), torch.zeros(1), torch.ones(1)):
        assert compute(config, waveform).isfinite().all()


def test_length_mask() -> None:
    assert length_mask(torch.tensor([0, 2]), 2).tolist() == [[False, False], [True, True]]
