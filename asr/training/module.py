"""One step of training and of validation."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import nn

from asr.config import Config
from asr.crf import CtcCrf
from asr.ctc import consistency_loss, ctc_loss, minimum_frames
from asr.data.augment import SpecAugment
from asr.data.batch import Batch
from asr.decoding import build_decoder
from asr.engine.module import TrainingModule
from asr.engine.processes import gather
from asr.errors import Failure
from asr.model.acoustic import SpeechModel, build_head
from asr.model.norm import LockedDropout
from asr.scoring import Score, score
from asr.text import Tokenizer
from asr.training.averaging import average_decay, update_average
from asr.training.origin import StartingPackage, resumed_origin
from asr.training.schedule import build_optimizer, learning_rate_factor

logger = logging.getLogger(__name__)

TOKENIZER = "tokenizer"
"""Where a checkpoint holds what makes the tokenizer."""

ORIGIN = "origin"
"""Where a checkpoint holds the package that the run started from."""

_AVERAGE = "average."


@dataclass
class Validation:
    """What one pass over the development set has gathered so far."""

    loss: float = 0.0
    n_tokens: int = 0
    references: dict[str, str] = field(default_factory=dict)
    hypotheses: dict[str, str] = field(default_factory=dict)


class SpeechModule(TrainingModule):
    """The speech model with its loss, optimiser and validation.

    Parameters
    ----------
    config
        The whole configuration.
    tokenizer
        Encodes transcripts and decodes hypotheses.
    total_steps
        Optimiser steps of the whole run, for the learning-rate schedule and the averaging of weights.
    """

    section = "optim"
    rate = "{:.0f}x real time"

    def __init__(self, config: Config, tokenizer: Tokenizer, total_steps: int) -> None:
        super().__init__(config.seed)
        self.config = config
        self.tokenizer = tokenizer
        self.total_steps = total_steps
        self.model = SpeechModel(config.frontend, config.model, len(tokenizer))
        self.average: SpeechModel | None = None
        """Moving average of the model's weights and statistics; part of the checkpoint."""
        if config.trainer.average_epochs > 0:
            self.average = copy.deepcopy(self.model).requires_grad_(False)
        self.spec_augment = SpecAugment(config.augment, self.model.frontend.frame_s)
        self.intermediate: nn.Module | None = None
        """Head of the auxiliary loss; it serves training alone and is not part of the package."""
        if config.optim.intermediate_ctc > 0:
            size = self.model.acoustic.recurrent.output_size  # that of every layer
            self.intermediate = build_head(config.model.head, size, len(tokenizer))
        self.crf: CtcCrf | None = None
        """The main loss, where it is not CTC's; part of the checkpoint."""
        if config.optim.loss == "ctc_crf":
            self.crf = CtcCrf(len(tokenizer), config.optim.crf_order, config.optim.crf_ctc_weight)
        self.crf_begun = True
        """Whether training has come to it."""
        self.decoder = build_decoder(config.decoding, tokenizer)
        self.validation = Validation()
        self.origin: StartingPackage | None = None
        """The package that the run started from; part of the checkpoint."""
        self.last_score: Score | None = None
        """WER and CER of the newest validation."""
        self.trial_batch: Batch | None = None
        """Tried before training starts, to see whether memory suffices."""

    @property
    def finished_model(self) -> SpeechModel:
        """What is validated and packaged: the average, or the model itself where none is kept."""
        return self.model if self.average is None else self.average

    @property
    def n_parameters(self) -> int:
        """Weights of the model that is packaged."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    def encode(self, batch: Batch) -> list[list[int]]:
        """Return the target tokens of each utterance."""
        return [self.tokenizer.encode(text) for text in batch.texts]

    def main_loss(self, log_probs: torch.Tensor, n_frames: torch.Tensor, targets: Sequence[Sequence[int]]) -> torch.Tensor:
        """Return the loss of the network's output, summed over a batch."""
        if self.crf is None or not self.crf_begun:
            return ctc_loss(log_probs, n_frames, targets, normalise=False)
        loss: torch.Tensor = self.crf(log_probs, n_frames, targets)
        return loss

    def training_loss(self, batch: Batch) -> torch.Tensor:
        """Return the loss a token of a batch, SpecAugment included."""
        optim, acoustic = self.config.optim, self.model.acoustic
        features, n_frames = self.model.features(batch.waveforms, batch.n_samples)
        targets = self.encode(batch)
        if optim.consistency > 0:  # two views of each, as masks and dropout are drawn for each row
            features, n_frames, targets = features.repeat(2, 1, 1), n_frames.repeat(2), targets * 2
        hidden, n_out = acoustic.hidden(self.spec_augment(features, n_frames), n_frames)
        log_probs = acoustic.head(hidden[-1]).float().log_softmax(2)
        n_tokens = max(1, sum(map(len, targets)))
        loss = self.main_loss(log_probs, n_out, targets) / n_tokens
        if self.intermediate is not None:
            middle = self.intermediate(hidden[len(hidden) // 2 - 1]).float().log_softmax(2)
            loss = (1 - optim.intermediate_ctc) * loss + optim.intermediate_ctc * ctc_loss(middle, n_out, targets)
        if optim.consistency > 0:
            loss = loss + optim.consistency * consistency_loss(log_probs, n_out) / (n_tokens / 2)
        return loss

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        loss = self.training_loss(batch)
        self.note(loss, batch.audio_s, len(batch), batch_idx, f", utterances {', '.join(batch.ids)}")
        return loss

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        self.clip(self.parameters(), self.config.optim.clip_norm, optimizer)
        if self.config.optim.clip_value > 0:
            torch.nn.utils.clip_grad_value_(self.parameters(), self.config.optim.clip_value)

    def configure_optimizers(self) -> Any:
        optimizer = build_optimizer(self, self.config.optim)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate_factor(step, self.total_steps, self.config.optim)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        if self.average is not None:
            settings = self.config.trainer
            horizon = settings.average_epochs * self.total_steps / settings.epochs
            update_average(self.average, self.model, average_decay(self.global_step, horizon))

    def on_fit_start(self) -> None:
        if self.trial_batch is not None:
            self.try_memory(self.trial_batch)
            self.trial_batch = None

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        super().on_train_batch_start(batch, batch_idx)
        self.crf_begun = self.global_step >= self.config.optim.crf_after_fraction * self.total_steps
        ramp = self.config.augment.ramp_fraction * self.total_steps
        for module in self.modules():
            if isinstance(module, SpecAugment | LockedDropout):
                module.strength = min(1.0, self.global_step / ramp) if ramp else 1.0

    def try_memory(self, batch: Batch) -> None:
        """Run the longest batch forward and backward, so that memory that does not suffice is known at once.

        Raises
        ------
        Failure
            If the device's memory does not hold the batch.
        """
        buffers = {name: buffer.clone() for name, buffer in self.named_buffers()}  # batch normalisation's statistics
        devices = [self.device] if self.device.type == "cuda" else []
        try:
            with torch.random.fork_rng(devices), self.trainer.precision_plugin.forward_context():
                loss = self.training_loss(batch.to(self.device))
            loss.backward()
        except torch.OutOfMemoryError as error:
            raise Failure(
                f"the longest batch ({len(batch)} utterances, {batch.audio_s:.0f} s) does not fit the memory of {self.device}. "
                f"Lower trainer.batch_s (now {self.config.trainer.batch_s:g}) or trainer.max_duration_s (now "
                f"{self.config.trainer.max_duration_s:g})."
            ) from error
        finally:
            with torch.no_grad():
                for name, buffer in self.named_buffers():
                    buffer.copy_(buffers[name])
            self.zero_grad(set_to_none=True)

    def taken_up(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """Let a run begin to average, or cease to, where it is resumed."""
        kept = {name: state[name] for name in state if not name.startswith(_AVERAGE)}
        if self.average is None:
            return kept
        began = {f"{_AVERAGE}{name.removeprefix('model.')}": kept[name] for name in kept if name.startswith("model.")}
        return dict(state) if len(kept) < len(state) else kept | began

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self.origin = resumed_origin(checkpoint.get(ORIGIN), self.config)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint[TOKENIZER] = self.tokenizer.to_mapping()
        checkpoint[ORIGIN] = None if self.origin is None else self.origin.to_mapping()

    def on_validation_epoch_start(self) -> None:
        self.validation = Validation()
        self.crf_begun = True  # so that all epochs can be compared

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        log_probs, n_out = self.finished_model(batch.waveforms, batch.n_samples)
        targets = self.encode(batch)
        fits = [row for row, tokens in enumerate(targets) if n_out[row] >= minimum_frames(tokens)]
        if fits:  # the loss of the others is infinite
            fitting = [targets[row] for row in fits]
            self.validation.loss += self.main_loss(log_probs[fits], n_out[fits], fitting).item()
            self.validation.n_tokens += sum(map(len, fitting))
        for utterance, text, hypothesis in zip(batch.ids, batch.texts, self.decoder.decode(log_probs, n_out), strict=True):
            self.validation.references[utterance] = self.decoder.reference(text)
            self.validation.hypotheses[utterance] = hypothesis.text

    def on_validation_epoch_end(self) -> None:
        gathered = merge(gather(self.validation, self.trainer.world_size))
        self.last_score = score(gathered.references, gathered.hypotheses)
        values = {
            "dev/loss": gathered.loss / max(1, gathered.n_tokens),
            "dev/wer": self.last_score.wer.rate,
            "dev/cer": self.last_score.cer.rate,
        }
        self.log_dict(values, rank_zero_only=True)
        self.merit = (values["dev/wer"], values["dev/cer"])
        if self.crf is not None and self.config.decoding.kind in ("greedy", "beam"):  # without a language model they get worse
            self.merit = (values["dev/loss"], values["dev/wer"])
        self.show_samples(gathered)
        if not any(gathered.hypotheses.values()):
            logger.info(
                "every hypothesis is empty: the network writes blanks only. That is usual in the first epochs; if the training "
                "loss stops falling near 3, raise optim.lr, lower trainer.batch_s (more steps) or normalise by batch."
            )

    def validation_line(self) -> str:
        metrics = self.trainer.callback_metrics
        return (
            f"train loss {fmean(self.losses):.3f}, dev loss {metrics['dev/loss']:.3f}, dev WER {metrics['dev/wer']:.2%}, "
            f"dev CER {metrics['dev/cer']:.2%}"
        )

    def show_samples(self, gathered: Validation) -> None:
        """Log a few references with their hypotheses, always of the same utterances."""
        lines = []
        for utterance in sorted(gathered.references)[: self.config.trainer.samples]:
            lines += [f"{utterance}", f"  ref {gathered.references[utterance]}", f"  hyp {gathered.hypotheses[utterance]}"]
        if not lines or not self.trainer.is_global_zero:
            return
        for line in lines:
            logger.info(line)
        for log in self.loggers:
            if isinstance(log, TensorBoardLogger):
                log.experiment.add_text("dev/samples", "    " + "\n    ".join(lines), self.global_step)


def merge(validations: Sequence[Validation]) -> Validation:
    """Return one validation of the utterances of several."""
    merged = Validation()
    for part in validations:
        merged.loss += part.loss
        merged.n_tokens += part.n_tokens
        merged.references |= part.references
        merged.hypotheses |= part.hypotheses
    return merged
