"""A run from its settings to its end: where and how it computes, its messages, Lightning's trainer, and what can end it."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer, seed_everything

from asr.config import EngineConfig, get
from asr.config_mapping import to_yaml
from asr.engine.checkpoint import LAST
from asr.engine.data import TrainingData
from asr.engine.display import TrainingDisplay
from asr.engine.loggers import StepValues, build_loggers, logging_curves
from asr.engine.module import TrainingModule
from asr.engine.processes import failure_of_another, failure_of_worker, lost_another, lost_worker
from asr.engine.restoring import check_restorable, misfit
from asr.engine.resume import SETTINGS, RunRecord, Terms, check_same_run
from asr.engine.saving import CheckpointFiles, Checkpoints, Package, Settled, Stopped
from asr.errors import INTERRUPTED, AsrError, ConfigError, DataError
from asr.files import replacing
from asr.model.device import has_bfloat16
from asr.output import showing_messages

logger = logging.getLogger(__name__)

LOG = "train.log"
"""The messages of a run, in its output folder."""


def local_rank() -> int:
    """Return which of the run's processes on this machine this is; Lightning starts all but the first."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def is_main() -> bool:
    """Say whether this is the run's main process, which writes its files."""
    return local_rank() == 0


def uses_gpu(settings: EngineConfig) -> bool:
    """Say whether a run trains on GPUs."""
    return settings.accelerator != "cpu" and torch.cuda.is_available()


def choose_precision(settings: EngineConfig, section: str) -> Any:
    """Return Lightning's name for the precision of a run, whose settings are those of a section.

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
    """Show the main process's messages, keep them in a file, and quieten the others and the libraries' chatter."""
    if not is_main():
        logging.getLogger("asr").setLevel(logging.CRITICAL)
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with showing_messages(path) if is_main() else nullcontext(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning.*")
        warnings.filterwarnings("ignore", message=".*isinstance.*LeafSpec.*")
        yield


class Run:
    """A training run in its folder.

    Parameters
    ----------
    folder
        For checkpoints, settings and logs.
    config
        All settings, which are written down.
    terms
        On which terms the run goes on.
    module, data, package
        What is trained, on what, and where its best weights go.
    digests
        As :class:`RunRecord` has them: of what is trained on, and of what is validated on, if anything is.
    checkpoint
        What the one that it goes on from holds; None begins.
    noise
        As :class:`RunRecord` has it.
    callbacks, loggers, options
        What else watches, where values are logged, and further options of Lightning's trainer.

    Raises
    ------
    ConfigError, DataError
        The run cannot go on from its checkpoint.
    """

    def __init__(
        self,
        folder: Path,
        config: Any,
        terms: Terms,
        module: TrainingModule,
        data: TrainingData,
        package: Package,
        digests: tuple[str, str | None],
        checkpoint: Mapping[str, Any] | None,
        noise: str | None = None,
        callbacks: Sequence[Callback] = (),
        loggers: Sequence[str] = ("tensorboard",),
        **options: Any,
    ) -> None:
        self.folder, self.config, self.terms, self.module, self.data = folder, config, terms, module, data
        settings: EngineConfig = getattr(config, terms.section)
        epochs = get(config, terms.epochs)
        record = RunRecord(asdict(config), *digests, choose_precision(settings, terms.section), data.epoch_batches, noise)
        self.checkpoints = Checkpoints(folder, package, settings.checkpoint_minutes, data, has_dev=record.dev is not None)
        self.resume_from = None if checkpoint is None else folder / LAST
        if checkpoint is not None:
            self.checkpoints.comparable = check_same_run(folder, checkpoint, record, terms, data)
            check_restorable(folder / LAST, checkpoint, module, terms)
        self.loggers = build_loggers(folder, config.name, loggers, checkpoint) if is_main() else []
        self.trainer = Trainer(
            accelerator="gpu" if uses_gpu(settings) else "cpu",
            devices=settings.devices,
            strategy="ddp" if settings.devices > 1 else "auto",
            precision=record.precision,  # type: ignore[arg-type]
            max_epochs=epochs,
            limit_val_batches=0 if record.dev is None else 1.0,
            num_sanity_val_steps=0,
            log_every_n_steps=0,  # StepValues does
            logger=self.loggers,
            callbacks=[
                TrainingDisplay(settings.progress, epochs, data.epoch_batches),
                *callbacks,
                StepValues(settings.log_every),
                self.checkpoints,
            ],
            plugins=[CheckpointFiles(record)],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            default_root_dir=folder,
            **options,
        )

    def train(self) -> int:
        """Train to the end, see that the package is there, and return the exit code: 0, or 130 where the user stopped it.

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
            with self._logging():
                self.trainer.fit(self.module, datamodule=self.data, ckpt_path=self.resume_from, weights_only=True)
        except Stopped:
            epoch = self.trainer.current_epoch + 1
            logger.info(f"stopped in epoch {epoch}; the same command goes on from {self.folder / LAST}")
            return INTERRUPTED if is_main() else 0  # Lightning kills the main process when another ends with an error
        except Settled:
            pass
        except SystemExit as stop:  # Lightning leaves so after a KeyboardInterrupt
            raise KeyboardInterrupt from stop
        except (RuntimeError, LookupError, TypeError, ValueError, AttributeError, AssertionError) as error:
            if (reason := self._explained(error)) is None:
                raise
            raise reason from error
        finally:
            self.data.close()
        if is_main():
            self.checkpoints.finish(self.module)
        return 0

    def _logging(self) -> AbstractContextManager[None]:
        """Open the logs, which are the main process's."""
        if not is_main():
            return nullcontext()
        return logging_curves(self.loggers, self.folder, self.config, resumed=self.resume_from is not None)

    def _explained(self, error: Exception) -> AsrError | None:
        """Return what an error means, where it is not ours."""
        if isinstance(error, RuntimeError):
            if self.trainer.world_size > 1 and lost_another(error):
                return failure_of_another(self.trainer, error, began=self.checkpoints.began)
            if lost_worker(error):
                return failure_of_worker(error)
        if self.resume_from is None or self.checkpoints.began or not misfit(error):
            return None
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        return DataError(f"{self.resume_from}: cannot be gone on from ({reason}). {self.terms.anew}")
