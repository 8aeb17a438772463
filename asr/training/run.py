"""``train``: from a configuration to a model package."""

from __future__ import annotations

import logging
import os
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.loggers import TensorBoardLogger

from asr.card import build_card
from asr.config import Config, from_mapping, to_yaml
from asr.data.batches import count_batches, longest_batch
from asr.data.manifest import read_manifest, replacing
from asr.errors import ConfigError, DataError, PackageError
from asr.model.acoustic import SpeechModel
from asr.package import write_package
from asr.text import build_tokenizer
from asr.training.checkpoints import LAST, Checkpoints, RandomState, Stopped
from asr.training.checks import check_transcripts, leave_out_untrainable
from asr.training.data import SpeechData
from asr.training.module import SpeechModule
from asr.training.processes import failure_of_another, lost_another
from asr.training.progress import Progress, show_time

if TYPE_CHECKING:
    from lhotse import CutSet

logger = logging.getLogger(__name__)

PACKAGE = "package"
SHAPING = ("tokens", "frontend", "model", "optim")
INTERRUPTED = 130


def train(config: Config) -> int:
    """Train a model and write its package to ``<output>/package``.

    Parameters
    ----------
    config
        A checked configuration.

    Returns
    -------
    int
        0 when the run is complete, 130 when the user stopped it.

    Raises
    ------
    ConfigError, DataError, AudioError
        Before the first step, for what can be known to be wrong by then.
    TrainingDiverged
        If the loss is no longer finite.
    """
    start = time.monotonic()
    folder = Path(config.output)
    is_main = int(os.environ.get("LOCAL_RANK", "0")) == 0
    precision = choose_precision(config)
    with logging_to(folder / "train.log", is_main):
        tokenizer = build_tokenizer(config.tokens)
        if not config.corpus.train:
            raise ConfigError(
                "corpus.train is empty: expected the names of manifests, such as corpus.train=[librispeech/train-clean-5]"
            )
        cuts = read_manifest(config.corpus.train, config.corpus.manifests)
        dev = read_manifest(config.corpus.dev, config.corpus.manifests) if config.corpus.dev else None
        resume_from = claim_output(folder, config, is_main)
        if config.trainer.threads:
            torch.set_num_threads(config.trainer.threads)
        torch.set_flush_denormal(True)
        seed_everything(config.seed, verbose=False)
        check_transcripts(cuts, tokenizer, "corpus.train")
        if dev is not None:
            if len(dev) < config.trainer.devices:
                raise ConfigError(
                    f"trainer.devices={config.trainer.devices}: more processes than the {len(dev)} utterances of corpus.dev"
                )
            check_transcripts(dev, tokenizer, "corpus.dev")
        else:
            logger.warning("corpus.dev is empty: no validation; the package will hold the last weights, not the best")
        report = folder / "left-out.jsonl" if is_main else None
        cuts = leave_out_untrainable(
            cuts, config, tokenizer, SpeechModel(config.frontend, config.model, len(tokenizer)), report
        )
        data = SpeechData(cuts, dev, config)
        epoch_batches = count_batches(cuts, config, world_size=config.trainer.devices)
        module = SpeechModule(config, tokenizer, total_steps=epoch_batches * config.trainer.epochs)
        announce(config, cuts, dev, module, epoch_batches, precision)
        trainer, checkpoints = build_trainer(config, module, data, epoch_batches, precision)
        prepare_statistics(module, data, resume_from)
        module.trial_batch = longest_batch(cuts, config)
        try:
            trainer.fit(module, datamodule=data, ckpt_path=resume_from, weights_only=True)
        except Stopped:
            logger.info(f"stopped in epoch {trainer.current_epoch + 1}; the same command goes on from {folder / LAST}")
            return INTERRUPTED if is_main else 0  # Lightning kills the main process when another ends with an error
        except SystemExit as stop:  # Lightning leaves so after a KeyboardInterrupt
            raise KeyboardInterrupt from stop
        except RuntimeError as error:
            if trainer.world_size > 1 and lost_another(error):
                raise failure_of_another(trainer) from error
            raise
        best = f"dev WER {checkpoints.best_wer:.2%} in epoch {checkpoints.best_epoch}" if dev is not None else "last weights"
        logger.info(f"done in {show_time(time.monotonic() - start)}: {best}; model package {folder / PACKAGE}")
        return 0


def choose_precision(config: Config) -> Any:
    """Return Lightning's name for ``trainer.precision``."""
    on_gpu = config.trainer.accelerator != "cpu" and torch.cuda.is_available()
    names = {
        "auto": "bf16-mixed" if on_gpu else "32-true",
        "float32": "32-true",
        "bfloat16": "bf16-mixed",
        "float16": "16-mixed",
    }
    if config.trainer.precision == "float16" and not on_gpu:
        raise ConfigError("trainer.precision=float16 needs a GPU; on a CPU choose float32 or bfloat16")
    if config.trainer.accelerator == "gpu" and not torch.cuda.is_available():
        raise ConfigError("trainer.accelerator=gpu, but torch finds no GPU here; choose trainer.accelerator=cpu")
    return names[config.trainer.precision]


@contextmanager
def logging_to(path: Path, is_main: bool) -> Iterator[None]:
    """Show messages as plain lines on standard output and in a file, and quieten the libraries' chatter."""
    root = logging.getLogger("asr")
    handlers: list[logging.Handler] = []
    if is_main:
        path.parent.mkdir(parents=True, exist_ok=True)
        handlers = [logging.StreamHandler(sys.stdout), logging.FileHandler(path, encoding="utf-8")]
        for handler in handlers:
            handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
            root.addHandler(handler)
    root.setLevel(logging.INFO if is_main else logging.CRITICAL)
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


def claim_output(folder: Path, config: Config, is_main: bool) -> Path | None:
    """Write the configuration into the output folder and return the checkpoint to go on from, if there is one.

    Raises
    ------
    ConfigError
        If the folder holds a run that this one cannot go on with.
    DataError
        If its checkpoint is corrupt.
    """
    last = folder / LAST
    settings = folder / "config.yaml"
    if last.exists():
        if not config.resume:
            raise ConfigError(
                f"{folder} holds a run already, and resume=false: choose another folder with output=..., or resume it"
            )
        if settings.exists():
            try:
                before = from_mapping(yaml.safe_load(settings.read_text(encoding="utf-8")))
            except (yaml.YAMLError, UnicodeDecodeError) as error:
                raise PackageError(f"{settings} cannot be read ({error}); choose another folder with output=...") from error
            for section in SHAPING:
                if getattr(before, section) != getattr(config, section):
                    raise ConfigError(
                        f"{folder} holds a run with another {section}: it cannot be resumed with this one. Choose another "
                        f"folder with output=... (or name=...), or give the settings of {settings}"
                    )
        check_checkpoint(last, config.trainer.epochs)
        logger.info(f"going on from {last}")
    if is_main:
        with replacing(settings) as file:
            file.write(to_yaml(config).encode())
    return last if last.exists() else None


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
        begun = int(torch.load(path, map_location="cpu", weights_only=True)["epoch"]) + 1
    except Exception as error:  # torch raises many kinds for a corrupt file
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"{path}: cannot be read as a checkpoint ({reason}). Remove it to train from the start, or choose another folder "
            "with output=..."
        ) from None
    if begun > epochs:
        raise ConfigError(f"trainer.epochs={epochs}: the run in {path.parent} has begun {begun}; ask for at least as many")


def announce(
    config: Config, cuts: CutSet, dev: CutSet | None, module: SpeechModule, epoch_batches: int, precision: str
) -> None:
    """Say what is about to be trained, on what, and where."""
    hours = sum(cut.duration for cut in cuts) / 3600
    n_parameters = sum(parameter.numel() for parameter in module.parameters())
    logger.info(
        f"{config.name}: {len(cuts)} training utterances, {hours:.2f} h; {len(dev) if dev is not None else 0} for validation"
    )
    logger.info(
        f"{n_parameters:,} parameters, {len(module.tokenizer)} tokens, {1 / module.model.frame_s:.1f} output frames a second; "
        f"{config.trainer.epochs} epochs of {epoch_batches} batches, {precision}, output in {config.output}"
    )


def build_trainer(
    config: Config, module: SpeechModule, data: SpeechData, epoch_batches: int, precision: Any
) -> tuple[Trainer, Checkpoints]:
    """Return Lightning's trainer with our callbacks."""
    settings = config.trainer
    folder = Path(config.output)

    def save_package(trained: Any) -> None:
        write_best(folder / PACKAGE, config, trained)

    checkpoints = Checkpoints(folder, settings.checkpoint_minutes, save_package, has_dev=data.dev is not None)
    on_cpu = settings.accelerator == "cpu" or not torch.cuda.is_available()
    trainer = Trainer(
        accelerator="cpu" if on_cpu else "gpu",
        devices=settings.devices,
        strategy="ddp" if settings.devices > 1 else "auto",
        precision=precision,
        max_epochs=settings.epochs,
        check_val_every_n_epoch=settings.validate_every,
        limit_val_batches=0 if data.dev is None else 1.0,
        num_sanity_val_steps=0,
        log_every_n_steps=settings.log_every,
        logger=TensorBoardLogger(folder, name="", version="tensorboard"),
        callbacks=[Progress(settings.progress, settings.epochs, epoch_batches), checkpoints, RandomState()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        deterministic=settings.deterministic and on_cpu,
        default_root_dir=folder,
    )
    return trainer, checkpoints


def prepare_statistics(module: SpeechModule, data: SpeechData, resume_from: Path | None) -> None:
    """Compute the corpus statistics that ``frontend.normalisation: corpus`` asks for; a resumed run has them already."""
    from asr.data.batches import evaluation_loader

    if data.config.frontend.normalisation != "corpus" or resume_from is not None:
        return
    logger.info("computing the mean and variance of the training features")
    loader = evaluation_loader(data.train, data.config, cache=data.cache)
    module.model.frontend.fit_statistics((batch.waveforms, batch.n_samples) for batch in loader)


def write_best(folder: Path, config: Config, module: SpeechModule) -> None:
    """Write the module's weights, tokenizer and configuration as a model package."""
    score = module.last_score
    facts = {
        "date": date.today().isoformat(),
        "epoch": module.current_epoch + 1,
        "epochs": config.trainer.epochs,
        "seed": config.seed,
        "train": list(config.corpus.train),
        "dev": list(config.corpus.dev),
        "dev_wer": score.wer.to_mapping() if score else None,
        "dev_cer": score.cer.to_mapping() if score else None,
    }
    card = build_card(config, module.model, decoder=module.decoder.signature, score=score, folder=str(folder))
    write_package(folder, config, module.model, module.tokenizer, card, facts)
