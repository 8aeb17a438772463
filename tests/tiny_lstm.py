"""Packages of random LSTM language models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from asr.language.config import LstmConfig
from asr.language.lstm import LstmModel, LstmNetwork
from asr.language.lstm_package import write_lstm
from asr.language.units import Units, Words
from asr.language.vocabulary import Vocabulary
from asr.text import Normaliser

SIZES = LstmConfig(embedding_size=6, hidden_size=5, layers=2, dropout=0.0)


def write_tiny_lstm(
    folder: Path,
    form: Normaliser,
    words: Sequence[str],
    units: Units | None = None,
    seed: int = 4,
    self_normalised: bool = False,
) -> str:
    """Write the package of an LSTM whose scores differ much from text to text, and return its folder."""
    torch.manual_seed(seed)
    network = LstmNetwork(SIZES, len(words) + 2)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    model = LstmModel(network, units or Words(), words, form, "0" * 12, self_normalised=self_normalised)
    facts = {"text": ["t"], "dev": [], "sentences": 1, "words": 9}
    vocabulary = Vocabulary(tuple(words), tuple(range(len(words), 0, -1)))
    write_lstm(folder, SIZES, model, vocabulary, facts, None, name="tiny", shown_folder="lstm")
    return str(folder)
