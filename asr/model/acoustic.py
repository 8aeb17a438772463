"""The acoustic model: CNN, recurrent stack, fully connected head; and the whole network from waveform to log-probabilities."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import nn

from asr.config import FrontendConfig, HeadConfig, ModelConfig
from asr.features import Frontend
from asr.model.cnn import Cnn
from asr.model.norm import LockedDropout
from asr.model.recurrent import RecurrentStack


def build_head(config: HeadConfig, input_size: int, n_tokens: int) -> nn.Sequential:
    """Return the hidden layers and the projection to tokens."""
    layers: list[nn.Module] = []
    for size in config.hidden_sizes:
        layers += [nn.Linear(input_size, size), nn.ReLU(), LockedDropout(config.dropout)]
        input_size = size
    return nn.Sequential(*layers, nn.Linear(input_size, n_tokens))


class AcousticModel(nn.Module):
    """Features to log-probabilities of tokens.

    Parameters
    ----------
    config
        See :class:`asr.config.ModelConfig`.
    n_features
        Bins of a feature frame.
    n_tokens
        Tokens, blank included.
    """

    def __init__(self, config: ModelConfig, n_features: int, n_tokens: int) -> None:
        super().__init__()
        self.cnn = Cnn(config.cnn, n_features)
        self.recurrent = RecurrentStack(config.recurrent, self.cnn.output_size)
        self.head = build_head(config.head, self.recurrent.output_size, n_tokens)

    def output_lengths(self, n_frames: torch.Tensor) -> torch.Tensor:
        """Return the exact number of output frames for so many feature frames."""
        return self.cnn.output_lengths(n_frames)

    def forward(self, features: torch.Tensor, n_frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute log-probabilities.

        Parameters
        ----------
        features
            ``(batch, frame, bin)``.
        n_frames
            ``(batch,)`` integers.

        Returns
        -------
        log_probs
            ``(batch, output frame, token)``, natural logarithms, float32; undefined beyond each length.
        n_out
            ``(batch,)`` integers.
        """
        hidden, n_out = self.hidden(features, n_frames)
        return self.head(hidden[-1]).float().log_softmax(2), n_out

    def hidden(self, features: torch.Tensor, n_frames: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Map ``(batch, frame, bin)`` to every recurrent layer's ``(batch, output frame, value)``, with lengths."""
        x, n_out = self.cnn(features, n_frames)
        return self.recurrent(x, n_out), n_out


class SpeechModel(nn.Module):
    """Waveforms to log-probabilities of tokens: frontend and acoustic model together.

    Parameters
    ----------
    frontend
        See :class:`asr.config.FrontendConfig`.
    model
        See :class:`asr.config.ModelConfig`.
    n_tokens
        Tokens, blank included.
    empty
        Draw no weights and take no memory for them: others will be assigned.
    """

    def __init__(self, frontend: FrontendConfig, model: ModelConfig, n_tokens: int, *, empty: bool = False) -> None:
        super().__init__()
        self.frontend = Frontend(frontend)
        with torch.device("meta") if empty else nullcontext():
            self.acoustic = AcousticModel(model, self.frontend.n_features, n_tokens)
        self.n_tokens = n_tokens
        stride = 1
        for time_stride in model.cnn.time_strides:
            stride *= time_stride
        self.frame_s = self.frontend.frame_s * stride
        """Seconds between output frames."""

    def output_lengths(self, n_samples: torch.Tensor) -> torch.Tensor:
        """Return the exact number of output frames for waveforms of so many samples."""
        return self.acoustic.output_lengths(self.frontend.output_lengths(n_samples))

    def features(self, waveforms: torch.Tensor, n_samples: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map ``(batch, sample)`` to ``(batch, frame, bin)``, with lengths."""
        features: tuple[torch.Tensor, torch.Tensor] = self.frontend(waveforms, n_samples)
        return features

    def log_probs(self, features: torch.Tensor, n_frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map ``(batch, frame, bin)`` to ``(batch, output frame, token)`` natural logarithms, with lengths."""
        result: tuple[torch.Tensor, torch.Tensor] = self.acoustic(features, n_frames)
        return result

    def forward(self, waveforms: torch.Tensor, n_samples: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map ``(batch, sample)`` to ``(batch, output frame, token)`` natural logarithms, with lengths.

        Examples
        --------
        >>> from asr.config import FrontendConfig, ModelConfig
        >>> model = SpeechModel(FrontendConfig(), ModelConfig(), n_tokens=29)
        >>> log_probs, n_out = model(torch.randn(2, 16000), torch.tensor([16000, 8000]))
        >>> log_probs.shape, n_out.tolist()
        (torch.Size([2, 26, 29]), [26, 13])
        """
        return self.log_probs(*self.features(waveforms, n_samples))
