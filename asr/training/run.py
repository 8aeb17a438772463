"""``train``: from a configuration to a model package."""

from __future__ import annotations

import json
import logging
import math
import os
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.loggers import TensorBoardLogger

from asr.card import build_card
from asr.checkpoint import LAST
from asr.config import Config
from asr.config_mapping import to_yaml
from asr.data.batches import evaluation_loader, longest_batch
from asr.data.manifest import read_manifest, transcript
from asr.data.validate import read_synthesisers
from asr.errors import ConfigError, DataError, StorageError, lacks_memory
from asr.files import check_output_folder, locked, replacing, tidy
from asr.model.acoustic import SpeechModel
from asr.model.device import has_bfloat16
from asr.output import log_handler
from asr.package import ModelPackage, check_replaceable, weights_hash, write_package
from asr.text import Tokenizer, build_tokenizer
from asr.training.checkpoints import CheckpointFiles, Checkpoints, Stopped
from asr.training.checks import check_transcripts, leave_out_untrainable, name_unfit
from asr.training.data import SpeechData
from asr.training.denominator import prepare_denominator
from asr.training.gradient_flow import GradientFlow
from asr.training.module import SpeechModule
from asr.training.pretrained import read_pretrained, start_from
from asr.training.processes import failure_of_another, failure_of_worker, lost_another, lost_worker
from asr.training.progress import Progress, show_time
from asr.training.restoring import check_restorable
from asr.training.resume import SETTINGS, RunRecord, check_same_run, find_checkpoint, kept_tokenizer

if TYPE_CHECKING:
    from lhotse import CutSet

logger = logging.getLogger(__name__)

PACKAGE = "package"
RESULT = "result.json"
"""What a complete run has reached, in its output folder."""
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
    ConfigError, DataError, AudioError, PackageError
        Before the first step, for what can be known to be wrong by then.
    TrainingDiverged
        If the loss is no longer finite.
    """
    start = time.monotonic()
    folder = Path(config.output)
    is_main = int(os.environ.get("LOCAL_RANK", "0")) == 0
    precision = choose_precision(config)
    if not config.corpus.train:
        raise ConfigError(
            "corpus.train is empty: expected the names of manifests, such as corpus.train=[librispeech/train-clean-5]"
        )
    check_output_folder(folder)
    tidy(folder)
    check_replaceable(folder / PACKAGE)
    log = folder / "train.log"
    with locked(log) if is_main else nullcontext(), logging_to(log, is_main):
        cuts = read_manifest(config.corpus.train, config.corpus.manifests)
        checkpoint = find_checkpoint(folder, config)
        resume_from = None if checkpoint is None else folder / LAST
        pretrained = read_pretrained(config, folder / PACKAGE) if checkpoint is None else None
        tokenizer = prepare_tokenizer(config, cuts, checkpoint, pretrained)
        dev = read_dev(config, tokenizer)
        set_up_torch(config)
        sized = SpeechModel(config.frontend, config.model, len(tokenizer))
        if dev is not None:
            name_unfit(dev, config, tokenizer, sized)
        report = folder / "left-out.jsonl" if is_main else None
        trainable = leave_out_untrainable(cuts, config, tokenizer, sized, report)
        data = SpeechData(trainable, dev, config, on_gpu=uses_gpu(config))
        module = SpeechModule(config, tokenizer, total_steps=data.epoch_batches * config.trainer.epochs)
        if pretrained is not None:
            start_from(module, pretrained)
        announce(config, data, module, precision)
        record = RunRecord.of(config, cuts, dev, precision, data.epoch_batches)
        trainer, checkpoints = build_trainer(config, data, record)
        if checkpoint is not None:
            checkpoints.comparable = check_same_run(folder, checkpoint, record)
            check_restorable(folder / LAST, checkpoint, module)
            del checkpoint  # it is read again when all else is ready
        prepare_statistics(module, data, resume_from)
        if module.crf is not None and resume_from is None:  # a resumed run has its n-gram already
            prepare_denominator(module.crf, tokenizer, map(transcript, data.train), config)
        module.trial_batch = longest_batch(data.train, config)
        if is_main:
            with replacing(folder / SETTINGS) as file:
                file.write(to_yaml(config).encode())
        if not fit(trainer, module, data, resume_from, checkpoints):
            logger.info(f"stopped in epoch {trainer.current_epoch + 1}; the same command goes on from {folder / LAST}")
            return INTERRUPTED if is_main else 0  # Lightning kills the main process when another ends with an error
        if is_main:
            checkpoints.finish(module)
            write_result(folder / RESULT, module, checkpoints)
        best = (
            f"dev WER {checkpoints.best_wer:.2%} in epoch {checkpoints.best_epoch}"
            if checkpoints.best_epoch
            else "last weights"
        )
        logger.info(f"done in {show_time(time.monotonic() - start)}: {best}; model package {folder / PACKAGE}")
        return 0


def prepare_tokenizer(
    config: Config, cuts: CutSet, checkpoint: Mapping[str, Any] | None, pretrained: ModelPackage | None
) -> Tokenizer:
    """Return the tokenizer of the run, which its first start makes or takes from the package that it starts from.

    The training transcripts are checked against it.

    Raises
    ------
    ConfigError, DataError
        For transcripts that it cannot be made of, or that it cannot write.
    """
    tokenizer = pretrained.tokenizer if pretrained is not None and not config.trainer.new_head else None
    if checkpoint is not None:
        tokenizer = kept_tokenizer(checkpoint, Path(config.output) / LAST)
    if tokenizer is None:
        tokenizer = build_tokenizer(config.tokens, lambda: map(transcript, cuts))
    check_transcripts(cuts, tokenizer, "corpus.train")
    return tokenizer


def read_dev(config: Config, tokenizer: Tokenizer) -> CutSet | None:
    """Return the utterances to validate with, their transcripts checked.

    Raises
    ------
    ConfigError, DataError
        For manifests that cannot be used.
    """
    if not config.corpus.dev:
        logger.warning("corpus.dev is empty: no validation; the package will hold the last weights, not the best")
        return None
    dev = read_manifest(config.corpus.dev, config.corpus.manifests)
    check_transcripts(dev, tokenizer, "corpus.dev")
    if len(dev) < config.trainer.devices:
        raise ConfigError(
            f"trainer.devices={config.trainer.devices}: more processes than the {len(dev)} utterances of corpus.dev"
        )
    return dev


def set_up_torch(config: Config) -> None:
    """Set threads and seeds."""
    if config.trainer.threads:
        torch.set_num_threads(config.trainer.threads)
    torch.set_flush_denormal(True)
    seed_everything(config.seed, verbose=False)


def fit(trainer: Trainer, module: SpeechModule, data: SpeechData, resume_from: Path | None, checkpoints: Checkpoints) -> bool:
    """Train to the end and return true, or false where the user stopped it.

    Raises
    ------
    KeyboardInterrupt
        If the user did not wait for a clean stop.
    Failure
        If another process of the run was lost.
    DataError
        If what the checkpoint holds cannot be taken up.
    """
    try:
        trainer.fit(module, datamodule=data, ckpt_path=resume_from, weights_only=True)
    except Stopped:
        return False
    except SystemExit as stop:  # Lightning leaves so after a KeyboardInterrupt
        raise KeyboardInterrupt from stop
    except RuntimeError as error:
        if trainer.world_size > 1 and lost_another(error):
            raise failure_of_another(trainer) from error
        if lost_worker(error):
            raise failure_of_worker(error) from error
        if resume_from is None or checkpoints.began or lacks_memory(error):
            raise
        raise unfit(resume_from, error) from error
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, AssertionError) as error:
        if resume_from is None or checkpoints.began:
            raise
        raise unfit(resume_from, error) from error
    finally:
        data.close()
    return True


def unfit(path: Path, error: Exception) -> DataError:
    """Return the error to end with where a checkpoint's states cannot be taken up."""
    reason = " ".join(str(error).split())[:200]
    return DataError(
        f"{path}: cannot be gone on from ({type(error).__name__}: {reason}). Remove it to train from the start, or choose "
        "another folder with output=..."
    )


def uses_gpu(config: Config) -> bool:
    """Say whether a run trains on GPUs."""
    return config.trainer.accelerator != "cpu" and torch.cuda.is_available()


def choose_precision(config: Config) -> Any:
    """Return Lightning's name for ``trainer.precision``."""
    chosen = config.trainer.precision
    on_gpu = uses_gpu(config)
    if chosen == "float16" and not on_gpu:
        raise ConfigError("trainer.precision=float16 needs a GPU; on a CPU choose float32 or bfloat16")
    if config.trainer.accelerator == "gpu" and not torch.cuda.is_available():
        raise ConfigError("trainer.accelerator=gpu, but torch finds no GPU here; choose trainer.accelerator=cpu")
    fits = has_bfloat16(torch.device("cuda" if on_gpu else "cpu"))
    if chosen == "bfloat16" and not fits:
        raise ConfigError("trainer.precision=bfloat16: this processor has no instructions for it; choose auto or float32")
    if chosen == "auto":
        chosen = "bfloat16" if fits else "float32"
    return {"float32": "32-true", "bfloat16": "bf16-mixed", "float16": "16-mixed"}[chosen]


@contextmanager
def logging_to(path: Path, is_main: bool) -> Iterator[None]:
    """Show messages as plain lines on standard output and in a file, and quieten the libraries' chatter."""
    root = logging.getLogger("asr")
    handlers: list[logging.Handler] = []
    if is_main:
        path.parent.mkdir(parents=True, exist_ok=True)
        handlers = [log_handler(), logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")]
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


def announce(config: Config, data: SpeechData, module: SpeechModule, precision: str) -> None:
    """Say what is about to be trained, on what, and where."""
    hours = sum(cut.duration for cut in data.train) / 3600
    n_dev = len(data.dev) if data.dev is not None else 0
    logger.info(f"{config.name}: {len(data.train)} training utterances, {hours:.2f} h; {n_dev} for validation")
    logger.info(
        f"{module.n_parameters:,} parameters, {len(module.tokenizer)} tokens, {1 / module.model.frame_s:.1f} output frames a "
        f"second; {config.trainer.epochs} epochs of {data.epoch_batches} batches, {precision}, output in {config.output}"
    )
    if not module.decoder.writes_words:
        logger.info(
            "the decoder writes phones, not words: dev WER counts the words whose phones are not all right, dev CER the "
            "letters that write the phones"
        )


def build_trainer(config: Config, data: SpeechData, record: RunRecord) -> tuple[Trainer, Checkpoints]:
    """Return Lightning's trainer with our callbacks; ``record`` goes into the checkpoints."""
    settings = config.trainer
    folder = Path(config.output)

    def save_package(trained: Any) -> None:
        write_best(folder / PACKAGE, config, trained)

    checkpoints = Checkpoints(folder, folder / PACKAGE, settings.checkpoint_minutes, save_package, has_dev=data.dev is not None)
    on_cpu = not data.on_gpu
    trainer = Trainer(
        accelerator="cpu" if on_cpu else "gpu",
        devices=settings.devices,
        strategy="ddp" if settings.devices > 1 else "auto",
        precision=record.precision,  # type: ignore[arg-type]
        max_epochs=settings.epochs,
        check_val_every_n_epoch=settings.validate_every,
        limit_val_batches=0 if data.dev is None else 1.0,
        num_sanity_val_steps=0,
        log_every_n_steps=settings.log_every,
        logger=TensorBoardLogger(folder, name="", version="tensorboard"),
        callbacks=[
            Progress(settings.progress, settings.epochs, record.epoch_batches),
            *([GradientFlow(folder)] if settings.gradient_flow else []),
            checkpoints,
        ],
        plugins=[CheckpointFiles(record)],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        deterministic=settings.deterministic and on_cpu,
        default_root_dir=folder,
    )
    return trainer, checkpoints


def prepare_statistics(module: SpeechModule, data: SpeechData, resume_from: Path | None) -> None:
    """Compute the corpus statistics that ``frontend.normalisation: corpus`` asks for.

    A resumed run has them already, and one that started from a package keeps those that the weights were trained with.
    """
    if data.config.frontend.normalisation != "corpus" or resume_from is not None or module.origin is not None:
        return
    logger.info("computing the mean and variance of the training features")
    loader = evaluation_loader(data.train, data.config, memory=data.memory, n_workers=data.n_workers)
    module.model.frontend.fit_statistics((batch.waveforms, batch.n_samples) for batch in loader)
    loader.close()


def write_result(path: Path, module: SpeechModule, checkpoints: Checkpoints) -> None:
    """Write the figures of a complete run: its weights' hash, its size and time, and the best epoch with its error rates."""
    validated = checkpoints.best_epoch > 0 and math.isfinite(checkpoints.best_wer)
    result = {
        "checkpoint": weights_hash(path.parent / PACKAGE),
        "parameters": module.n_parameters,
        "epochs": module.config.trainer.epochs,
        "trained_s": round(module.trained_s, 1),
        "best_epoch": checkpoints.best_epoch if validated else module.config.trainer.epochs,
        "dev_wer": checkpoints.best_wer if validated else None,
        "dev_cer": checkpoints.best_cer if validated else None,
    }
    with replacing(path) as file:
        file.write((json.dumps(result, indent=2) + "\n").encode())


def write_best(folder: Path, config: Config, module: SpeechModule) -> None:
    """Write the module's weights, tokenizer and configuration as a model package."""
    score = module.last_score
    pretrained = None
    if module.origin is not None:
        pretrained = str(module.origin)
        config = module.origin.packaged(config, folder)
    facts = {
        "date": date.today().isoformat(),
        "epoch": min(module.current_epoch + 1, config.trainer.epochs),
        "epochs": config.trainer.epochs,
        "seed": config.seed,
        "train": list(config.corpus.train),
        "dev": list(config.corpus.dev),
        "pretrained": pretrained,
        "dev_wer": score.wer.to_mapping() if score else None,
        "dev_cer": score.cer.to_mapping() if score else None,
    }
    card = build_card(
        config,
        module.finished_model,
        decoder=module.decoder.signature,
        score=score,
        folder=str(folder),
        pretrained=pretrained,
        synthesisers=read_synthesisers(config.corpus.train, config.corpus.manifests),
    )
    try:
        write_package(folder, config, module.finished_model, module.tokenizer, card, facts)
    except OSError as error:
        raise StorageError(
            f"cannot write {folder}: {error.strerror or error}. The package and the checkpoint before it are kept; free some "
            "space and go on."
        ) from error
