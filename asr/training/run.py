"""``train``: from a configuration to a model package."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.config import Config
from asr.data.batches import evaluation_loader, longest_batch
from asr.data.manifest import read_manifest, transcript
from asr.data.noise import noise_digest
from asr.engine.checkpoint import LAST
from asr.engine.display import show_time
from asr.engine.loggers import IDS, METRICS, check_loggers
from asr.engine.resume import SETTINGS, find_checkpoint
from asr.engine.run import LOG, Run, choose_precision, is_main, logging_to, set_up_torch, uses_gpu
from asr.engine.saving import Checkpoints
from asr.errors import ConfigError
from asr.files import check_output_folder, locked, replacing, tidy
from asr.model.acoustic import SpeechModel
from asr.package.load import ModelPackage, read_package
from asr.package.save import check_replaceable
from asr.text import Tokenizer, build_tokenizer
from asr.training.checks import check_transcripts, leave_out_untrainable, name_unfit
from asr.training.data import SpeechData
from asr.training.denominator import prepare_denominator
from asr.training.gradient_flow import GradientFlow
from asr.training.module import SpeechModule
from asr.training.packaging import SpeechPackage
from asr.training.pretrained import read_pretrained, start_from
from asr.training.resume import TERMS, corpus_digest, kept_tokenizer

if TYPE_CHECKING:
    from lhotse import CutSet

logger = logging.getLogger(__name__)

PACKAGE = "package"
RESULT = "result.json"
"""What a complete run has reached, in its output folder."""

LEFT_OUT_NAME = "left-out.jsonl"
"""Utterances that cannot be trained on, there."""


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
    precision = choose_precision(config.trainer, "trainer")
    check_loggers(config.trainer.loggers)
    if not config.corpus.train:
        raise ConfigError(
            "corpus.train is empty: expected the names of manifests, such as corpus.train=[librispeech/train-clean-5]"
        )
    check_output_folder(folder)
    tidy(folder)
    check_replaceable(folder / PACKAGE)
    _check_own(folder)
    with locked(folder / LOG) if is_main() else nullcontext(), logging_to(folder / LOG):
        cuts = read_manifest(config.corpus.train, config.corpus.manifests)
        checkpoint = find_checkpoint(folder, config, TERMS)
        pretrained = read_pretrained(config, folder / PACKAGE) if checkpoint is None else None
        tokenizer = prepare_tokenizer(config, cuts, checkpoint, pretrained)
        dev = read_dev(config, tokenizer)
        set_up_torch(config.trainer, config.seed)
        sized = SpeechModel(config.frontend, config.model, len(tokenizer))
        if dev is not None:
            name_unfit(dev, config, tokenizer, sized)
        report = folder / LEFT_OUT_NAME if is_main() else None
        trainable = leave_out_untrainable(cuts, config, tokenizer, sized, report)
        data = SpeechData(trainable, dev, config, on_gpu=uses_gpu(config.trainer))
        module = SpeechModule(config, tokenizer, total_steps=data.epoch_batches * config.trainer.epochs)
        if pretrained is not None:
            start_from(module, pretrained)
        announce(config, data, module, precision)
        package = SpeechPackage(folder / PACKAGE, config)
        digests = corpus_digest(cuts), None if dev is None else corpus_digest(dev)
        run = Run(
            *(folder, config, TERMS, module, data, package, digests, checkpoint),
            noise=noise_digest(data.chain.noises),
            callbacks=[GradientFlow(folder)] if config.trainer.gradient_flow else [],
            loggers=config.trainer.loggers,
            check_val_every_n_epoch=config.trainer.validate_every,
            deterministic=config.trainer.deterministic and not data.on_gpu,
        )
        del checkpoint  # it is read again when all else is ready
        prepare_statistics(module, data, run.resume_from)
        if module.crf is not None and run.resume_from is None:  # a resumed run has its n-gram already
            prepare_denominator(module.crf, tokenizer, map(transcript, data.train), config)
        module.trial_batch = longest_batch(data.train, config)
        if (code := run.train()) or not is_main():
            return code
        facts = write_result(folder / RESULT, module, run.checkpoints)
        best = "last weights" if facts["dev_wer"] is None else f"dev WER {facts['dev_wer']:.2%} in epoch {facts['best_epoch']}"
        logger.info(f"done in {show_time(time.monotonic() - start)}: {best}; model package {folder / PACKAGE}")
        return 0


def _check_own(folder: Path) -> None:
    """Refuse a folder with files of the names that a run writes, which no run has written: there is no log of one."""
    if not is_main() or (folder / LOG).exists() or (folder / LAST).exists():
        return
    foreign = next((name for name in (SETTINGS, RESULT, METRICS, IDS, LEFT_OUT_NAME) if (folder / name).exists()), None)
    if foreign is not None:
        raise ConfigError(
            f"{folder}: holds a {foreign} of its own, and no {LOG} of a run; training would overwrite it. Choose another output"
        )


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


def write_result(path: Path, module: SpeechModule, checkpoints: Checkpoints) -> dict[str, Any]:
    """Write and return the figures of a complete run: its weights' hash, size and time, the best epoch and its error rates."""
    package = read_package(checkpoints.package.path)
    validated = checkpoints.best_epoch > 0 and math.isfinite(checkpoints.best_merit[0])
    result = {
        "checkpoint": package.checkpoint_hash,
        "parameters": module.n_parameters,
        "epochs": module.config.trainer.epochs,
        "trained_s": round(module.trained_s, 1),
        "best_epoch": int(checkpoints.best_epoch) if validated else module.config.trainer.epochs,
        "dev_wer": package.facts["dev_wer"]["rate"] if validated else None,
        "dev_cer": package.facts["dev_cer"]["rate"] if validated else None,
    }
    with replacing(path) as file:
        file.write((json.dumps(result, indent=2) + "\n").encode())
    return result
