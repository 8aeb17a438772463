"""Which checkpoint a run goes on from, and whether it can: what of its settings may have changed since."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr.config import get
from asr.config_mapping import read_mapping
from asr.engine.checkpoint import LAST, last_checkpoint, unreadable
from asr.engine.data import TrainingData
from asr.engine.module import TRAINED
from asr.errors import ConfigError, DataError
from asr.option import leaves, show

logger = logging.getLogger(__name__)

SETTINGS = "config.yaml"
"""The configuration of a run, in its output folder."""

RUN = "run"
"""Where a checkpoint holds what :class:`RunRecord` says of its run."""

ENGINE_FREE = ("accelerator", "threads", "checkpoint_minutes", "log_every", "progress")
"""Keys of :class:`asr.config.EngineConfig` that may change on resuming, whatever is trained."""

_PARTS = frozenset(
    {"callbacks", "epoch", "global_step", "loops", "lr_schedulers", "optimizer_states", "state_dict", TRAINED, RUN}
)
_COUNTS = ("ready", "started", "processed", "completed")


@dataclass(frozen=True)
class Terms:
    """On which terms a kind of run goes on.

    Attributes
    ----------
    free
        Keys that say where and how fast a run trains and what it shows; they may change.
    said
        Keys that may change as well, which is logged; all others may not.
    by_content
        Keys of which what they name matters, wherever that lies.
    validation
        Section whose keys in ``said`` decide what validation finds; empty where there is none.
    section
        What the keys of the engine begin with.
    data
        What is trained on, where it has changed, and how it can be given back.
    elsewhere, anew
        What to do to begin another run, and to begin this one anew.
    """

    free: frozenset[str]
    said: frozenset[str]
    by_content: frozenset[str]
    validation: str
    section: str
    data: str
    elsewhere: str
    anew: str

    @property
    def epochs(self) -> str:
        """The key of the number of epochs."""
        return f"{self.section}.epochs"


@dataclass(frozen=True)
class RunRecord:
    """What a checkpoint says of its run, to be compared with the one that goes on from it.

    Attributes
    ----------
    settings
        The configuration, as a mapping.
    train, dev
        Hexadecimal digits that change with what is trained on, and with what is validated on.
    precision
        Lightning's name of what is computed in.
    epoch_batches
        Batches of an epoch, in each process.
    noise
        Hexadecimal digits that change with what augmentation mixes in, if it does.
    """

    settings: Mapping[str, Any]
    train: str
    dev: str | None
    precision: str
    epoch_batches: int
    noise: str | None = None


def find_checkpoint(folder: Path, config: Any, terms: Terms) -> dict[str, Any] | None:
    """Return what the output folder's checkpoint holds, if there is one and a run with these settings can go on from it.

    Raises
    ------
    ConfigError
        If the folder holds a run that this one cannot go on with, or ``resume`` is false.
    DataError
        If its checkpoints are damaged.
    """
    last = folder / LAST
    if not last.exists():
        return None
    if not config.resume:
        raise ConfigError(f"{folder} holds a run already, and resume=false: {terms.elsewhere}, or resume it")
    checkpoint = last_checkpoint(folder, terms.anew)
    assert checkpoint is not None
    absent = sorted(_PARTS - checkpoint.keys())
    if absent:
        other = "Where another version of asr has written it, go on with that one."
        raise unreadable(last, f"it lacks {', '.join(absent)}", f"{other} {terms.anew}")
    try:
        before = read_mapping(RunRecord(**checkpoint[RUN]).settings, type(config))
        begun = int(checkpoint["epoch"]) + 1
    except (ValueError, TypeError, ConfigError) as error:
        raise unreadable(last, error, terms.anew) from None
    changed = _check_settings(folder, before, config, terms)
    if begun > (epochs := get(config, terms.epochs)):
        raise ConfigError(f"{terms.epochs}={epochs}: the run in {folder} has begun {begun}; ask for at least as many")
    logger.info(f"going on from {last}")
    if changed:
        logger.warning(f"from here on the run has {'; '.join(changed)}")
    return checkpoint


def _check_settings(folder: Path, before: Any, config: Any, terms: Terms) -> list[str]:
    """Refuse settings that cannot change in a run, and return what is to be said of others that have."""
    keys = leaves(type(config))
    changed = {key: (get(before, key), get(config, key)) for key in keys if get(before, key) != get(config, key)}
    for key, (old, new) in changed.items():
        if key in terms.free | terms.said | terms.by_content:
            continue
        raise ConfigError(
            f"{folder} holds a run with another {key} ({_typed(old)}, not {_typed(new)}): it cannot be resumed with this one. "
            f"{terms.elsewhere[0].upper()}{terms.elsewhere[1:]}, or give the settings of {folder / SETTINGS}"
        )
    return [f"{key}={_typed(new)}, not {_typed(old)}" for key, (old, new) in changed.items() if key in terms.said]


def _typed(value: object) -> str:
    return "null" if value is None else show(value)


def check_same_run(folder: Path, checkpoint: Mapping[str, Any], now: RunRecord, terms: Terms, data: TrainingData) -> bool:
    """Make sure that a run goes on with the data and the steps that its checkpoint says.

    Returns
    -------
    bool
        Whether what validation has found until now can be compared with what it will find.

    Raises
    ------
    ConfigError
        What is trained on is other.
    DataError
        An epoch would have other batches, or the checkpoint's counts contradict each other.
    """
    before = RunRecord(**checkpoint[RUN])
    if before.train != now.train:
        raise ConfigError(f"{folder} holds a run on {terms.data.format(folder=folder, elsewhere=terms.elsewhere)}")
    if before.epoch_batches != now.epoch_batches:
        raise DataError(
            f"{folder} holds a run whose epochs have {before.epoch_batches} batches; with this version of asr and its "
            f"libraries they would have {now.epoch_batches}: go on with the version that it began with, or {terms.elsewhere}"
        )
    if before.noise is not None and before.noise != now.noise:
        raise ConfigError(
            f"{folder} holds a run with other noise: what augment.noise names has other sound now; give it that back, or "
            f"{terms.elsewhere}"
        )
    _check_counts(folder / LAST, checkpoint, type(data).__qualname__, now.epoch_batches, terms)
    if before.precision != now.precision:
        logger.warning(f"from here on the run is computed in {now.precision}, not {before.precision}")
    how = before.settings.get(terms.validation, {})
    same = [now.settings[terms.validation][key] == how[key] for key in how if f"{terms.validation}.{key}" in terms.said]
    comparable = before.dev == now.dev and all(same)
    if not comparable:
        logger.warning("validation is not what it was (dev or decoding): the best weights are chosen among those to come")
    return comparable


def _check_counts(path: Path, checkpoint: Mapping[str, Any], data: str, epoch_batches: int, terms: Terms) -> None:
    """Make sure that the steps of a checkpoint are those of its epochs and batches."""
    try:
        epoch, step, done = checkpoint["epoch"], checkpoint["global_step"], checkpoint[data]["batches_done"]
        fits = 0 <= done < epoch_batches and step == (epoch + (done == 0)) * epoch_batches + done
        loops = checkpoint["loops"]["fit_loop"]
        progress = [loops[name] for name in ("epoch_loop.batch_progress", "epoch_progress")]
        batches, epochs = ([one["current"][name] for name in _COUNTS] for one in progress)
        # By these it goes on within the epoch, or after it.
        fits &= progress[0]["is_last_batch"] is (done == 0) and progress[0]["current"]["processed"] == (done or epoch_batches)
        steps = loops["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]["step"]["total"]
        fits &= all(0 <= count <= epoch_batches for count in batches) and steps["completed"] == step
        fits &= all(epoch <= count <= epoch + 1 for count in epochs)
        # What is ready, started, processed and completed differs by one at most; Lightning tells by them where it stopped.
        totals = [[one["total"][name] for name in _COUNTS] for one in progress]
        fits &= all(min(counts) >= 0 and max(counts) - min(counts) <= 1 for counts in totals)
        stepped = loops["epoch_loop.state_dict"]["_batches_that_stepped"]  # is counted after what is saved within an epoch
        fits &= all(type(count) is int for counts in (batches, epochs, *totals, [stepped]) for count in counts)
        fits &= 0 <= step - stepped <= 1
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise unreadable(path, f"{type(error).__name__}: {error}", terms.anew) from None
    if not fits:
        raise DataError(
            f"{path}: {step} steps are not those of epoch {epoch + 1} with {done} of {epoch_batches} batches done. {terms.anew}"
        )
