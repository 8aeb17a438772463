"""Normalisation that padding cannot touch, and dropout that holds for a whole utterance."""

from __future__ import annotations

import torch
from torch import nn


class MaskedBatchNorm(nn.Module):
    """Batch normalisation over the valid frames alone (Laurent et al. 2016, sequence-wise).

    In evaluation running statistics are used, so an utterance's result does not depend on the batch it is in.

    Parameters
    ----------
    channels
        Size of the axis that keeps statistics of its own: axis 1 of ``(batch, channel, frame, bin)``, the last axis of
        ``(batch, frame, channel)``.
    momentum
        Weight of the newest batch in the running statistics.
    eps
        Added to the variance; large enough that a channel which training hardly ever excites is not blown up later.
    """

    running_mean: torch.Tensor
    running_var: torch.Tensor

    def __init__(self, channels: int, momentum: float = 0.1, eps: float = 1e-3) -> None:
        super().__init__()
        self.momentum = momentum
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Normalise.

        Parameters
        ----------
        x
            ``(batch, channel, frame, bin)`` or ``(batch, frame, channel)``.
        mask
            ``(batch, frame)`` booleans, true where a frame counts.
        """
        axes, shape = ((0, 2, 3), (1, -1, 1, 1)) if x.ndim == 4 else ((0, 1), (1, 1, -1))
        if self.training:
            valid = torch.where(mask[:, None, :, None] if x.ndim == 4 else mask[:, :, None], x, 0)
            valid = valid.to(torch.promote_types(x.dtype, torch.float32))  # squares overflow float16 from 256 on
            count = mask.sum() * (x.shape[3] if x.ndim == 4 else 1)
            mean = valid.sum(axes) / count
            var = (valid.square().sum(axes) / count - mean.square()).clamp(min=0)
            with torch.no_grad():
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(var, self.momentum)
        else:
            mean, var = self.running_mean, self.running_var
        scale = self.weight * (var + self.eps).rsqrt()
        return torch.addcmul((self.bias - mean * scale).view(shape).to(x.dtype), x, scale.view(shape).to(x.dtype))


class FrameLayerNorm(nn.Module):
    """Layer normalisation of each frame over all its channels and bins, with a gain and bias for each channel.

    Parameters
    ----------
    channels
        Size of axis 1 of ``(batch, channel, frame, bin)``.
    eps
        Added to the variance.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise ``(batch, channel, frame, bin)``."""
        var, mean = torch.var_mean(x, dim=(1, 3), keepdim=True, correction=0)
        x = (x - mean) * (var + self.eps).rsqrt()
        return x * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)


class LockedDropout(nn.Module):
    """Dropout with one mask for all frames of an utterance (Gal and Ghahramani 2016).

    It regularises recurrent layers better than a mask a frame, and drawing so few numbers costs next to nothing.

    Parameters
    ----------
    p
        Share of values set to zero.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.strength = 1.0
        """Scales ``p``; training may raise it from 0 to 1 over its first steps."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Drop values of ``(batch, frame, value)``."""
        p = self.p * self.strength
        if not self.training or p == 0.0:
            return x
        keep = torch.rand(len(x), 1, x.shape[2], device=x.device) >= p
        return x * keep.to(x.dtype).div_(1.0 - p)


class SequenceNorm(nn.Module):
    """Normalisation of ``(batch, frame, value)`` by the kind that the configuration names.

    Parameters
    ----------
    kind
        ``layer`` (each frame by itself), ``batch`` (each value over all valid frames) or ``none``.
    size
        Values in a frame.
    """

    def __init__(self, kind: str, size: int) -> None:
        super().__init__()
        self.batch = MaskedBatchNorm(size) if kind == "batch" else None
        self.layer = nn.LayerNorm(size) if kind == "layer" else None

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Normalise; ``mask`` is ``(batch, frame)``, true where a frame counts."""
        if self.batch is not None:
            return self.batch(x, mask)
        return self.layer(x) if self.layer is not None else x
