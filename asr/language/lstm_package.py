"""Writing and reading the weights of LSTM language model packages."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from asr.config_checks import check_ranges
from asr.config_mapping import read_mapping
from asr.errors import ConfigError, PackageError
from asr.language.card import build_card
from asr.language.config import LstmConfig
from asr.language.lstm import LstmModel, LstmNetwork
from asr.language.ngram import file_hash
from asr.language.package import (
    CARD_NAME,
    CONFIG_NAME,
    LSTM_NAME,
    load_language_model,
    new_folder,
    note_hash,
    write_config,
)
from asr.language.perplexity import Perplexity
from asr.language.units import Pieces, Units
from asr.language.vocabulary import FILE_NAME as VOCABULARY_NAME
from asr.language.vocabulary import Vocabulary
from asr.model.device import check_device
from asr.model.storage import compressed, plain_weights, read_weights
from asr.text import FILE_NAME as TOKENIZER_NAME
from asr.text import BpeTokenizer, Normaliser, load_tokenizer

_SIZES = ("embedding_size", "hidden_size", "layers")
_SELF_NORMALISED = "self_normalised"  # in the same section, where it is true


def write_lstm(
    folder: Path,
    config: LstmConfig,
    model: LstmModel,
    vocabulary: Vocabulary,
    facts: Mapping[str, Any],
    perplexity: Perplexity | None,
    *,
    name: str,
    shown_folder: str,
) -> None:
    """Write a package, whole or not at all.

    Parameters
    ----------
    folder
        Where it shall lie.
    config, model, vocabulary
        What was trained; the model gets the hash of its file.
    facts
        As for :func:`asr.language.card.build_card`.
    perplexity
        On the dev texts.
    name, shown_folder
        What the card calls the model and its folder.
    """
    assert model.form is not None
    with new_folder(folder) as work:
        file = work / LSTM_NAME
        file.write_bytes(safetensors.torch.save(plain_weights(model.network)))
        vocabulary.save(work)
        if isinstance(model.units, Pieces):
            model.units.tokenizer.save(work)
        sizes = {key: getattr(config, key) for key in _SIZES}
        sizes |= {_SELF_NORMALISED: True} if model.self_normalised else {}
        write_config(work, file, kind="lstm", unit=model.unit, form=model.form, model=sizes, training=facts)
        model.hash = file_hash(file)[:12]
        (work / CARD_NAME).write_text(build_card(name, model, facts, perplexity, shown_folder), encoding="utf-8")


def compress_lstm(folder: Path, target: Path, storage: str) -> Path:
    """Write a copy of an LSTM's package whose weights take fewer bits; it is read back in float32.

    Parameters
    ----------
    folder
        The package, which stays as it is.
    target
        Where the copy shall lie, whole or not at all, in place of a package that may be there.
    storage
        One of :data:`asr.model.storage.STORAGES`.

    Raises
    ------
    PackageError
        It cannot be read, or a weight is too large.
    ConfigError
        It is an n-gram model, or the copy may not lie there.
    """
    model = load_language_model(folder)
    if not isinstance(model, LstmModel):
        raise ConfigError(f"{folder}: {model.description}; only an LSTM's weights can be stored in fewer bits")
    folder, target = folder.resolve(), Path(target).resolve()
    if target == folder or folder in target.parents or target in folder.parents:
        raise ConfigError(f"{target}: one of it and the package {folder} lies in the other; choose another folder")
    stored = compressed(plain_weights(model.network), storage, str(folder))
    with new_folder(target) as work:
        for name in (CONFIG_NAME, VOCABULARY_NAME, TOKENIZER_NAME, CARD_NAME):
            if (folder / name).is_file():
                shutil.copyfile(folder / name, work / name)
        (work / LSTM_NAME).write_bytes(safetensors.torch.save(stored))
        note_hash(work, work / LSTM_NAME)
    return target


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
    self_normalised = sizes.pop(_SELF_NORMALISED, False)
    if sizes.keys() != set(_SIZES) or not isinstance(self_normalised, bool):
        raise PackageError(
            f"{folder / 'config.yaml'}: model: expected {', '.join(_SIZES)}, and true or false for {_SELF_NORMALISED}"
        )
    try:
        if not all(isinstance(value, int) for value in sizes.values()):
            raise ConfigError("expected integers")
        config = read_mapping({str(key): value for key, value in sizes.items()}, LstmConfig)
        check_ranges(config)
    except ConfigError as error:
        raise PackageError(f"{folder / 'config.yaml'}: model: {error}") from None
    return dataclasses.replace(config, dropout=0.0), self_normalised
