"""Where a run's curves go: TensorBoard, a CSV file, Weights & Biases, MLflow.

What a logger needs is imported when a run asks for it, and nothing leaves the machine unless the user says so in the service's
own way: ``WANDB_MODE=online``, or ``MLFLOW_TRACKING_URI`` with the address of a server. The first process alone writes. The ids
by which services know a run are kept in its folder, so that a run which is resumed goes on in the same log.
"""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import logging
import os
import secrets
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger, TensorBoardLogger

from asr.errors import ConfigError, DataError, StorageError
from asr.files import make_folder, replacing, write_json

IDS = "loggers.json"
"""The ids by which services know the run, in its output folder."""

METRICS = "metrics.csv"
_COLUMNS = ("step", "name", "value")
_PROJECT = "asr"
_NEEDS: Mapping[str, Sequence[str]] = {"wandb": ("wandb",), "mlflow": ("mlflow", "sqlalchemy", "alembic")}
"""The packages that the extra of a logger's name installs."""


def check_loggers(kinds: Sequence[str]) -> None:
    """Make sure that the loggers of ``trainer.loggers`` are installed, before work is done for the run.

    Raises
    ------
    ConfigError
        A package is missing.
    """
    for kind in kinds:
        for package in _NEEDS.get(kind, ()):
            spec = importlib.util.find_spec(package)
            if spec is None or spec.origin is None:  # a folder called `wandb`, as W&B makes one, has a spec as well
                raise ConfigError(
                    f"trainer.loggers: {kind} needs the package {package}, which is not installed; install asr with its extra "
                    f'"{kind}", as by `pip install ".[{kind}]"` in its folder, or leave {kind} out'
                )


def build_loggers(folder: Path, name: str, kinds: Sequence[str], checkpoint: Mapping[str, Any] | None) -> list[Logger]:
    """Return the loggers of a run; they make nothing yet.

    Parameters
    ----------
    folder, name
        The run's.
    kinds
        Of ``trainer.loggers``.
    checkpoint
        What the one holds that the run goes on from, and so in the logs that it had.

    Raises
    ------
    ConfigError
        A service cannot be reached, or refuses.
    DataError
        The ids that were kept cannot be read.
    """
    kept = {} if checkpoint is None else _kept_ids(folder / IDS)
    loggers: list[Logger] = []
    for kind in dict.fromkeys(kinds):
        if kind == "tensorboard":
            loggers.append(TensorBoardLogger(folder, name="", version="tensorboard"))
        elif kind == "csv":
            loggers.append(MetricsFile(folder / METRICS, 0 if checkpoint is None else checkpoint["global_step"]))
        else:
            with _beginning(kind):
                loggers.append(_SERVICES[kind](folder, name, kept.get(kind)))
    return loggers


@contextmanager
def logging_curves(loggers: Sequence[Logger], folder: Path, config: Any, *, resumed: bool) -> Iterator[None]:
    """Open the logs of a run, and close those that a service would keep open; the settings are part of a service's new log.

    Parameters
    ----------
    loggers
        From :func:`build_loggers`.
    folder, config
        The run's.
    resumed
        Whether ids that are kept are those of this run: then those of services that it does without for now stay.

    Raises
    ------
    ConfigError
        A service cannot be reached, or refuses.
    """
    ids = _kept_ids(folder / IDS) if resumed else {}
    ours = any(_kind(logger) == "wandb" for logger in loggers) and _wandb_run() is None  # otherwise it is the caller's
    try:
        for logger in loggers:
            ids |= _opened(logger, ids, config)
        if ids:
            write_json(folder / IDS, ids)
        else:
            (folder / IDS).unlink(missing_ok=True)
        yield
    finally:
        if ours and _wandb_run() is not None:
            sys.modules["wandb"].finish(exit_code=int(sys.exc_info()[0] is not None))


def _wandb_run() -> Any:
    """Return the log that is open at W&B in this process; there is at most one."""
    wandb: Any = sys.modules.get("wandb")
    return None if wandb is None else wandb.run


def _kind(logger: Logger) -> str | None:
    return {"WandbLogger": "wandb", "MLFlowLogger": "mlflow"}.get(type(logger).__name__)


def _opened(logger: Logger, ids: Mapping[str, str], config: Any) -> Mapping[str, str]:
    """Open a log, and return the id by which its service knows it, where it has one."""
    kind = _kind(logger)
    if kind is None:
        return {}
    given: Any = logger
    with _beginning(kind):
        found: str = given.experiment.id if kind == "wandb" else given.run_id
        if found != ids.get(kind):
            given.log_hyperparams(asdict(config))
    return {kind: found}


@contextmanager
def _beginning(kind: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # the services raise many kinds
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        raise ConfigError(f"trainer.loggers: {kind} cannot begin ({reason}); mend that, or leave {kind} out") from error


def _kept_ids(path: Path) -> dict[str, str]:
    try:
        ids = json.loads(path.read_bytes())
        if not isinstance(ids, dict) or not all(isinstance(name, str) for name in ids.values()):
            raise ValueError("expected a mapping of names to ids")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read ({error}); remove it, and the services begin new logs") from None
    return ids


def _wandb(folder: Path, name: str, known: str | None) -> Logger:
    os.environ.setdefault("WANDB_MODE", "offline")
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb
    from lightning.pytorch.loggers import WandbLogger

    make_folder(folder)
    return WandbLogger(
        name=name,
        project=os.environ.get("WANDB_PROJECT", _PROJECT),
        save_dir=folder,
        id=known or secrets.token_hex(4),
        settings=wandb.Settings(console="off", silent=os.environ["WANDB_MODE"] != "online"),
    )


def _mlflow(folder: Path, name: str, known: str | None) -> Logger:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from lightning.pytorch.loggers import MLFlowLogger

    for chatty in ("mlflow", "alembic", "lightning.pytorch.loggers.mlflow"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    home = (folder / "mlflow").absolute()
    server = os.environ.get("MLFLOW_TRACKING_URI")
    if not server:
        make_folder(home)
    return MLFlowLogger(
        os.environ.get("MLFLOW_EXPERIMENT_NAME", _PROJECT),
        run_name=name,
        tracking_uri=server or f"sqlite:///{home}/mlflow.db",
        artifact_location=None if server else str(home / "artifacts"),
        run_id=known,
    )


_SERVICES = {"wandb": _wandb, "mlflow": _mlflow}


class StepValues(Callback):
    """Logs what a batch has logged as it ends.

    Lightning would do so after all callbacks, of which one may write a checkpoint that holds the step, and end the run.

    Parameters
    ----------
    every
        Steps between logged values.
    """

    def __init__(self, every: int) -> None:
        self.every = every

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not trainer.loggers or trainer.global_step % self.every:
            return
        values = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("train/")}
        for logger in trainer.loggers:
            logger.log_metrics({**values, "epoch": trainer.current_epoch}, trainer.global_step - 1)
            logger.save()


class MetricsFile(Logger):
    """One line a value, ``step,name,value``, each on the disk as soon as it is logged.

    Lightning's own CSV logger begins its file anew where a run is resumed.

    Parameters
    ----------
    path
        The file.
    n_steps
        Steps that the run has made: what it says of later ones, which are made again, is left out.
    """

    def __init__(self, path: Path, n_steps: int) -> None:
        super().__init__()
        self.path = path
        self._n_steps: int | None = n_steps

    @property
    def name(self) -> str:
        """Of the logger."""
        return "csv"

    @property
    def version(self) -> str:
        """There is one log a run."""
        return ""

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Leave the settings to the run's ``config.yaml``."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append values.

        Raises
        ------
        StorageError
            The disk is full.
        """
        if self._n_steps is not None:
            self._begin(self._n_steps)
            self._n_steps = None
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows((step, name, value) for name, value in metrics.items())
        try:
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write(text.getvalue())
        except OSError as error:
            raise StorageError(f"{self.path}: cannot be written: {error.strerror or error}") from error

    def _begin(self, n_steps: int) -> None:
        """Keep the header and the values of the steps that were made; a line that was cut off is none."""
        kept: list[Sequence[str]] = [_COLUMNS]
        if n_steps and self.path.exists():
            with self.path.open(encoding="utf-8", errors="replace", newline="") as stream:
                rows = [tuple(next(csv.reader([line]))) for line in stream if line.endswith("\n") and line.strip()]
            kept += [row for row in rows if len(row) == len(_COLUMNS) and row[0].isdecimal() and int(row[0]) < n_steps]
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(kept)
        with replacing(self.path) as file:
            file.write(text.getvalue().encode())
