"""A run from its settings to its end: where and how it computes, its messages, Lightning's trainer, and what can end it."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.loggers import TensorBoardLogger

from asr.config import EngineConfig, get
from asr.config_mapping import to_yaml
from asr.engine.checkpoint import LAST
from asr.engine.data import TrainingData
from asr.engine.module import TrainingModule
from asr.engine.processes import failure_of_another, failure_of_worker, lost_another, lost_worker
from asr.engine.progress import Progress
from asr.engine.restoring import check_restorable
from asr.engine.resume import SETTINGS, RunRecord, Terms, check_same_run
from asr.engine.saving import CheckpointFiles, Checkpoints, Settled, Stopped
from asr.errors import ConfigError, DataError, lacks_memory
from asr.files import replacing
from asr.model.device import has_bfloat16
from asr.output import log_handler

logger = logging.getLogger(__name__)

INTERRUPTED = 130
LOG = "train.log"
"""The messages of a run, in its output folder."""


def is_main() -> bool:
    """Say whether this is the run's main process, which writes its files; Lightning starts the others."""
    return int(os.environ.get("LOCAL_RANK", "0")) == 0


def uses_gpu(settings: EngineConfig) -> bool:
    """Say whether a run trains on GPUs."""
    return settings.accelerator != "cpu" and torch.cuda.is_available()


def choose_precision(settings: EngineConfig, section: str) -> Any:
    """Return Lightning's name for the precision.

    Parameters
    ----------
    settings
        Of a run.
    section
        What their keys begin with, for messages.

    Raises
    ------
    ConfigError
        A GPU is asked for and there is none, or a precision that the processor does not compute.
    """
    chosen, on_gpu = settings.precision, uses_gpu(settings)
    if chosen == "float16" and not on_gpu:
        raise ConfigError(f"{section}.precision=float16 needs a GPU; on a CPU choose float32 or bfloat16")
    if settings.accelerator == "gpu" and not torch.cuda.is_available():
        raise ConfigError(f"{section}.accelerator=gpu, but torch finds no GPU here; choose {section}.accelerator=cpu")
    fits = has_bfloat16(torch.device("cuda" if on_gpu else "cpu"))
    if chosen == "bfloat16" and not fits:
        raise ConfigError(f"{section}.precision=bfloat16: this processor has no instructions for it; choose auto or float32")
    if chosen == "auto":
        chosen = "bfloat16" if fits else "float32"
    return {"float32": "32-true", "bfloat16": "bf16-mixed", "float16": "16-mixed"}[chosen]


def set_up_torch(settings: EngineConfig, seed: int) -> None:
    """Set threads and seeds."""
    if settings.threads:
        torch.set_num_threads(settings.threads)
    torch.set_flush_denormal(True)
    seed_everything(seed, verbose=False)


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Show the main process's messages as plain lines on standard output and in a file, and quieten the libraries' chatter."""
    root = logging.getLogger("asr")
    handlers: list[logging.Handler] = []
    if is_main():
        path.parent.mkdir(parents=True, exist_ok=True)
        handlers = [log_handler(), logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")]
        for handler in handlers:
            handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
            root.addHandler(handler)
    root.setLevel(logging.INFO if is_main() else logging.CRITICAL)
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning.*")
            warnings.filterwarnings("ignore", message=".*isinstance.*LeafSpec.*")
            yield
    finally:
        for handler in handlers:
            root.removeHandler(handler)
            handler.close()


class Run:
    """A training run in its folder.

    Parameters
    ----------
    folder
        For checkpoints, settings and logs.
    config
        All settings, which are written down.
    settings
        The part of them that says where and how to train.
    record
        What the checkpoints say of the run.
    module, data
        What is trained, and on what.
    checkpoints
        When to save.
    terms
        On which terms the run goes on.
    checkpoint
        What the one that it goes on from holds; None begins.
    callbacks
        What else watches.
    options
        Further ones of Lightning's trainer.

    Raises
    ------
    ConfigError, DataError
        The run cannot go on from its checkpoint.
    """

    def __init__(
        self,
        folder: Path,
        config: Any,
        settings: EngineConfig,
        record: RunRecord,
        module: TrainingModule,
        data: TrainingData,
        checkpoints: Checkpoints,
        terms: Terms,
        checkpoint: Mapping[str, Any] | None,
        callbacks: Sequence[Callback] = (),
        **options: Any,
    ) -> None:
        self.folder, self.config, self.terms = folder, config, terms
        self.module, self.data, self.checkpoints = module, data, checkpoints
        self.resume_from = None if checkpoint is None else folder / LAST
        if checkpoint is not None:
            checkpoints.comparable = check_same_run(folder, checkpoint, record, terms, data)
            check_restorable(folder / LAST, checkpoint, module, terms)
        epochs = get(config, terms.epochs)
        self.trainer = Trainer(
            accelerator="gpu" if uses_gpu(settings) else "cpu",
            devices=settings.devices,
            strategy="ddp" if settings.devices > 1 else "auto",
            precision=record.precision,  # type: ignore[arg-type]
            max_epochs=epochs,
            limit_val_batches=1.0 if checkpoints.has_dev else 0,
            num_sanity_val_steps=0,
            log_every_n_steps=settings.log_every,
            logger=TensorBoardLogger(folder, name="", version="tensorboard"),
            callbacks=[Progress(settings.progress, epochs, record.epoch_batches), *callbacks, checkpoints],
            plugins=[CheckpointFiles(record)],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            default_root_dir=folder,
            **options,
        )

    def train(self) -> int:
        """Train to the end, and see that the package is there.

        Returns
        -------
        int
            The exit code: 0 when the run is complete, 130 when the user stopped it.

        Raises
        ------
        KeyboardInterrupt
            If the user did not wait for a clean stop.
        Failure
            If another process of the run was lost.
        DataError
            If what the checkpoint holds cannot be taken up.
        """
        if is_main():
            with replacing(self.folder / SETTINGS) as file:
                file.write(to_yaml(self.config).encode())
        try:
            self._fit()
        except Stopped:
            epoch = self.trainer.current_epoch + 1
            logger.info(f"stopped in epoch {epoch}; the same command goes on from {self.folder / LAST}")
            return INTERRUPTED if is_main() else 0  # Lightning kills the main process when another ends with an error
        except Settled:
            pass
        finally:
            self.data.close()
        if is_main():
            self.checkpoints.finish(self.module)
        return 0

    def _fit(self) -> None:
        try:
            self.trainer.fit(self.module, datamodule=self.data, ckpt_path=self.resume_from, weights_only=True)
        except SystemExit as stop:  # Lightning leaves so after a KeyboardInterrupt
            raise KeyboardInterrupt from stop
        except (RuntimeError, KeyError, IndexError, TypeError, ValueError, AttributeError, AssertionError) as error:
            if isinstance(error, RuntimeError):
                if self.trainer.world_size > 1 and lost_another(error):
                    raise failure_of_another(self.trainer) from error
                if lost_worker(error):
                    raise failure_of_worker(error) from error
            if self.resume_from is None or self.checkpoints.began or lacks_memory(error):
                raise
            reason = " ".join(str(error).split())[:200]
            raise DataError(
                f"{self.resume_from}: cannot be gone on from ({type(error).__name__}: {reason}). {self.terms.anew}"
            ) from error
