"""Which checkpoint a run goes on from, and whether it can: what of its settings may have changed since."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from asr.checkpoint import LAST, last_checkpoint
from asr.config import Config, get, options
from asr.config_mapping import from_mapping
from asr.data.manifest import transcript
from asr.errors import ConfigError, DataError
from asr.option import show
from asr.text import Tokenizer, tokenizer_from_mapping
from asr.training.module import TOKENIZER

if TYPE_CHECKING:
    from lhotse.cut import Cut

logger = logging.getLogger(__name__)

SETTINGS = "config.yaml"
"""The configuration of a run, in its output folder."""

RUN = "run"
"""Where a checkpoint holds what :class:`RunRecord` says of its run."""

FREE = frozenset(
    {"name", "output", "resume", "decoding.jobs"}
    | {f"trainer.{key}" for key in ("workers", "cache_gib", "accelerator", "threads", "deterministic", "checkpoint_minutes")}
    | {f"trainer.{key}" for key in ("samples", "gradient_flow", "log_every", "progress")}
)
"""Keys that say where and how fast a run trains and what it shows; they may change on resuming."""

SAID = frozenset(
    {f"trainer.{key}" for key in ("epochs", "precision", "validate_every", "average_epochs", "pretrained", "new_head")}
    | {key for key in options() if key.startswith("decoding.") and key not in FREE}
)
"""Keys that may change on resuming as well, which is logged; all others may not."""

BY_CONTENT = frozenset({"corpus.train", "corpus.dev", "corpus.manifests"})
"""Keys of which the utterances that they name matter, wherever those lie."""

_PARTS = frozenset(
    {"callbacks", "epoch", "global_step", "loops", "lr_schedulers", "optimizer_states", "state_dict", "SpeechData"}
    | {RUN, TOKENIZER}
)


@dataclass(frozen=True)
class RunRecord:
    """What a checkpoint says of its run, to be compared with the one that goes on from it.

    Attributes
    ----------
    settings
        The configuration, as a mapping.
    train, dev
        Digests of the utterances, as :func:`corpus_digest` gives them.
    precision
        Lightning's name of what is computed in.
    epoch_batches
        Batches of an epoch, in each process.
    """

    settings: Mapping[str, Any]
    train: str
    dev: str | None
    precision: str
    epoch_batches: int

    @classmethod
    def of(
        cls, config: Config, train: Iterable[Cut], dev: Iterable[Cut] | None, precision: str, epoch_batches: int
    ) -> RunRecord:
        """Return what is to be noted of a run."""
        return cls(asdict(config), corpus_digest(train), None if dev is None else corpus_digest(dev), precision, epoch_batches)

    def to_mapping(self) -> dict[str, Any]:
        """Return what a checkpoint holds."""
        return asdict(self)


def corpus_digest(cuts: Iterable[Cut]) -> str:
    """Return hexadecimal digits that change with any utterance's id, length or text, and with their order."""
    digest = hashlib.sha256()
    for cut in cuts:
        digest.update(repr((cut.id, round(cut.duration, 6), transcript(cut))).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:16]


def find_checkpoint(folder: Path, config: Config) -> dict[str, Any] | None:
    """Return what the output folder's checkpoint holds, if there is one and a run with these settings can go on from it.

    Raises
    ------
    ConfigError
        If the folder holds a run that this one cannot go on with.
    DataError
        If its checkpoints are damaged.
    """
    last = folder / LAST
    if not last.exists():
        return None
    if not config.resume:
        raise ConfigError(
            f"{folder} holds a run already, and resume=false: choose another folder with output=..., or resume it"
        )
    advice = f"Remove {last.name} to train from the start, or choose another folder with output=..."
    checkpoint = last_checkpoint(folder, advice)
    assert checkpoint is not None
    try:
        absent = sorted(_PARTS - checkpoint.keys())
        if absent:
            raise ValueError(f"it lacks {', '.join(absent)}")
        record = RunRecord(**checkpoint[RUN])
        before = from_mapping(record.settings)
        begun = int(checkpoint["epoch"]) + 1
    except (ValueError, TypeError, ConfigError) as error:
        raise DataError(f"{last}: cannot be read as a checkpoint ({error}). {advice}") from None
    changed = _check_settings(folder, before, config)
    epochs = config.trainer.epochs
    if begun > epochs:
        raise ConfigError(f"trainer.epochs={epochs}: the run in {folder} has begun {begun}; ask for at least as many")
    logger.info(f"going on from {last}")
    if changed:
        logger.warning(f"from here on the run has {'; '.join(changed)}")
    return checkpoint


def _check_settings(folder: Path, before: Config, config: Config) -> list[str]:
    """Refuse settings that cannot change in a run, and return what is to be said of others that have."""
    changed = {key: (get(before, key), get(config, key)) for key in options() if get(before, key) != get(config, key)}
    for key, (old, new) in changed.items():
        if key in FREE | SAID | BY_CONTENT:
            continue
        raise ConfigError(
            f"{folder} holds a run with another {key} ({_typed(old)}, not {_typed(new)}): it cannot be resumed with this one. "
            f"Choose another folder with output=... (or name=...), or give the settings of {folder / SETTINGS}"
        )
    return [f"{key}={_typed(new)}, not {_typed(old)}" for key, (old, new) in changed.items() if key in SAID]


def _typed(value: object) -> str:
    return "null" if value is None else show(value)


def check_same_run(folder: Path, checkpoint: Mapping[str, Any], now: RunRecord) -> bool:
    """Make sure that a run goes on with the utterances and steps that it began with.

    Parameters
    ----------
    folder
        Its output folder.
    checkpoint
        What :func:`find_checkpoint` returned.
    now
        What would be noted of the run that goes on.

    Returns
    -------
    bool
        Whether the error rates that validation has found until now can be compared with those to come.

    Raises
    ------
    ConfigError
        The training utterances are others.
    DataError
        An epoch would have other batches, or the checkpoint's counts contradict each other.
    """
    before = RunRecord(**checkpoint[RUN])
    elsewhere = "choose another folder with output=... (or name=...)"
    if before.train != now.train:
        raise ConfigError(
            f"{folder} holds a run on other utterances than corpus.train names now (ids, lengths or texts differ): give it "
            f"those back, or {elsewhere}; trainer.pretrained={folder}/package begins a new run with its weights"
        )
    if before.epoch_batches != now.epoch_batches:
        raise DataError(
            f"{folder} holds a run whose epochs have {before.epoch_batches} batches; with this version of asr and its "
            f"libraries they would have {now.epoch_batches}: go on with the version that it began with, or {elsewhere}"
        )
    _check_counts(folder / LAST, checkpoint, now.epoch_batches)
    if before.precision != now.precision:
        logger.warning(f"from here on the run is computed in {now.precision}, not {before.precision}")
    decoding = {key: value for key, value in before.settings["decoding"].items() if f"decoding.{key}" in SAID}
    comparable = before.dev == now.dev and decoding.items() <= now.settings["decoding"].items()
    if not comparable:
        logger.warning("validation is not what it was (corpus.dev or decoding): the best epoch is chosen among those to come")
    return comparable


def _check_counts(path: Path, checkpoint: Mapping[str, Any], epoch_batches: int) -> None:
    """Make sure that the steps of a checkpoint are those of its epochs and batches."""
    try:
        epoch, step, done = checkpoint["epoch"], checkpoint["global_step"], checkpoint["SpeechData"]["batches_done"]
        fits = 0 <= done < epoch_batches and step == (epoch + (done == 0)) * epoch_batches + done
        loops = checkpoint["loops"]["fit_loop"]
        batches, epochs = loops["epoch_loop.batch_progress"]["current"], loops["epoch_progress"]["current"]
        steps = loops["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]["step"]["total"]
        fits &= all(0 <= count <= epoch_batches for count in batches.values()) and steps["completed"] == step
        fits &= all(epoch <= count <= epoch + 1 for count in epochs.values())
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path}: cannot be read as a checkpoint ({type(error).__name__}: {error})") from None
    if not fits:
        raise DataError(
            f"{path}: {step} steps are not those of epoch {epoch + 1} with {done} of {epoch_batches} batches done; remove it "
            "to train from the start, or choose another folder with output=..."
        )


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
    ignored = FREE | {"trainer.epochs"}
    return [key for key in options() if key not in ignored and get(before, key) != get(after, key)]


def kept_tokenizer(checkpoint: Mapping[str, Any], path: Path) -> Tokenizer:
    """Return the tokenizer that a checkpoint's network writes.

    A dictionary that has changed since the run began would give other phones, which the weights do not fit.

    Raises
    ------
    PackageError
        The checkpoint holds one that cannot be used.
    """
    return tokenizer_from_mapping(checkpoint[TOKENIZER], str(path))
