"""Waveforms to hypotheses: the one path that evaluation and transcription share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from asr.decoding.decoder import Decoder
from asr.decoding.hypothesis import Hypothesis
from asr.model.acoustic import SpeechModel


def decode_waveforms(model: SpeechModel, decoder: Decoder, waveforms: Sequence[np.ndarray]) -> list[Hypothesis]:
    """Run the network and the decoder over a batch of waveforms.

    Parameters
    ----------
    model
        In evaluation mode; the batch goes to the device that its parameters are on.
    decoder
        The decoder.
    waveforms
        Each ``(sample,)`` float32 at the model's sample rate, of any length; together they are padded to the longest.

    Returns
    -------
    list of Hypothesis
        One for each waveform, in order, whatever else is in the batch.
    """
    if not waveforms:
        return []
    n_samples = torch.tensor([len(waveform) for waveform in waveforms])
    padded = np.zeros((len(waveforms), max(1, int(n_samples.max()))), dtype=np.float32)
    for row, waveform in zip(padded, waveforms, strict=True):
        row[: len(waveform)] = waveform
    device = next(model.parameters()).device
    with torch.inference_mode():
        log_probs, n_frames = model(torch.from_numpy(padded).to(device), n_samples.to(device))
        return decoder.decode(log_probs, n_frames)
