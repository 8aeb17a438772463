"""``train_lstm``: from texts to the package of an LSTM language model."""

from __future__ import annotations

import logging
import math
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from asr.progress import Progress
from asr.engine.checkpoint import LAST
from asr.errors import ConfigError, PackageError
from asr.files import locked, remove_folder, replacing_folder, tidy
from asr.interrupts import Interruption
from asr.language.config import LstmConfig, LstmTraining
from asr.language.lstm import LstmModel, LstmNetwork
from asr.language.lstm_data import as_rows
from asr.language.lstm_package import write_lstm
from asr.language.lstm_run import Position, RunRecord, find_run, save_run
from asr.language.lstm_step import Stepper
from asr.language.lstm_text import TrainingText, read_training_text
from asr.language.memory import peak_memory_gib
from asr.language.package import check_replaceable, load_language_model
from asr.language.perplexity import Perplexity, measure
from asr.model.device import has_bfloat16

logger = logging.getLogger(__name__)

INTERRUPTED = 130
WORKING = ".training"
"""Ends the name of the folder with checkpoint and log; it lies beside the package, and goes when training is complete."""
_PACKAGE = "package"
_LOG = "train.log"
_LINE_INTERVAL_S = 30.0


def train_lstm(config: LstmTraining) -> int:
    """Train an LSTM and write its package to ``config.output``.

    The checkpoint, and the package of the best weights so far, are kept in ``<output>.training``; at the end the package is put
    in its place.

    Parameters
    ----------
    config
        A checked configuration.

    Returns
    -------
    int
        0 when training is complete, 130 when the user stopped it.

    Raises
    ------
    ConfigError, DataError
        For texts or a folder that cannot be used.
    TrainingDiverged
        If the loss is no longer finite.
    """
    start = time.monotonic()
    folder = Path(config.output).absolute()
    tidy(folder.parent)
    check_replaceable(folder)
    device, precision = choose_device(config.lm)
    with _working_folder(folder) as working:
        with _logging_to(working / _LOG):
            text = read_training_text(config, working / "text")
            run = Run(config, text, working, device, precision)
            if not run.train():
                logger.info(f"stopped in epoch {run.position.epoch + 1}; the same command goes on from {working}")
                return INTERRUPTED
            best = run.position.best
            result = f"perplexity {best:.2f}" if math.isfinite(best) else "last weights"
            used = f"{time.monotonic() - start:.0f} s, peak memory {peak_memory_gib():.2f} GiB"
            logger.info(f"done in {used}: {result}; language model package {config.output}")
        with replacing_folder(folder) as package:
            shutil.copytree(working / _PACKAGE, package, dirs_exist_ok=True)
            shutil.copyfile(working / _LOG, package / _LOG)
        remove_folder(working)
    return 0


def choose_device(config: LstmConfig) -> tuple[torch.device, torch.dtype]:
    """Return where and in which precision to train.

    Raises
    ------
    ConfigError
        A GPU is asked for and there is none, or bfloat16 where the processor does not compute it.
    """
    if config.accelerator == "gpu" and not torch.cuda.is_available():
        raise ConfigError("lm.accelerator=gpu, but torch finds no GPU here; choose lm.accelerator=cpu")
    device = torch.device("cuda" if config.accelerator != "cpu" and torch.cuda.is_available() else "cpu")
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.set_flush_denormal(True)
    fits = has_bfloat16(device)
    if config.precision == "bfloat16" and not fits:
        raise ConfigError("lm.precision=bfloat16: the processor does not compute bfloat16; choose lm.precision=float32")
    return device, torch.bfloat16 if fits and config.precision != "float32" else torch.float32


class Run:
    """A training run.

    Parameters
    ----------
    config
        A checked configuration.
    text
        What to train on.
    working
        Folder for the checkpoint and the package of the best weights.
    device, precision
        Where and in which precision to train.

    Attributes
    ----------
    position
        How far it has come.
    """

    def __init__(
        self, config: LstmTraining, text: TrainingText, working: Path, device: torch.device, precision: torch.dtype
    ) -> None:
        self.config, self.text, self.working, self.device = config, text, working, device
        torch.manual_seed(config.seed)
        network = LstmNetwork(config.lm, len(text.vocabulary) + 2).to(device)
        normalised = config.lm.self_normalisation > 0
        self.model = LstmModel(network, text.units, text.vocabulary.units, text.form, "", self_normalised=normalised)
        counts = torch.from_numpy(text.train.counts(len(self.model), self.model.end)).to(device)
        with torch.no_grad():  # starts out as the units' frequencies
            network.bias.copy_((counts.clamp(min=0.5) / counts.sum()).log())
        n_positions = len(text.train.values) + len(text.train)
        self.n_windows = math.ceil(n_positions // config.lm.rows / config.lm.steps)
        total_steps = self.n_windows * config.lm.epochs
        self.stepper = Stepper(config.lm, network, counts, seed=config.seed, total_steps=total_steps, precision=precision)
        self.position = Position()
        self.record = RunRecord.of(config, text, precision)
        found = find_run(working, self.record, self.stepper, self.n_windows, resume=config.resume)
        if found is not None:
            self.position = found
            if (fault := self._package_fault()) is not None:
                logger.warning(f"{fault}. It held the best weights; the best of those to come take their place")
                self.position.best, self.position.stale = math.inf, 0
        n_parameters = sum(parameter.numel() for parameter in network.parameters())
        logger.info(
            f"{config.name}: {n_parameters:,} parameters, {config.lm.epochs} epochs of {self.n_windows:,} steps of "
            f"{config.lm.rows} x {config.lm.steps} {text.units.name}s, {str(precision).removeprefix('torch.')} on {device}"
        )

    def train(self) -> bool:
        """Train to the end and return true, or false where the user stopped it; the checkpoint is then written."""
        self.saved_at = time.monotonic()
        total = self.n_windows * self.config.lm.rows * self.config.lm.steps * self.config.lm.epochs
        with (
            Interruption("step").watch() as interruption,
            _Display(total, self._n_done(), self.text.units.name) as display,
        ):
            while self.position.epoch < self.config.lm.epochs:
                if not self._train_epoch(interruption, display):
                    save_run(self.working, self.record, self.stepper, self.position)
                    return False
                if self._is_stale():
                    logger.info(f"no better perplexity in {self.position.stale} measurements: training ends")
                    break
        fault = self._package_fault()
        if fault is not None:
            logger.warning(f"{fault}. The package is made anew of the run's last weights")
        if fault is not None or math.isinf(self.position.best):
            self.position.best = math.inf
            self._write_package(None)
        return True

    def _package_fault(self) -> str | None:
        """Return what is wrong with the package of the best weights; None where there is none yet, or it is whole."""
        if math.isinf(self.position.best):
            return None
        try:
            load_language_model(self.working / _PACKAGE)
        except PackageError as error:
            return str(error)
        return None

    def _train_epoch(self, interruption: Interruption, display: _Display) -> bool:
        """Train to the end of the epoch, or to where training ends, and return true; false where the user stopped it."""
        settings, position = self.config.lm, self.position
        rows = as_rows(self.text.train.stream(self.model.end, (self.config.seed, position.epoch)), settings.rows)
        inputs, targets = (torch.from_numpy(array) for array in rows)
        measured = {math.ceil(self.n_windows * (k + 1) / settings.validations) for k in range(settings.validations)}
        self.model.network.train()
        while position.window < self.n_windows:
            window = slice(position.window * settings.steps, (position.window + 1) * settings.steps)
            x, y = (part[:, window].to(self.device, torch.long) for part in (inputs, targets))
            loss, position.state = self.stepper.step(x, y, position.state)
            position.window += 1
            display.advance(x.numel(), f"epoch {position.epoch + 1}/{settings.epochs}", loss)
            if position.window in measured and self.text.dev:
                self._measure()
                if self._is_stale():
                    return True
            if interruption.requested:
                return False
            self._save_if_due()
        position.epoch, position.window, position.state = position.epoch + 1, 0, None
        return True

    def _n_done(self) -> int:
        windows = self.position.epoch * self.n_windows + self.position.window
        return windows * self.config.lm.rows * self.config.lm.steps

    def _is_stale(self) -> bool:
        return 0 < self.config.lm.patience <= self.position.stale

    def _save_if_due(self) -> None:
        minutes = self.config.lm.checkpoint_minutes
        if 0 < 60 * minutes < time.monotonic() - self.saved_at:
            save_run(self.working, self.record, self.stepper, self.position)
            self.saved_at = time.monotonic()

    def _measure(self) -> None:
        """Measure the perplexity on dev; the best weights become the package."""
        self.model.network.eval()
        start = time.monotonic()
        perplexity = measure(self.model, self.text.dev)
        self.model.network.train()
        better = perplexity.perplexity < self.position.best
        self.position.stale = 0 if better else self.position.stale + 1
        place = f"epoch {self.position.epoch + 1}/{self.config.lm.epochs}, step {self.position.window:,}/{self.n_windows:,}"
        logger.info(
            f"{place}: dev perplexity {perplexity.perplexity:.2f}{' (best)' if better else ''}, "
            f"known words {perplexity.known_perplexity:.2f}, measured in {time.monotonic() - start:.0f} s"
        )
        if better:
            self.position.best = perplexity.perplexity
            self._write_package(perplexity)

    def _write_package(self, perplexity: Perplexity | None) -> None:
        facts = {
            "text": self.config.text,
            "sentences": self.text.n_sentences,
            "words": self.text.n_words,
            "epoch": round(self._n_done() / (self.n_windows * self.config.lm.rows * self.config.lm.steps), 2),
            "seed": self.config.seed,
            "dev": self.config.dev or (["sentences of the text that were kept out of training"] if self.text.dev else []),
            "dev_perplexity": perplexity.to_mapping() if perplexity else None,
        }
        write_lstm(
            self.working / _PACKAGE,
            self.config.lm,
            self.model,
            self.text.vocabulary,
            facts,
            perplexity,
            name=self.config.name,
            shown_folder=self.config.output,
        )


class _Display:
    """Rate and time left: a line that renews itself on a terminal, a line in the log now and then elsewhere."""

    def __init__(self, total: int, done: int, unit: str) -> None:
        self.total, self.done, self.unit = total, done, f"{unit}s"
        self.began_at, self.began = time.monotonic(), done
        self.shown_at = self.began_at
        self.loss: float | None = None
        self.bar = Progress("training", total, self.unit) if sys.stderr.isatty() else None

    def __enter__(self) -> _Display:
        if self.bar is not None:
            self.bar.resume(self.done)
        return self

    def advance(self, n: int, place: str, loss: float) -> None:
        """Count units as done; ``loss`` is that of the newest step."""
        self.done += n
        self.loss = loss if self.loss is None else 0.98 * self.loss + 0.02 * loss
        label = f"{place}, training perplexity {math.exp(min(self.loss, 700)):.0f}"
        if self.bar is not None:
            self.bar.label = label
            self.bar.advance(n)
            return
        now = time.monotonic()
        if now - self.shown_at > _LINE_INTERVAL_S:
            self.shown_at = now
            rate = (self.done - self.began) / (now - self.began_at)
            left = round((self.total - self.done) / rate)
            logger.info(
                f"{label}, {100 * self.done / self.total:.1f} %, {rate:.0f} {self.unit}/s, {left // 60}:{left % 60:02d} left"
            )

    def __exit__(self, *error: object) -> None:
        if self.bar is not None:
            self.bar.__exit__(None, None, None)


@contextmanager
def _working_folder(folder: Path) -> Iterator[Path]:
    """Give the folder to work in, to one process; where an error leaves nothing in it to go on from, it goes again."""
    working = folder.parent / f"{folder.name}{WORKING}"
    with locked(working / _LOG):
        try:
            yield working
        except BaseException:
            if not (working / LAST).exists() and not (working / _PACKAGE).exists():
                shutil.rmtree(working, ignore_errors=True)
            raise


@contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    """Keep the messages in a file as well."""
    root = logging.getLogger("asr")
    handler = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()
