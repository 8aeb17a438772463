"""Everything that a model computes on its way through one utterance."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from asr.config import FrontendConfig
from asr.decoding.decoders.decoder import Decoder
from asr.decoding.hypothesis import Hypothesis
from asr.decoding.waveforms import decode_waveforms
from asr.decoding.words.alignment import FrameSpan, align
from asr.decoding.words.confidence import Calibration
from asr.model.acoustic import SpeechModel
from asr.model.gates import gate_values
from asr.model.recurrent import RecurrentLayer


@dataclass(frozen=True)
class CellTrace:
    """One recurrent layer in one direction.

    Attributes
    ----------
    layer
        Counted from 1.
    direction
        ``forward`` or ``backward``.
    values
        ``(frame, unit)`` by letter of the cell's equations, in the order of time whatever the direction; see
        :data:`asr.model.gates.NAMES`.
    """

    layer: int
    direction: str
    values: dict[str, np.ndarray]


@dataclass(frozen=True)
class Trace:
    """A model and one utterance.

    Attributes
    ----------
    waveform
        ``(sample,)`` at the frontend's rate.
    frontend
        What the features are.
    features
        ``(frame, bin)`` as the network sees them, ``feature_s`` seconds apart.
    maps
        ``(channel, frame, bin)`` after each convolution.
    cells
        Recurrent layers; empty for a model without.
    log_probs
        ``(output frame, token)`` natural logarithms, ``frame_s`` seconds apart. Frame k stands for the time ``k * frame_s``.
    hypothesis
        What the decoder made of them, with words.
    spans
        The output frames of each of its tokens.
    token_names
        Names of the tokens, the blank first.
    """

    waveform: np.ndarray
    frontend: FrontendConfig
    features: np.ndarray
    feature_s: float
    maps: tuple[np.ndarray, ...]
    cells: tuple[CellTrace, ...]
    log_probs: np.ndarray
    frame_s: float
    hypothesis: Hypothesis
    spans: tuple[FrameSpan, ...]
    token_names: tuple[str, ...]


def trace(model: SpeechModel, decoder: Decoder, waveform: np.ndarray, calibration: Calibration) -> Trace:
    """Recognise an utterance and keep what the network computes.

    Nothing is added to the network: its layers are watched from outside for this one call.

    Parameters
    ----------
    model
        In evaluation mode.
    decoder
        The decoder.
    waveform
        ``(sample,)`` float32 at the model's sample rate.
    calibration
        Of the words' confidences.
    """
    n_samples = torch.tensor([len(waveform)])
    device = next(model.parameters()).device
    with torch.inference_mode(), _watching(model) as seen:
        features, n_frames = model.features(torch.from_numpy(waveform)[None].to(device), n_samples.to(device))
        log_probs, n_out = model.log_probs(features, n_frames)
    (hypothesis,) = decode_waveforms(model, decoder, [waveform], words=calibration)
    row = log_probs[0, : int(n_out[0])].cpu()
    return Trace(
        waveform=waveform,
        frontend=model.frontend.config,
        features=features[0, : int(n_frames[0])].float().cpu().numpy(),
        feature_s=model.frontend.frame_s,
        maps=tuple(output[0, :, : int(lengths[0])].cpu().numpy() for output, lengths in seen.maps),
        cells=tuple(_cell_traces(model, seen.inputs, int(n_out[0]))),
        log_probs=row.numpy(),
        frame_s=model.frame_s,
        hypothesis=hypothesis,
        spans=tuple(align(row, hypothesis.tokens)),
        token_names=decoder.tokenizer.token_names,
    )


class _Seen:
    """What the layers were given and returned."""

    def __init__(self) -> None:
        self.maps: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.inputs: list[torch.Tensor] = []

    def convolution(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self.maps.append(output)

    def layer(self, module: nn.Module, inputs: Any) -> None:
        self.inputs.append(inputs[0])


@contextmanager
def _watching(model: SpeechModel) -> Iterator[_Seen]:
    seen = _Seen()
    handles = [layer.register_forward_hook(seen.convolution) for layer in model.acoustic.cnn.layers]
    handles += [layer.register_forward_pre_hook(seen.layer) for layer in model.acoustic.recurrent.layers]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _cell_traces(model: SpeechModel, inputs: list[torch.Tensor], n_frames: int) -> Iterator[CellTrace]:
    for number, (layer, given) in enumerate(zip(model.acoustic.recurrent.layers, inputs, strict=True), start=1):
        if not isinstance(layer, RecurrentLayer):
            continue
        x = given[0, :n_frames]
        found = {"forward": gate_values(layer.forward_cell, x)}
        if layer.backward_cell is not None:
            backward = gate_values(layer.backward_cell, x.flip(0))
            found["backward"] = {name: value.flip(0) for name, value in backward.items()}
        for direction, values in found.items():
            yield CellTrace(number, direction, {name: value.float().cpu().numpy() for name, value in values.items()})
