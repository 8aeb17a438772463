"""LSTM language models: the network, and what it offers as a language model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from asr.config import RecurrentConfig
from asr.language.config import LstmConfig
from asr.language.model import LanguageModel, SentenceScore
from asr.language.units import Units
from asr.model.norm import LockedDropout
from asr.model.recurrent import RecurrentStack
from asr.text import Normaliser

# Elements of one block of logits when all units are scored: bounds memory at some 128 MiB.
_BLOCK = 1 << 25
# Positions, padding included, of one batch of sentences.
_BATCH_POSITIONS = 1 << 14


class LstmNetwork(nn.Module):
    """Embedding, LSTM layers, projection; the output weights are the embedding itself (Press and Wolf 2017).

    Parameters
    ----------
    config
        See :class:`asr.language.config.LstmConfig`.
    n_units
        Units, the sentence's end and the unknown one included.
    """

    def __init__(self, config: LstmConfig, n_units: int) -> None:
        super().__init__()
        weight = torch.empty(n_units, config.embedding_size)
        if not weight.is_meta:  # where it is to be read from a file; torch imports half of itself to draw nothing
            nn.init.normal_(weight, std=config.embedding_size**-0.5)
        self.embedding = nn.Embedding.from_pretrained(weight, freeze=False)
        self.dropout = LockedDropout(config.dropout)
        recurrent = RecurrentConfig(
            cell="lstm",
            layers=config.layers,
            hidden_size=config.hidden_size,
            bidirectional=False,
            norm="none",
            dropout=config.dropout,
        )
        self.recurrent = RecurrentStack(recurrent, config.embedding_size)
        self.projection = nn.Linear(config.hidden_size, config.embedding_size)
        self.bias = nn.Parameter(torch.full((n_units,), -math.log(n_units) if config.self_normalisation else 0.0))

    def forward(
        self, units: torch.Tensor, state: State | None, weight: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, State]:
        """Read units.

        Parameters
        ----------
        units
            ``(row, step)`` indices of rows of ``weight``.
        state
            What an earlier call returned; None is the beginning.
        weight
            ``(unit, embedding value)``, rows of the embedding; None is all of it.

        Returns
        -------
        hidden
            ``(row, step, embedding value)``, to be compared with the embedding of every unit.
        state
            After the last unit.
        """
        x = self.dropout(functional.embedding(units, self.embedding.weight if weight is None else weight))
        n_steps = torch.full((len(units),), units.shape[1], device=units.device)
        y, layers = self.recurrent.forward_from(x, n_steps, None if state is None else state.layers)
        return self.projection(y), State(tuple(layers))  # type: ignore[arg-type]  # pairs: its cells are LSTMs

    def log_probs(self, hidden: torch.Tensor) -> torch.Tensor:
        """Map ``(..., embedding value)`` to ``(..., unit)`` natural logarithms, float32."""
        return functional.linear(hidden, self.embedding.weight, self.bias).float().log_softmax(-1)


@dataclass(frozen=True)
class State:
    """What an LSTM remembers of the units that it has read.

    Attributes
    ----------
    layers
        Of each layer the output and the cell, ``(1, row, unit of the layer)``.
    """

    layers: tuple[tuple[torch.Tensor, torch.Tensor], ...]

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.layers[0][0].shape[1]

    def select(self, rows: torch.Tensor | Sequence[int]) -> State:
        """Return the state of some rows, in the order given; a row may be taken more than once."""
        index = torch.as_tensor(rows, device=self.layers[0][0].device)
        return State(tuple((h.index_select(1, index), c.index_select(1, index)) for h, c in self.layers))

    def detach(self) -> State:
        """Return the state without what it was computed from: gradients end here."""
        return State(tuple((h.detach(), c.detach()) for h, c in self.layers))


class LstmModel(LanguageModel):
    """An LSTM language model.

    A decoder steps through many hypotheses at once: ``state = model.start(n)``, then
    ``log_probs, state = model.step(indices, state)`` with :attr:`begin` as every row's first index, and ``state.select(rows)``
    where hypotheses are dropped or branch.

    Parameters
    ----------
    network
        The network, with a unit more than ``words`` for the sentence's end and one for unknown units, in this order.
    units, words, form
        As for :class:`asr.language.model.LanguageModel`.
    hash
        First 12 hexadecimal digits of the SHA-256 of the file of its weights.
    self_normalised
        Whether training kept the sums over all units near 1, so that searches need not compute them.
    """

    def __init__(
        self,
        network: LstmNetwork,
        units: Units,
        words: Sequence[str],
        form: Normaliser | None,
        hash: str,
        *,
        self_normalised: bool = False,
    ) -> None:
        super().__init__(units, words, form)
        self.network = network.eval()
        self.self_normalised = self_normalised
        self.begin = self.end
        """Index that stands before a sentence's first unit: the end of the one before."""
        self.hash = hash

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.network.bias.device

    @property
    def signature(self) -> str:
        size = f"{len(self.network.recurrent.layers)}x{self.network.recurrent.output_size}"
        return f"lstm{size}-{self.unit}-{len(self.words)}-{self.hash}"

    @property
    def description(self) -> str:
        n_parameters = sum(parameter.numel() for parameter in self.network.parameters())
        recurrent = self.network.recurrent
        return (
            f"LSTM ({len(recurrent.layers)} x {recurrent.output_size}, {n_parameters:,} parameters) over "
            f"{len(self.words):,} {self.unit}s"
        )

    def start(self, n: int) -> State:
        """Return the state of ``n`` rows that have read nothing."""
        recurrent = self.network.recurrent
        zero = torch.zeros(1, n, recurrent.output_size, device=self.device)
        return State(tuple((zero, zero) for _ in recurrent.layers))

    @torch.inference_mode()
    def step(self, indices: torch.Tensor | Sequence[int], state: State) -> tuple[torch.Tensor, State]:
        """Read one unit in each row.

        Parameters
        ----------
        indices
            ``(row,)`` indices of units, as :meth:`index` gives them.
        state
            Of the same rows.

        Returns
        -------
        log_probs
            ``(row, unit)`` natural logarithms of the probabilities of what follows, float32.
        state
            After these units.
        """
        units = torch.as_tensor(indices, device=self.device).long()
        hidden, state = self.network(units[:, None], state)
        return self.network.log_probs(hidden[:, 0]), state

    def score(self, sentences: Sequence[Sequence[str]]) -> list[SentenceScore]:
        split = [[self.index(unit) for unit in self.units.split(sentence)] for sentence in sentences]
        scores: list[SentenceScore | None] = [None] * len(split)
        for rows in _batches([len(units) + 1 for units in split]):
            for row, log_probs in zip(rows, self._score_batch([split[row] for row in rows]), strict=True):
                unknown = np.array([*split[row], self.end]) == self.unknown
                unknown_log_prob = math.fsum(log_probs[unknown])
                n_tokens, n_unknown = len(log_probs), int(unknown.sum())
                scores[row] = SentenceScore(math.fsum(log_probs), len(sentences[row]), n_tokens, n_unknown, unknown_log_prob)
        return [score for score in scores if score is not None]

    @torch.inference_mode()
    def _score_batch(self, split: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """Return the log-probability of each unit of each sentence, and of its end."""
        lengths = [len(units) + 1 for units in split]
        inputs = torch.full((len(split), max(lengths)), self.begin)
        targets = torch.full_like(inputs, -1)
        for row, units in enumerate(split):
            inputs[row, 1 : len(units) + 1] = torch.tensor(units)
            targets[row, : len(units) + 1] = torch.tensor([*units, self.end])
        hidden, _ = self.network(inputs.to(self.device), None)
        valid = (targets >= 0).to(self.device)
        found = self.target_log_probs(hidden[valid], targets.to(self.device)[valid]).cpu().double().numpy()
        return np.split(found, np.cumsum(lengths)[:-1])

    def target_log_probs(self, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return ``(position,)`` log-probabilities of one unit each, from ``(position, embedding value)``; bounds memory."""
        size = max(1, _BLOCK // len(self))
        parts = [
            self.network.log_probs(part).gather(1, target[:, None])[:, 0]
            for part, target in zip(hidden.split(size), targets.split(size), strict=True)
        ]
        return torch.cat(parts)

    def _begin(self) -> Any:
        return self.step([self.begin], self.start(1))

    def _extend(self, state: Any, index: int) -> Any:
        return self.step([index], state[1])

    def _log_probs(self, state: Any) -> np.ndarray:
        log_probs: np.ndarray = state[0][0].cpu().double().numpy()
        return log_probs


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Yield positions of sentences of similar length, few enough to fit together."""
    order = sorted(range(len(lengths)), key=lambda row: lengths[row])
    batch: list[int] = []
    for row in order:  # growing, so the newest is the longest
        if batch and (len(batch) + 1) * lengths[row] > _BATCH_POSITIONS:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch
