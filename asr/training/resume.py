"""On which terms a training of an acoustic model goes on, and what tells two runs apart."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from asr.config import Config, get, options
from asr.config_mapping import from_mapping
from asr.data.manifest import transcript
from asr.engine.checkpoint import unreadable
from asr.engine.resume import ENGINE_FREE, Terms
from asr.errors import ConfigError, DataError
from asr.text import Tokenizer, tokenizer_from_mapping
from asr.training.module import TOKENIZER

if TYPE_CHECKING:
    from lhotse.cut import Cut

_FREE = frozenset(
    {"name", "output", "resume", "decoding.jobs"}
    | {
        f"trainer.{key}"
        for key in (*ENGINE_FREE, "workers", "cache_gib", "deterministic", "samples", "loggers", "gradient_flow")
    }
)

TERMS = Terms(
    free=_FREE,
    said=frozenset(
        {f"trainer.{key}" for key in ("epochs", "precision", "validate_every", "average_epochs", "pretrained", "new_head")}
        | {key for key in options() if key.startswith("decoding.") and key not in _FREE}
    ),
    by_content=frozenset({"corpus.train", "corpus.dev", "corpus.manifests"}),
    validation="decoding",
    section="trainer",
    data="other utterances than corpus.train names now (ids, lengths or texts differ): give it those back, or {elsewhere}; "
    "trainer.pretrained={folder}/package begins a new run with its weights",
    elsewhere="choose another folder with output=... (or name=...)",
    anew="Remove last.ckpt to train from the start, or choose another folder with output=...",
)


def corpus_digest(cuts: Iterable[Cut]) -> str:
    """Return hexadecimal digits that change with any utterance's id, length or text, and with their order."""
    digest = hashlib.sha256()
    for cut in cuts:
        digest.update(repr((cut.id, round(cut.duration, 6), transcript(cut))).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:16]


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
            f"{path}: the settings of the run cannot be read ({reason}). Put them back, or choose another folder with "
            "output=..."
        ) from None


def differing(before: Config, after: Config) -> list[str]:
    """Return the keys by which two runs differ, so that the figures of one are not those of the other.

    Where and how fast they run, what they show, and how many epochs they have is left out.
    """
    ignored = TERMS.free | {TERMS.epochs}
    return [key for key in options() if key not in ignored and get(before, key) != get(after, key)]


def kept_tokenizer(checkpoint: Mapping[str, Any], path: Path) -> Tokenizer:
    """Return the tokenizer that a checkpoint's network writes.

    A dictionary that has changed since the run began would give other phones, which the weights do not fit.

    Raises
    ------
    PackageError
        The checkpoint holds one that cannot be used.
    """
    if TOKENIZER not in checkpoint:
        raise unreadable(path, f"it lacks {TOKENIZER}", TERMS.anew)
    return tokenizer_from_mapping(checkpoint[TOKENIZER], str(path))
