"""Waveforms to features: log-mel, linear spectrogram or MFCC, on the device of the model.

Frame ``t`` is centred on sample ``t * hop``; the waveform is zero before its start and beyond its end, so what an utterance
is padded with in a batch changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
import torchaudio
from torch import nn

from asr.config import FrontendConfig

POWER_FLOOR = 1e-10
"""Mel powers below are raised to it, so that digital silence has a logarithm."""

DB_PER_NEPER = 10 / math.log(10)
"""Decibels of power for each unit of its natural logarithm."""

STANDARD_DEVIATION_FLOOR = 1e-5


def length_mask(lengths: torch.Tensor, size: int) -> torch.Tensor:
    """Return ``(batch, size)`` booleans, true at positions below each length.

    Parameters
    ----------
    lengths
        ``(batch,)`` integers.
    size
        Number of positions.

    Examples
    --------
    >>> length_mask(torch.tensor([1, 3]), 3).tolist()
    [[True, False, False], [True, True, True]]
    """
    return torch.arange(size, device=lengths.device) < lengths[:, None]


class Frontend(nn.Module):
    """Spectral features of a batch of waveforms, normalised.

    - ``log_mel``: natural logarithm of the power in ``n_mels`` Slaney mel bands, its range limited.
    - ``mfcc``: orthonormal DCT-II of the above, the first ``n_mfcc`` coefficients.
    - ``spectrogram``: ``log(1 + magnitude)`` of every frequency (Amodei et al. 2016, Deep Speech 2).

    A Hann window is used throughout. The transform's size is the window's for ``spectrogram`` and the next power of two
    for the others.

    Parameters
    ----------
    config
        See :class:`asr.config.FrontendConfig`.
    """

    mean: torch.Tensor
    std: torch.Tensor
    dct: torch.Tensor

    def __init__(self, config: FrontendConfig) -> None:
        super().__init__()
        self.config = config
        window = round(config.window_s * config.sample_rate)
        self.hop = round(config.hop_s * config.sample_rate)
        if config.kind == "spectrogram":
            self.transform: nn.Module = torchaudio.transforms.Spectrogram(
                n_fft=window, win_length=window, hop_length=self.hop, power=1.0, center=True, pad_mode="constant"
            )
            self.n_features = window // 2 + 1
        else:
            self.transform = torchaudio.transforms.MelSpectrogram(
                sample_rate=config.sample_rate,
                n_fft=1 << (window - 1).bit_length(),
                win_length=window,
                hop_length=self.hop,
                f_min=config.f_min_hz,
                f_max=config.f_max_hz,
                n_mels=config.n_mels,
                power=2.0,
                center=True,
                pad_mode="constant",
                norm="slaney",
                mel_scale="slaney",
            )
            self.n_features = config.n_mels if config.kind == "log_mel" else config.n_mfcc
        if config.kind == "mfcc":
            self.register_buffer(
                "dct", torchaudio.functional.create_dct(config.n_mfcc, config.n_mels, "ortho"), persistent=False
            )
        for name, buffer in list(self.transform.named_buffers()):  # windows and filters follow from the config
            owner, _, own_name = name.rpartition(".")
            self.transform.get_submodule(owner).register_buffer(own_name, buffer, persistent=False)
        if config.normalisation == "corpus":
            self.register_buffer("mean", torch.zeros(self.n_features))
            self.register_buffer("std", torch.ones(self.n_features))

    @property
    def frame_s(self) -> float:
        """Seconds between frames."""
        return self.hop / self.config.sample_rate

    def output_lengths(self, n_samples: torch.Tensor) -> torch.Tensor:
        """Return the number of frames of waveforms of so many samples, exactly."""
        return torch.where(n_samples > 0, n_samples // self.hop + 1, 0)

    def forward(self, waveforms: torch.Tensor, n_samples: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute features.

        Parameters
        ----------
        waveforms
            ``(batch, sample)`` in [-1, 1]; what lies beyond each length is not looked at.
        n_samples
            ``(batch,)`` integers.

        Returns
        -------
        features
            ``(batch, frame, bin)``, zero beyond each length.
        n_frames
            ``(batch,)`` integers.
        """
        with torch.autocast(waveforms.device.type, enabled=False):
            features, n_frames = self.raw(waveforms, n_samples)
            mask = length_mask(n_frames, features.shape[1])[:, :, None]
            if self.config.normalisation == "utterance":
                count = n_frames.clamp(min=1)[:, None, None]
                mean = (features * mask).sum(1, keepdim=True) / count
                centred = (features - mean) * mask
                std = (centred.square().sum(1, keepdim=True) / count).sqrt()
                features = centred / (std + STANDARD_DEVIATION_FLOOR)
            elif self.config.normalisation == "corpus":
                features = (features - self.mean) / self.std
            return features * mask, n_frames

    def raw(self, waveforms: torch.Tensor, n_samples: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute features before normalisation; frames beyond each length are undefined."""
        waveforms = waveforms.float() * length_mask(n_samples, waveforms.shape[1])
        n_frames = self.output_lengths(n_samples)
        spectrum = self.transform(waveforms).transpose(1, 2)
        if self.config.kind == "spectrogram":
            features = spectrum.log1p()
        else:
            features = self.limit_range(spectrum.clamp(min=POWER_FLOOR).log(), n_frames)
            if self.config.kind == "mfcc":
                features = features @ self.dct
        return features, n_frames

    def limit_range(self, features: torch.Tensor, n_frames: torch.Tensor) -> torch.Tensor:
        """Raise logarithms of power that lie too far below the utterance's loudest.

        What lies there is noise of the room and of the recorder, or holes that a lossy codec left: it says nothing of the
        words and differs from one corpus to the next.
        """
        if self.config.dynamic_range_db is None:
            return features
        valid = length_mask(n_frames, features.shape[1])[:, :, None]
        loudest = features.masked_fill(~valid, -torch.inf).amax((1, 2), keepdim=True)
        return torch.maximum(features, loudest - self.config.dynamic_range_db / DB_PER_NEPER)

    @torch.no_grad()
    def fit_statistics(self, batches: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> None:
        """Set the mean and standard deviation of ``normalisation: corpus``.

        Parameters
        ----------
        batches
            Pairs of waveforms and ``n_samples`` as for :meth:`forward`; padding does not count.
        """
        total, squares, count = torch.zeros(3, 1, dtype=torch.float64)
        for waveforms, n_samples in batches:
            features, n_frames = self.raw(waveforms, n_samples)
            frames = features[length_mask(n_frames, features.shape[1])].double()
            total = total + frames.sum(0)
            squares = squares + frames.square().sum(0)
            count = count + len(frames)
        mean = total / count
        std = (squares / count - mean.square()).clamp(min=0).sqrt()
        self.mean.copy_(mean)
        self.std.copy_(std.clamp(min=STANDARD_DEVIATION_FLOOR))
