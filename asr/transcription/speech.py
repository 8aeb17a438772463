"""Where somebody speaks: Silero's voice activity detector, run over whole blocks of audio at once.

The network is the one that the ``silero-vad`` wheel holds. Its own program takes 32 ms at a time; here the layers that look at
one frame alone take all frames of a block together, and only the LSTM goes from frame to frame. The numbers are the same,
twenty times faster.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from asr.errors import Failure

SAMPLE_RATE = 16000
FRAME = 512
"""Samples in a frame, which gets one probability."""
_CONTEXT = 64
_FOURIER, _HOP = 256, 128
_FRAMES_AT_ONCE = 1024

# The detector does not know quiet voices. The level that counts is the loudest of the last seconds: it sinks slowly, so that
# the noise in a pause is not taken for a quiet voice. Loud audio stays as it is.
_LEVEL_DB = -20.0
_FALL_DB_PER_S = 2.0
_HIGHEST_GAIN_DB = 40.0

_State = tuple[torch.Tensor, torch.Tensor]


class SpeechDetector:
    """Gives each 32 ms the probability that there is speech. Several threads may use one.

    Raises
    ------
    Failure
        The network's file is not where the wheel puts it.
    """

    def __init__(self) -> None:
        weights = _read_weights()
        first, second, third, fourth = (weights[f"encoder.{layer}.reparam_conv.weight"] for layer in range(4))
        self._biases = [weights[f"encoder.{layer}.reparam_conv.bias"] for layer in range(4)]
        self._window = torch.hann_window(_FOURIER)
        # Convolutions with a width of 3 as matrices, in which the taps that fall on padding alone are left out.
        self._matrices = [_matrix(first), _matrix(second), _matrix(third[:, :, 1:]), _matrix(fourth[:, :, 1:2])]
        self._lstm = torch.nn.LSTM(len(fourth), weights["decoder.rnn.weight_hh"].shape[1])
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        self._lstm.load_state_dict({f"{name}_l0": weights[f"decoder.rnn.{name}"] for name in names})
        self._head = weights["decoder.decoder.2.weight"].flatten()
        self._bias = weights["decoder.decoder.2.bias"]

    def probabilities(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Find speech in a recording.

        Parameters
        ----------
        blocks
            Consecutive ``(sample,)`` float32 arrays at 16 kHz; how they are divided changes nothing.

        Yields
        ------
        numpy.ndarray
            ``(frame,)`` probabilities of speech, as soon as a block allows; a last frame that is not whole counts as one.
        """
        pending, level = np.zeros(_CONTEXT, np.float32), -np.inf
        state: _State | None = None
        for block in blocks:
            pending = np.concatenate([pending, block])
            while n_frames := min((len(pending) - _CONTEXT) // FRAME, _FRAMES_AT_ONCE):
                found, state, level = self._run(pending[: _CONTEXT + n_frames * FRAME], state, level)
                yield found
                pending = pending[n_frames * FRAME :]
        if len(pending) > _CONTEXT:
            found, _, _ = self._run(np.pad(pending, (0, _CONTEXT + FRAME - len(pending))), state, level)
            yield found

    @torch.inference_mode()
    def _run(self, samples: np.ndarray, state: _State | None, level: float) -> tuple[np.ndarray, _State, float]:
        """Return the probabilities of the frames behind the context, and what the next ones depend on."""
        frames = np.lib.stride_tricks.sliding_window_view(samples, _CONTEXT + FRAME)[::FRAME]
        gains, level = _gains(frames, level)
        hidden, state = self._lstm(self._encode(torch.from_numpy(frames * gains[:, None]))[:, None], state)
        return torch.sigmoid(hidden[:, 0].relu() @ self._head + self._bias).numpy(), state, level

    def _encode(self, frames: torch.Tensor) -> torch.Tensor:
        """``(frame, sample)`` to ``(frame, feature)``, each frame by itself."""
        pieces = F.pad(frames, (0, _CONTEXT), "reflect").unfold(1, _FOURIER, _HOP)
        hidden = torch.fft.rfft(pieces * self._window).abs()
        # Four spectra a frame; strides 1, 2, 2 and 1 leave 4, 2, 1 and 1 of them.
        hidden = self._layer(0, F.pad(hidden, (0, 0, 1, 1)).unfold(1, 3, 1))
        hidden = self._layer(1, F.pad(hidden, (0, 0, 1, 0)).unfold(1, 3, 2))
        hidden = self._layer(2, hidden.unfold(1, 2, 2))
        return self._layer(3, hidden.unfold(1, 1, 1)).squeeze(1)

    def _layer(self, layer: int, taps: torch.Tensor) -> torch.Tensor:
        """``(frame, time, feature, tap)`` to ``(frame, time, feature)``."""
        n_frames, n_times, _, _ = taps.shape
        rows = taps.transpose(2, 3).reshape(n_frames * n_times, -1)
        return torch.addmm(self._biases[layer], rows, self._matrices[layer]).relu_().view(n_frames, n_times, -1)


def _read_weights() -> dict[str, torch.Tensor]:
    # Found, not imported: the wheel's own package would set the number of torch's threads.
    spec = importlib.util.find_spec("silero_vad")
    path = Path(spec.origin).parent / "data" / "silero_vad.jit" if spec and spec.origin else None
    if path is None or not path.is_file():
        raise Failure(f"{path or 'silero_vad'}: the voice activity detector is not there; install silero-vad again")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        model = torch.jit.load(path, map_location="cpu")
    part = "_model."  # the network for 16 kHz
    return {name.removeprefix(part): tensor for name, tensor in model.state_dict().items() if name.startswith(part)}


def _matrix(kernel: torch.Tensor) -> torch.Tensor:
    """``(output, input, tap)`` to ``(tap * input, output)``."""
    return kernel.permute(2, 1, 0).reshape(-1, kernel.shape[0]).contiguous()


def _gains(frames: np.ndarray, level: float) -> tuple[np.ndarray, float]:
    """Return ``(frame,)`` factors that make quiet audio as loud as the detector expects, and the last frame's level (dB)."""
    power = np.square(frames[:, _CONTEXT:], dtype=np.float64).mean(axis=1)
    fall = _FALL_DB_PER_S * FRAME / SAMPLE_RATE * np.arange(len(frames) + 1)
    loudness = np.concatenate([[level], 10 * np.log10(power + 1e-12)])
    levels = (np.maximum.accumulate(loudness + fall) - fall)[1:]
    gains_db = np.clip(_LEVEL_DB - levels, 0.0, _HIGHEST_GAIN_DB)
    return (10 ** (gains_db / 20)).astype(np.float32), float(levels[-1])
