"""Writing and reading the weights of LSTM language model packages."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from asr.config_checks import check_ranges
from asr.config_mapping import read_mapping
from asr.errors import ConfigError, PackageError
from asr.language.card import build_card
from asr.language.config import LstmConfig
from asr.language.lstm import LstmModel, LstmNetwork
from asr.language.ngram import file_hash
from asr.language.package import CARD_NAME, LSTM_NAME, new_folder, write_config
from asr.language.perplexity import Perplexity
from asr.language.units import Pieces, Units
from asr.language.vocabulary import Vocabulary
from asr.model.device import check_device
from asr.model.storage import check_header, check_size
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
    weights = {key: tensor.detach().to("cpu", torch.float32, copy=True) for key, tensor in model.network.state_dict().items()}
    assert model.form is not None
    with new_folder(folder) as work:
        file = work / LSTM_NAME
        file.write_bytes(safetensors.torch.save(weights))
        vocabulary.save(work)
        if isinstance(model.units, Pieces):
            model.units.tokenizer.save(work)
        sizes = {key: getattr(config, key) for key in _SIZES}
        sizes |= {_SELF_NORMALISED: True} if model.self_normalised else {}
        write_config(work, file, kind="lstm", unit=model.unit, form=model.form, model=sizes, training=facts)
        model.hash = file_hash(file)[:12]
        (work / CARD_NAME).write_text(build_card(name, model, facts, perplexity, shown_folder), encoding="utf-8")


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
    try:
        with torch.device("meta"):
            network = LstmNetwork(config, len(words) + 2)
        expected = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
        check_size(str(file.parent / "config.yaml"), expected.values())
        check_header(file)
        with safetensors.safe_open(file, framework="pt") as opened:
            found = {key: tuple(opened.get_slice(key).get_shape()) for key in opened.keys()}  # noqa: SIM118 - not a mapping
            types = {opened.get_slice(key).get_dtype() for key in found}
            if found != expected or types != {"F32"}:
                wrong = sorted(key for key in {*found, *expected} if found.get(key) != expected.get(key))
                raise PackageError(
                    f"{file}: not the weights of the network of config.yaml: {', '.join(wrong[:3]) or 'types'} differ"
                )
            weights = {key: opened.get_tensor(key).clone() for key in found}
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise PackageError(f"{file}: not a safetensors file: corrupt, truncated or foreign ({error})") from None
    if not all(bool(tensor.isfinite().all()) for tensor in weights.values()):
        raise PackageError(f"{file}: holds NaN or infinity; the training that wrote it had diverged")
    network.load_state_dict(weights, assign=True)
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
