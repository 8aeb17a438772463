"""Model packages are read: every part checked against the others before it is used."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from asr.config import Config
from asr.config_mapping import from_mapping
from asr.errors import PackageError
from asr.file_names import CONFIG_NAME, WEIGHTS_NAME
from asr.model.acoustic import SpeechModel
from asr.model.device import check_device
from asr.model.storage import read_weights
from asr.package.parts import check_parts, read_config
from asr.text import Tokenizer, load_tokenizer


@dataclass(frozen=True)
class ModelPackage:
    """A model package that has been read and checked.

    Attributes
    ----------
    folder
        Where it lies.
    config
        Its configuration; what a package does not carry (corpus, optimiser, trainer) has default values.
    model
        The network, in evaluation mode, on the device that was asked for.
    tokenizer
        Its tokenizer.
    checkpoint_hash
        First 12 hexadecimal digits of the SHA-256 of ``model.safetensors``.
    facts
        What training noted: version, manifests and the like.
    """

    folder: Path
    config: Config
    model: SpeechModel
    tokenizer: Tokenizer
    checkpoint_hash: str
    facts: Mapping[str, Any]


def read_package(folder: Path, device: str | torch.device = "cpu") -> ModelPackage:
    """Read a model package; no code in it is run, whoever wrote it.

    Parameters
    ----------
    folder
        The package's folder.
    device
        Where the network is put.

    Raises
    ------
    PackageError
        Where a part is absent, corrupt, foreign or does not fit the others, naming it.
    ConfigError
        For a device that is not there.
    """
    folder = Path(folder)
    target = check_device(device)
    check_parts(folder)
    config, facts = read_config(folder / CONFIG_NAME)
    tokenizer = load_tokenizer(folder)
    if config.decoding.prior_weight and len(config.decoding.priors) != len(tokenizer):
        raise PackageError(
            f"{folder / CONFIG_NAME}: decoding.priors has {len(config.decoding.priors)} values, but there are "
            f"{len(tokenizer)} tokens; copy the package again"
        )
    model = SpeechModel(config.frontend, config.model, len(tokenizer), empty=True)
    model.load_state_dict(read_weights(folder / WEIGHTS_NAME, model, "config.yaml and tokenizer.json"), assign=True)
    return ModelPackage(folder, config, model.eval().to(target), tokenizer, weights_hash(folder), facts)


def weights_hash(folder: Path) -> str:
    """Return the first 12 hexadecimal digits of the SHA-256 of a package's weights."""
    with open(folder / WEIGHTS_NAME, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


def with_decoding(package: ModelPackage, settings: Mapping[str, Any]) -> ModelPackage:
    """Return a package with settings of the decoder replaced.

    Raises
    ------
    ConfigError
        For an unknown setting, a wrong type, or a value out of range.
    """
    mapping = dataclasses.asdict(package.config)
    mapping["decoding"].update(settings)
    return dataclasses.replace(package, config=from_mapping(mapping))
