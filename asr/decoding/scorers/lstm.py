"""An LSTM language model over words inside a search, all utterances and hypotheses at once."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from asr.decoding.scorers.loading import load_lstm
from asr.decoding.scorers.word_models import WordModel, WordReader
from asr.language.lstm import LstmModel, State
from asr.language.vocabulary import read_vocabulary

# Elements of one block of logits, of which only the sum of the probabilities is kept: small enough for the caches.
_BLOCK = 1 << 22
# Number of the context in front of a sentence's beginning; other negative ones stand inside phrases.
_BEFORE = -1


class LstmWords(WordModel):
    """An LSTM over words.

    A word that it does not know is taken to be one of as many as it knows, equally likely: it has the probability of the class
    of all unknown words, divided by the number of known ones.

    Parameters
    ----------
    path
        Folder of its package.
    words
        For each label from 1 its words as the model writes them, several in a phrase.
    """

    def __init__(self, path: Path, words: Sequence[Sequence[str]]) -> None:
        self._path, self._words = path, words
        self.lstm = load_lstm(path)
        unknown = (self.lstm.unknown,)
        self.units = [unknown, *(tuple(map(self.lstm.index, label)) or unknown for label in words)]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._path, self._words)

    def reader(self) -> WordReader:
        return LstmReader(self.lstm, self.units)

    def unigrams(self) -> list[float]:
        """Return the natural log-probability of each label by the counts of the training text, one added to each."""
        counts = 1 + np.array([*read_vocabulary(self._path).counts, 0, 0])
        values = np.log(counts / counts.sum()).tolist()
        return [sum(values[unit] for unit in label) for label in self.units]


class LstmReader(WordReader):
    """An LSTM in one search.

    The state after a context, and the sum over the logits of all units, are computed when a word behind it is asked for the
    first time, together with all others that are needed then. A self-normalised model's sums are taken for 1.

    Parameters
    ----------
    lstm
        The model.
    units
        For each label the indices of its units.
    """

    @torch.inference_mode()
    def __init__(self, lstm: LstmModel, units: Sequence[tuple[int, ...]]) -> None:
        self._units = units
        self._network, self._end, self._self_normalised = lstm.network, lstm.end, lstm.self_normalised
        self._bias = lstm.network.bias.clone()
        self._bias[lstm.unknown] -= math.log(max(1, len(lstm.words)))
        # A row a context: outputs and cells of all layers, output of the network, logarithm of the sum.
        state = _packed(lstm.start(1))
        self._n_state = state.shape[1]
        self._table = functional.pad(state, (0, lstm.network.embedding.embedding_dim + 1))
        self._rows = {_BEFORE: 0}
        self._pending = {0: (_BEFORE, lstm.begin)}
        self._inner = _BEFORE

    @torch.inference_mode()
    def read(self, contexts: Sequence[int], labels: Sequence[int], after: Sequence[int]) -> list[float]:
        scores = [0.0] * len(labels)
        here, spelled = list(contexts), [self._units[label] for label in labels]
        for place in range(max(map(len, spelled))):
            words = [word for word, units in enumerate(spelled) if place < len(units)]
            units = [spelled[word][place] for word in words]
            found = self._log_probs([here[word] for word in words], units)
            for word, unit, value in zip(words, units, found, strict=True):
                scores[word] += value
                is_last = place + 1 == len(spelled[word])
                self._inner -= not is_last
                behind = after[word] if is_last else self._inner
                self._pending[behind] = here[word], unit
                here[word] = behind
        return scores

    @torch.inference_mode()
    def finish(self, contexts: Sequence[int]) -> list[float]:
        return self._log_probs(contexts, [self._end] * len(contexts))

    @torch.inference_mode()
    def retain(self, contexts: Collection[int]) -> None:
        self._pending = {context: before for context, before in self._pending.items() if context in contexts}
        needed = {parent for parent, _ in self._pending.values()}
        kept = {context: row for context, row in self._rows.items() if context in contexts or context in needed}
        self._table = self._table[list(kept.values())]
        self._rows = {context: row for row, context in enumerate(kept)}

    def _log_probs(self, contexts: Sequence[int], units: Sequence[int]) -> list[float]:
        """Return the natural log-probability of a unit after each context."""
        self._compute([context for context in dict.fromkeys(contexts) if context not in self._rows])
        found = self._table[:, self._n_state :][[self._rows[context] for context in contexts]]
        chosen = torch.tensor(units)
        logits = (found[:, :-1] * self._network.embedding.weight[chosen]).sum(1) + self._bias[chosen]
        values: list[float] = (logits - found[:, -1]).tolist()
        return values

    def _compute(self, contexts: Sequence[int]) -> None:
        """Read the last unit of contexts whose row is not there yet."""
        if not contexts:
            return
        parents, units = zip(*(self._pending.pop(context) for context in contexts), strict=True)
        before = self._table[:, : self._n_state][[self._rows[parent] for parent in parents]]
        hidden, state = self._network(torch.tensor(units)[:, None], self._unpacked(before))
        hidden = hidden[:, 0]
        n_rows, n_new = len(self._rows), len(contexts)
        if n_rows + n_new > len(self._table):
            self._table = functional.pad(self._table, (0, 0, 0, max(n_rows, n_new)))
        self._table[n_rows : n_rows + n_new] = torch.cat([_packed(state), hidden, self._log_sums(hidden)[:, None]], dim=1)
        self._rows.update(zip(contexts, range(n_rows, n_rows + n_new), strict=True))

    def _log_sums(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return, for outputs ``(row, embedding value)``, the logarithm of the sum over all units, ``(row,)``."""
        if self._self_normalised:
            return hidden.new_zeros(len(hidden))
        weight, bias = self._network.embedding.weight, self._network.bias
        parts = hidden.split(max(1, _BLOCK // len(bias)))
        return torch.cat([functional.linear(part, weight, bias).logsumexp(1) for part in parts])

    def _unpacked(self, rows: torch.Tensor) -> State:
        hidden_size = self._network.recurrent.output_size
        parts = rows.view(len(rows), -1, hidden_size).transpose(0, 1).contiguous()
        return State(tuple((parts[place : place + 1], parts[place + 1 : place + 2]) for place in range(0, len(parts), 2)))


def _packed(state: State) -> torch.Tensor:
    """Return ``(row, value)``, a state's outputs and cells one after the other."""
    return torch.cat([part[0] for layer in state.layers for part in layer], dim=1)
