"""Which checkpoint a run goes on from, and whether it can."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
import yaml

from asr.config import Config, get, options
from asr.config_mapping import from_mapping
from asr.errors import ConfigError, DataError
from asr.text import Tokenizer, tokenizer_from_mapping
from asr.training.checkpoints import LAST
from asr.training.module import TOKENIZER

logger = logging.getLogger(__name__)

SETTINGS = "config.yaml"
"""The configuration of a run, in its output folder."""

FIXED = ("tokens", "frontend", "model", "optim")
"""Sections that a run keeps to its end."""

_INDIFFERENT = frozenset(
    {"name", "output", "resume", "decoding.jobs", "trainer.epochs"}
    | {f"trainer.{key}" for key in ("workers", "cache_gib", "accelerator", "threads", "deterministic", "checkpoint_minutes")}
    | {f"trainer.{key}" for key in ("samples", "gradient_flow", "log_every", "progress")}
)
_PARTS = frozenset({"callbacks", "epoch", "global_step", "loops", "lr_schedulers", "optimizer_states", "state_dict"})


def find_checkpoint(folder: Path, config: Config) -> Path | None:
    """Return the output folder's checkpoint to go on from, if there is one.

    Raises
    ------
    ConfigError
        If the folder holds a run that this one cannot go on with.
    DataError
        If its checkpoint or its settings are corrupt.
    """
    last = folder / LAST
    settings = folder / SETTINGS
    if last.exists():
        if not config.resume:
            raise ConfigError(
                f"{folder} holds a run already, and resume=false: choose another folder with output=..., or resume it"
            )
        before = read_settings(settings)
        for section in FIXED:
            if getattr(before, section) != getattr(config, section):
                raise ConfigError(
                    f"{folder} holds a run with another {section}: it cannot be resumed with this one. Choose another "
                    f"folder with output=... (or name=...), or give the settings of {settings}"
                )
        check_checkpoint(last, config.trainer.epochs)
        logger.info(f"going on from {last}")
    return last if last.exists() else None


def read_settings(path: Path) -> Config:
    """Read the configuration of a run.

    Raises
    ------
    DataError
        The file is absent, corrupt or no configuration.
    """
    try:
        return from_mapping(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, OSError, ValueError, TypeError, ConfigError) as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise DataError(
            f"{path}: the settings of the run cannot be read ({reason}). Put them back, remove {LAST} to train from the start, "
            "or choose another folder with output=..."
        ) from None


def differing(before: Config, after: Config) -> list[str]:
    """Return the keys by which two runs differ, so that the figures of one are not those of the other.

    Where and how fast they run, what they show, and how many epochs they have is left out.
    """
    return [key for key in options() if key not in _INDIFFERENT and get(before, key) != get(after, key)]


def read_tokenizer(checkpoint: Path) -> Tokenizer | None:
    """Return the tokenizer that a checkpoint's network writes; None where the configuration alone decides it.

    Transcripts that have changed since the run began would give other pieces or phones, which the weights do not fit.

    Raises
    ------
    PackageError
        The checkpoint holds one that cannot be used.
    """
    mapping = torch.load(checkpoint, map_location="cpu", weights_only=True).get(TOKENIZER)
    return None if mapping is None else tokenizer_from_mapping(mapping, str(checkpoint))


def check_checkpoint(path: Path, epochs: int) -> None:
    """Make sure that a checkpoint can be read and that there is something left to train, or nothing.

    Raises
    ------
    DataError
        The file is corrupt or no checkpoint.
    ConfigError
        More epochs were begun than are asked for.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        absent = sorted(_PARTS - checkpoint.keys())
        if absent:
            raise ValueError(f"it lacks {', '.join(absent)}")
        begun = int(checkpoint["epoch"]) + 1
    except Exception as error:  # torch raises many kinds for a corrupt file
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"{path}: cannot be read as a checkpoint ({reason}). Remove it to train from the start, or choose another folder "
            "with output=..."
        ) from None
    if begun > epochs:
        raise ConfigError(f"trainer.epochs={epochs}: the run in {path.parent} has begun {begun}; ask for at least as many")
