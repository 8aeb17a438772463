"""The stack of (bidirectional) recurrent layers, or of a baseline."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import nn

from asr.config import RecurrentConfig
from asr.features import length_mask
from asr.model.cells import build_cell
from asr.model.norm import LockedDropout, SequenceNorm

State: TypeAlias = torch.Tensor | tuple[torch.Tensor, torch.Tensor]
"""What one layer carries from frame to frame: ``(1, batch, hidden_size)``, for an LSTM a pair of them (output, cell)."""


def reverse_index(lengths: torch.Tensor, size: int) -> torch.Tensor:
    """Return ``(batch, size)`` positions that reverse each sequence inside its own length and leave padding in place.

    Examples
    --------
    >>> reverse_index(torch.tensor([2, 3]), 3).tolist()
    [[1, 0, 2], [2, 1, 0]]
    """
    position = torch.arange(size, device=lengths.device)
    return torch.where(position < lengths[:, None], lengths[:, None] - 1 - position, position)


class Layer(nn.Module):
    """What all layers of the stack end with: projection, normalisation, dropout."""

    output_size: int

    def add_finish(self, config: RecurrentConfig, size: int) -> None:
        """Make what comes after the layer's own computation, which gives ``size`` values for each frame."""
        self.output_size = config.projection or size
        self.projection = nn.Linear(size, config.projection) if config.projection else None
        self.norm = SequenceNorm(config.norm, self.output_size)
        self.dropout = LockedDropout(config.dropout)

    def finish(self, y: torch.Tensor, n_frames: torch.Tensor) -> torch.Tensor:
        """Project, normalise and drop values of ``(batch, frame, size)``."""
        y = y if self.projection is None else self.projection(y)
        normalised: torch.Tensor = self.dropout(self.norm(y, length_mask(n_frames, y.shape[1])))
        return normalised


class RecurrentLayer(Layer):
    """A recurrent layer in one or both directions.

    The backward direction reverses each utterance inside its own length, runs a plain layer and reverses back: the numbers
    of a packed sequence, at the speed of the fused kernel.
    """

    def __init__(self, config: RecurrentConfig, input_size: int) -> None:
        super().__init__()
        self.forward_cell = build_cell(config, input_size)
        self.backward_cell = build_cell(config, input_size) if config.bidirectional else None
        self.add_finish(config, config.hidden_size * (2 if config.bidirectional else 1))

    def forward(self, x: torch.Tensor, n_frames: torch.Tensor) -> torch.Tensor:
        """Map ``(batch, frame, input_size)`` to ``(batch, frame, output_size)``; values beyond each length are undefined."""
        if self.backward_cell is None:
            y: torch.Tensor = self.forward_cell(x)[0]
        else:
            y = torch.cat(side_by_side(self.read_forwards, self.read_backwards, x, n_frames), dim=2)
        return self.finish(y, n_frames)

    def read_forwards(self, x: torch.Tensor, n_frames: torch.Tensor) -> torch.Tensor:
        """Map ``(batch, frame, input_size)`` to ``(batch, frame, hidden_size)``, in the direction of time."""
        y: torch.Tensor = self.forward_cell(x)[0]
        return y

    def read_backwards(self, x: torch.Tensor, n_frames: torch.Tensor) -> torch.Tensor:
        """Do the same from each utterance's last frame to its first."""
        assert self.backward_cell is not None
        index = reverse_index(n_frames, x.shape[1])
        return reorder(self.backward_cell(reorder(x, index))[0], index)

    def forward_from(self, x: torch.Tensor, n_frames: torch.Tensor, state: State | None) -> tuple[torch.Tensor, State]:
        """Go on from a state; see :meth:`RecurrentStack.forward_from`."""
        assert self.backward_cell is None, "a layer that reads backwards cannot go on from a state"
        y, state = self.forward_cell(x, state)
        return self.finish(y, n_frames), state


class WindowLayer(Layer):
    """A feed-forward layer over a sliding window of frames: what one should try before a recurrent one.

    Frame t sees frames t - window to t, and to t + window where the stack reads in both directions; before the first and after
    the last frame there are zeros.
    """

    def __init__(self, config: RecurrentConfig, input_size: int) -> None:
        super().__init__()
        self.padding = config.window, config.window if config.bidirectional else 0
        self.window = nn.Conv1d(input_size, config.hidden_size, 1 + sum(self.padding))
        self.activation = nn.ReLU() if config.activation == "relu" else nn.Tanh()
        nn.init.xavier_uniform_(self.window.weight)
        nn.init.zeros_(self.window.bias)  # type: ignore[arg-type]  # it has one
        self.add_finish(config, config.hidden_size)

    def forward(self, x: torch.Tensor, n_frames: torch.Tensor) -> torch.Tensor:
        """Map ``(batch, frame, input_size)`` to ``(batch, frame, output_size)``; values beyond each length are undefined."""
        x = torch.where(length_mask(n_frames, x.shape[1])[:, :, None], x, 0)
        y = self.window(nn.functional.pad(x.transpose(1, 2), self.padding)).transpose(1, 2)
        return self.finish(self.activation(y), n_frames)


def reorder(x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Return ``x[b, index[b, t]]`` for ``x`` of ``(batch, frame, value)`` and ``index`` of ``(batch, frame)``."""
    return x.gather(1, index[:, :, None].expand_as(x))


Reading = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def side_by_side(first: Reading, second: Reading, x: torch.Tensor, n_frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what two functions make of the same tensors; on a GPU they run at the same time, as their gradients do.

    A step of a recurrent layer is a small product that leaves most of a GPU idle, and the steps of one direction have to wait
    for each other.
    """
    if not x.is_cuda:
        return first(x, n_frames), second(x, n_frames)
    main, side = torch.cuda.current_stream(x.device), _side_stream(x.device)
    side.wait_stream(main)
    with torch.cuda.stream(side):
        later = second(x, n_frames)
    result = first(x, n_frames), later
    main.wait_stream(side)
    # The memory of a tensor is given anew when its own stream has done with it: the other one has to be waited for, too.
    x.record_stream(side)
    n_frames.record_stream(side)
    later.record_stream(main)
    return result


@functools.cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    # Gradients are added up on the stream where their weights were first used; that of the other has to wait, as is meant.
    torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch(False)
    return torch.cuda.Stream(device)


class RecurrentStack(nn.Module):
    """Normalisation of the input, then stacked :class:`RecurrentLayer`, :class:`WindowLayer` or nothing.

    Parameters
    ----------
    config
        See :class:`asr.config.RecurrentConfig`.
    input_size
        Values in each input frame.
    """

    def __init__(self, config: RecurrentConfig, input_size: int) -> None:
        super().__init__()
        self.norm = SequenceNorm(config.norm, input_size)
        self.layers = nn.ModuleList()
        for _ in range(0 if config.cell == "none" else config.layers):
            layer = (WindowLayer if config.cell == "window_mlp" else RecurrentLayer)(config, input_size)
            self.layers.append(layer)
            input_size = layer.output_size
        self.output_size = input_size

    def forward(self, x: torch.Tensor, n_frames: torch.Tensor) -> list[torch.Tensor]:
        """Map ``(batch, frame, input_size)`` to each layer's ``(batch, frame, output_size)``; without layers, to the input.

        Values beyond each length are undefined.
        """
        x = self.norm(x, length_mask(n_frames, x.shape[1]))
        outputs = []
        for layer in self.layers:
            x = layer(x, n_frames)
            outputs.append(x)
        return outputs or [x]

    def forward_from(
        self, x: torch.Tensor, n_frames: torch.Tensor, states: Sequence[State] | None
    ) -> tuple[torch.Tensor, list[State]]:
        """Go on where an earlier call ended: a sequence in pieces gives what it gives in one.

        Parameters
        ----------
        x
            ``(batch, frame, input_size)``. All layers read forwards only.
        n_frames
            ``(batch,)`` integers.
        states
            Of each layer, from the call before; None is the beginning, zeros.

        Returns
        -------
        y
            ``(batch, frame, output_size)`` of the last layer; undefined beyond each length.
        states
            After the last frame, padding included: those of a row without padding can be gone on from.
        """
        x = self.norm(x, length_mask(n_frames, x.shape[1]))
        after: list[State] = []
        for index, layer in enumerate(self.layers):
            assert isinstance(layer, RecurrentLayer)
            x, state = layer.forward_from(x, n_frames, None if states is None else states[index])
            after.append(state)
        return x, after
