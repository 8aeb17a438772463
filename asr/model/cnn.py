"""Convolutions over time and frequency."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import cast

import torch
from torch import nn

from asr.config import CnnConfig
from asr.features import length_mask
from asr.model.norm import FrameLayerNorm, MaskedBatchNorm

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "clipped_relu": partial(nn.Hardtanh, 0.0, 20.0),
}


class ConvLayer(nn.Module):
    """One convolution, normalisation, nonlinearity and dropout, blind to padding.

    Frames beyond an utterance's length are set to zero before the convolution, which is what the convolution itself pads
    with; so the end of an utterance looks the same alone and in a batch.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel: tuple[int, int], stride: tuple[int, int], config: CnnConfig
    ) -> None:
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2)
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding, bias=config.norm == "none")
        self.norm: nn.Module | None = None
        if config.norm == "batch":
            self.norm = MaskedBatchNorm(out_channels)
        elif config.norm == "layer":
            self.norm = FrameLayerNorm(out_channels)
        self.activation = ACTIVATIONS[config.activation]()
        self.dropout = nn.Dropout(config.dropout)

    def output_lengths(self, n_frames: torch.Tensor) -> torch.Tensor:
        """Return ``ceil(n_frames / stride)``: odd kernels padded by half their size keep every stride-th frame."""
        stride = self.conv.stride[0]
        return (n_frames + stride - 1) // stride

    def forward(self, x: torch.Tensor, n_frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map ``(batch, channel, frame, bin)`` and ``(batch,)`` lengths to the same of the layer's output."""
        x = x * length_mask(n_frames, x.shape[2])[:, None, :, None]
        x = self.conv(x)
        n_frames = self.output_lengths(n_frames)
        if isinstance(self.norm, MaskedBatchNorm):
            x = self.norm(x, length_mask(n_frames, x.shape[2]))
        elif self.norm is not None:
            x = self.norm(x)
        return self.dropout(self.activation(x)), n_frames


class Cnn(nn.Module):
    """A stack of :class:`ConvLayer`.

    Parameters
    ----------
    config
        See :class:`asr.config.CnnConfig`.
    n_features
        Bins of a frame.
    """

    def __init__(self, config: CnnConfig, n_features: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        channels, bins = 1, n_features
        for out_channels, time_kernel, frequency_kernel, time_stride, frequency_stride in zip(
            config.channels,
            config.time_kernels,
            config.frequency_kernels,
            config.time_strides,
            config.frequency_strides,
            strict=True,
        ):
            kernel, stride = (time_kernel, frequency_kernel), (time_stride, frequency_stride)
            self.layers.append(ConvLayer(channels, out_channels, kernel, stride, config))
            channels, bins = out_channels, -(-bins // frequency_stride)
        self.output_size = channels * bins
        """Values in each output frame."""

    def output_lengths(self, n_frames: torch.Tensor) -> torch.Tensor:
        """Return the exact number of output frames."""
        for layer in self.layers:
            n_frames = cast(ConvLayer, layer).output_lengths(n_frames)
        return n_frames

    def forward(self, features: torch.Tensor, n_frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map ``(batch, frame, bin)`` to ``(batch, output frame, output_size)``, with lengths."""
        x = features[:, None]
        for layer in self.layers:
            x, n_frames = layer(x, n_frames)
        return x.transpose(1, 2).flatten(2), n_frames
