"""SpecAugment: masks over time and frequency, on the features of training batches alone.

Park et al., "SpecAugment: A Simple Data Augmentation Method for Automatic Speech Recognition", Interspeech 2019.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from asr.config import AugmentConfig


class SpecAugment(nn.Module):
    """Hide random stretches of time and bands of frequency from the network.

    Each utterance has its own masks, of which the number and the place never depend on the padding. A masked value becomes
    the utterance's mean, which is 0 where features are normalised. In evaluation mode the module returns its input.

    Parameters
    ----------
    config
        How many masks there are and how large they may become.
    hop_s
        Distance between feature frames, in seconds.
    """

    def __init__(self, config: AugmentConfig, hop_s: float) -> None:
        super().__init__()
        self.config = config
        self.max_time_frames = round(config.time_mask_s / hop_s)
        self.strength = 1.0
        """Scales the largest size of every mask; training raises it from 0 to 1 over ``ramp_fraction`` of its steps."""

    def forward(self, features: Tensor, n_frames: Tensor) -> Tensor:
        """Mask a batch of features.

        Parameters
        ----------
        features
            ``(batch, frame, bin)``.
        n_frames
            ``(batch,)``, integer lengths.

        Returns
        -------
        torch.Tensor
            ``(batch, frame, bin)``; frames beyond each utterance's end are as they were. Random numbers come from torch's
            global generator on the CPU, so a seed gives the same masks on every device.
        """
        if not self.training:
            return features
        _, n_longest, n_bins = features.shape
        lengths = n_frames.to("cpu").float()
        longest_mask = (lengths * self.config.time_mask_fraction).clamp(max=self.max_time_frames).mul(self.strength).floor()
        in_time = _masks(self.config.time_masks, longest_mask, lengths, n_longest).to(features.device)
        widest = torch.full_like(lengths, int(self.config.frequency_mask_fraction * n_bins * self.strength))
        in_frequency = _masks(self.config.frequency_masks, widest, torch.full_like(lengths, n_bins), n_bins).to(features.device)
        valid = (torch.arange(n_longest, device=features.device) < n_frames.to(features.device)[:, None])[:, :, None]
        hidden = (in_time[:, :, None] | in_frequency[:, None, :]) & valid
        total = (features * valid).sum(dim=(1, 2), keepdim=True, dtype=torch.float32)
        mean = total / (n_frames.to(features.device).clamp(min=1) * n_bins)[:, None, None]
        return torch.where(hidden, mean.to(features.dtype), features)


def _masks(n_masks: int, largest: Tensor, lengths: Tensor, n_positions: int) -> Tensor:
    """Draw ``n_masks`` stretches inside each length; returns ``(batch, n_positions)``, true where masked.

    ``largest`` and ``lengths`` are ``(batch,)`` floats that hold whole numbers. A stretch has 0 to ``largest`` positions.
    """
    sizes = (torch.rand(len(lengths), n_masks) * (largest[:, None] + 1)).floor()
    starts = (torch.rand(len(lengths), n_masks) * (lengths[:, None] - sizes + 1)).floor()
    positions = torch.arange(n_positions)[None, :, None]
    inside = (positions >= starts[:, None, :]) & (positions < (starts + sizes)[:, None, :])
    return inside.any(dim=2)
