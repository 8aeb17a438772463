"""Reading the weights and units of LSTM language model packages."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch

from asr.config_checks import check_ranges
from asr.config_mapping import read_mapping
from asr.errors import ConfigError, PackageError
from asr.language.config import LstmConfig
from asr.language.lstm import LstmModel, LstmNetwork
from asr.language.ngram import file_hash
from asr.language.units import Pieces, Units
from asr.model.device import check_device
from asr.model.storage import read_weights
from asr.text import BpeTokenizer, Normaliser, load_tokenizer

SIZES = ("embedding_size", "hidden_size", "layers")
"""Keys of the section ``model`` of ``config.yaml``."""

SELF_NORMALISED = "self_normalised"
"""Key of the same section, where it is true."""


def read_units(folder: Path) -> Units:
    """Read the pieces of words of a package whose unit is ``subword``.

    Raises
    ------
    PackageError
        They are absent or corrupt.
    """
    tokenizer = load_tokenizer(folder)
    if not isinstance(tokenizer, BpeTokenizer):
        raise PackageError(f"{folder}: its tokenizer is of kind {tokenizer.kind}; expected bpe")
    return Pieces(tokenizer)


def read_lstm(file: Path, sizes: object, units: Units, words: Sequence[str], form: Normaliser, device: str) -> LstmModel:
    """Read the weights after their names, shapes and types were found to be those of the described network.

    Parameters
    ----------
    file
        ``model.safetensors``.
    sizes
        The section ``model`` of ``config.yaml``.
    units, words, form
        What else the package holds.
    device
        Where the network shall be.

    Raises
    ------
    PackageError
        The weights are corrupt, or not those of such a network.
    ConfigError
        For a device that is not there.
    """
    config, self_normalised = _read_sizes(file.parent, sizes)
    target = check_device(device)
    with torch.device("meta"):
        network = LstmNetwork(config, len(words) + 2)
    network.load_state_dict(read_weights(file, network, "config.yaml and vocabulary.txt"), assign=True)
    hash = file_hash(file)[:12]
    return LstmModel(network.to(target), units, words, form, hash, self_normalised=self_normalised)


def _read_sizes(folder: Path, sizes: object) -> tuple[LstmConfig, bool]:
    """Return the configuration, and whether the network is self-normalised."""
    sizes = dict(sizes) if isinstance(sizes, dict) else {}
    self_normalised = sizes.pop(SELF_NORMALISED, False)
    if sizes.keys() != set(SIZES) or not isinstance(self_normalised, bool):
        raise PackageError(
            f"{folder / 'config.yaml'}: model: expected {', '.join(SIZES)}, and true or false for {SELF_NORMALISED}"
        )
    try:
        if not all(isinstance(value, int) for value in sizes.values()):
            raise ConfigError("expected integers")
        config = read_mapping({str(key): value for key, value in sizes.items()}, LstmConfig)
        check_ranges(config)
    except ConfigError as error:
        raise PackageError(f"{folder / 'config.yaml'}: model: {error}") from None
    return dataclasses.replace(config, dropout=0.0), self_normalised
