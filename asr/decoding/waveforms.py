"""Waveforms to hypotheses: the one path that evaluation and transcription share."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import torch

from asr.decoding.decoders.decoder import Decoder
from asr.decoding.hypothesis import Hypothesis, Word
from asr.decoding.words.confidence import Calibration
from asr.decoding.words.timed_words import align_text, words_of
from asr.errors import DataError, TextError
from asr.model.acoustic import SpeechModel
from asr.text import Tokenizer


def decode_waveforms(
    model: SpeechModel, decoder: Decoder, waveforms: Sequence[np.ndarray], *, words: Calibration | None = None
) -> list[Hypothesis]:
    """Run the network and the decoder over a batch of waveforms.

    Parameters
    ----------
    model
        In evaluation mode; the batch goes to the device that its parameters are on.
    decoder
        The decoder.
    waveforms
        Each ``(sample,)`` float32 at the model's sample rate, of any length; together they are padded to the longest.
    words
        Find the words' times and confidences as well, these calibrated so; by default the hypotheses have none.

    Returns
    -------
    list of Hypothesis
        One for each waveform, in order, whatever else is in the batch.
    """
    if not waveforms:
        return []
    with torch.inference_mode():
        log_probs, n_frames = log_probabilities(model, waveforms)
        hypotheses = decoder.decode(log_probs, n_frames)
    if words is None:
        return hypotheses
    return [
        dataclasses.replace(
            hypothesis,
            words=words_of(
                hypothesis,
                row[:length],
                decoder.tokenizer,
                waveform,
                sample_rate=model.frontend.config.sample_rate,
                frame_s=model.frame_s,
                calibration=words,
            ),
        )
        for hypothesis, row, length, waveform in zip(hypotheses, log_probs.cpu(), n_frames.tolist(), waveforms, strict=True)
    ]


def align_waveforms(
    model: SpeechModel, tokenizer: Tokenizer, waveforms: Sequence[np.ndarray], texts: Sequence[str]
) -> list[tuple[Word, ...] | None]:
    """Find the times of the words of known transcripts, and how likely the network holds each of them.

    Parameters
    ----------
    model, waveforms
        As for :func:`decode_waveforms`.
    tokenizer
        The model's.
    texts
        The transcript of each waveform.

    Returns
    -------
    list of tuple of Word
        For each waveform the words of the normalised transcript; None where it cannot be aligned, because it holds what the
        tokenizer does not know or more than the audio has room for.
    """
    if not waveforms:
        return []
    with torch.inference_mode():
        log_probs, n_frames = log_probabilities(model, waveforms)
    result: list[tuple[Word, ...] | None] = []
    for row, length, waveform, text in zip(log_probs.cpu(), n_frames.tolist(), waveforms, texts, strict=True):
        try:
            found = align_text(
                text,
                row[:length],
                tokenizer,
                waveform,
                sample_rate=model.frontend.config.sample_rate,
                frame_s=model.frame_s,
            )
        except (DataError, TextError):
            found = None
        result.append(found)
    return result


def log_probabilities(model: SpeechModel, waveforms: Sequence[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ``(batch, frame, token)`` log-probabilities, on the model's device, and ``(batch,)`` frames."""
    n_samples = torch.tensor([len(waveform) for waveform in waveforms])
    # oneDNN keeps a kernel for each length that it meets; whole seconds are few.
    second = model.frontend.config.sample_rate
    padded = np.zeros((len(waveforms), second * math.ceil(max(1, int(n_samples.max())) / second)), dtype=np.float32)
    for row, waveform in zip(padded, waveforms, strict=True):
        row[: len(waveform)] = waveform
    device = next(model.parameters()).device
    log_probs, n_frames = model(torch.from_numpy(padded).to(device), n_samples.to(device))
    return log_probs, n_frames
