"""How gradients fare on their way back: through the layers, and through time inside each recurrent layer.

A plain recurrent network multiplies the gradient by the same matrix at every step back, so that it dies out or explodes with
the distance (Bengio, Simard and Frasconi, "Learning long-term dependencies with gradient descent is difficult", 1994); gates
let it pass (Hochreiter and Schmidhuber 1997).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, Trainer
from torch import nn

from asr.files import replacing
from asr.model.acoustic import AcousticModel
from asr.model.recurrent import RecurrentLayer

LINES, PICTURE = "gradient-flow.jsonl", "gradient-flow.svg"
# Frames back at most, and utterances, of which the distances are measured.
_FURTHEST, _UTTERANCES = 200, 8


class GradientFlow(Callback):
    """Measures the gradients of each epoch, logs them and draws them.

    Parameters
    ----------
    folder
        Where ``gradient-flow.jsonl`` (a line an epoch) and ``gradient-flow.svg`` go.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._sums: dict[str, float] = {}
        self._n_steps = 0
        self._batch: Any = None

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Keep the first batch of the epoch."""
        if batch_idx == 0:
            self._batch = batch

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: Any, optimizer: Any) -> None:
        """Add up each layer's gradient norm, before it is clipped."""
        for name, layer in layers_of(pl_module.model.acoustic).items():
            gradients = [parameter.grad for parameter in layer.parameters() if parameter.grad is not None]
            self._sums[name] = self._sums.get(name, 0.0) + float(torch.nn.utils.get_total_norm(gradients))
        self._n_steps += 1

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Measure, and write the line and the picture."""
        norms = {name: total / self._n_steps for name, total in self._sums.items()}
        self._sums, self._n_steps = {}, 0
        if not trainer.is_global_zero or self._batch is None:
            return
        row = {"epoch": trainer.current_epoch + 1, "layers": norms, "distances": distances(pl_module.model, self._batch)}
        for logger in trainer.loggers:
            logger.log_metrics({f"gradient_norm/{name}": norm for name, norm in norms.items()}, trainer.global_step - 1)
        path = self.folder / LINES
        earlier = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        rows = [found for found in map(json.loads, earlier) if found["epoch"] < row["epoch"]] + [row]
        with replacing(path) as stream:
            stream.write("".join(json.dumps(found) + "\n" for found in rows).encode())
        write_picture(rows, self.folder / PICTURE)


def layers_of(acoustic: AcousticModel) -> dict[str, nn.Module]:
    """Return the layers by name, from the input to the output."""
    layers = {f"convolution {number}": layer for number, layer in enumerate(acoustic.cnn.layers, start=1)}
    layers |= {f"recurrent {number}": layer for number, layer in enumerate(acoustic.recurrent.layers, start=1)}
    return {**layers, "head": acoustic.head}


def distances(model: Any, batch: Any) -> dict[str, list[float]]:
    """Measure how much of the gradient of a recurrent layer's last output reaches its inputs before.

    Parameters
    ----------
    model
        See :class:`asr.model.acoustic.SpeechModel`; its mode is left as it was.
    batch
        Utterances, of which some are used.

    Returns
    -------
    dict of str to list of float
        For each recurrent layer, read forwards, the norm of the gradient with respect to the input so many frames back, as a
        multiple of that at the last frame; the mean over utterances.
    """
    training = model.training
    inputs: dict[str, torch.Tensor] = {}
    recurrent = {name: layer for name, layer in layers_of(model.acoustic).items() if isinstance(layer, RecurrentLayer)}
    handles = [
        layer.register_forward_pre_hook(lambda module, args, name=name: inputs.update({name: args[0]}))
        for name, layer in recurrent.items()
    ]
    try:
        with torch.no_grad():
            _, n_frames = model.eval()(batch.waveforms[:_UTTERANCES], batch.n_samples[:_UTTERANCES])
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
    return {name: _distances(layer.forward_cell, inputs[name].float(), n_frames) for name, layer in recurrent.items()}


def _distances(cell: nn.Module, x: torch.Tensor, n_frames: torch.Tensor) -> list[float]:
    chosen = n_frames > 1
    if not bool(chosen.any()):
        return []
    x, n_frames = x[chosen].detach().requires_grad_(), n_frames[chosen]
    with torch.enable_grad():
        last = cell(x)[0][torch.arange(len(x)), n_frames - 1]
        direction = torch.randn(last.shape, generator=torch.Generator().manual_seed(1)).to(last)
        (gradient,) = torch.autograd.grad((last * direction).sum(), x)
    norms = gradient.norm(dim=2)
    n_back = min(_FURTHEST, int(n_frames.min()))
    back = n_frames[:, None] - 1 - torch.arange(n_back, device=x.device)
    shares = norms.gather(1, back)
    shares = shares / shares[:, :1].clamp(min=torch.finfo(shares.dtype).tiny)
    result: list[float] = shares.mean(dim=0).tolist()
    return result


def write_picture(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Write the picture: the distances of the last epoch and of the first, and the norms by epoch.

    Parameters
    ----------
    rows
        Lines of ``gradient-flow.jsonl``, an epoch each.
    path
        Of the picture.
    """
    from asr.pictures.figure import save
    from asr.pictures.gradients import draw_gradients

    norms = {name: np.array([row["layers"].get(name, np.nan) for row in rows], dtype=np.float64) for name in rows[-1]["layers"]}
    first, last = ({name: np.array(shares) for name, shares in row["distances"].items()} for row in (rows[0], rows[-1]))
    save(draw_gradients([row["epoch"] for row in rows], norms, first, last), path)
