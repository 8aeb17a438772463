"""One step of training and of validation."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import nn

from asr.config import Config
from asr.crf import CtcCrf
from asr.ctc import consistency_loss, ctc_loss, minimum_frames
from asr.data.augment import SpecAugment
from asr.data.batch import Batch
from asr.decoding import build_decoder
from asr.errors import Failure, TrainingDiverged
from asr.model.acoustic import SpeechModel, build_head
from asr.model.norm import LockedDropout
from asr.scoring import Score, score
from asr.text import Tokenizer
from asr.training.averaging import average_decay, update_average
from asr.training.origin import Origin, resumed_origin
from asr.training.schedule import build_optimizer, learning_rate_factor

logger = logging.getLogger(__name__)

TOKENIZER = "tokenizer"
"""Where a checkpoint holds what makes the tokenizer."""

ORIGIN = "origin"
"""Where a checkpoint holds the package that the run started from."""

TRAINED = "trained_s"
"""Where a checkpoint holds the seconds that training has taken."""


@dataclass
class Validation:
    """What one pass over the development set has gathered so far."""

    loss: float = 0.0
    n_tokens: int = 0
    references: dict[str, str] = field(default_factory=dict)
    hypotheses: dict[str, str] = field(default_factory=dict)


class SpeechModule(LightningModule):
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

    def __init__(self, config: Config, tokenizer: Tokenizer, total_steps: int) -> None:
        super().__init__()
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
        self.origin: Origin | None = None
        """The package that the run started from; part of the checkpoint."""
        self.last_score: Score | None = None
        """WER and CER of the newest validation."""
        self.merit = (float("inf"), float("inf"))
        """What the best weights have least of, as the newest validation has found it."""
        self.trial_batch: Batch | None = None
        """Tried before training starts, to see whether memory suffices."""
        self.audio_s = 0.0
        """Seconds of audio trained on since the epoch began."""
        self.losses: list[float] = []
        """Loss of each batch since the epoch began."""
        self.trained_s = 0.0
        """Seconds that training steps have taken since the run began; part of the checkpoint."""

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
        if not torch.isfinite(loss):
            raise TrainingDiverged(
                f"the loss is {loss.item()} in epoch {self.current_epoch + 1}, batch {batch_idx + 1}, utterances "
                f"{', '.join(batch.ids)}. The last good checkpoint is kept. Try a lower optim.lr or optim.clip_norm, a longer "
                f"optim.warmup_fraction, or look at these utterances."
            )
        self.audio_s += batch.audio_s
        self.losses.append(loss.item())
        self.log("train/loss", loss, batch_size=len(batch))
        return loss

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        limit = self.config.optim.clip_norm or float("inf")
        norm = torch.nn.utils.clip_grad_norm_(self.parameters(), limit)
        if not torch.isfinite(norm) and self.trainer.precision != "16-mixed":
            raise TrainingDiverged(
                f"the gradient's norm is {norm.item()} in epoch {self.current_epoch + 1}, step {self.global_step + 1}. The "
                f"last good checkpoint is kept. Try a lower optim.lr or a longer optim.warmup_fraction."
            )
        if self.config.optim.clip_value > 0:
            torch.nn.utils.clip_grad_value_(self.parameters(), self.config.optim.clip_value)
        self.log("train/gradient_norm", norm)
        self.log("train/lr", optimizer.param_groups[0]["lr"])

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
        # What masks and dropout draw follows from the batch's place in the run, so a resumed run draws the same on every rank.
        place = (self.config.seed, self.current_epoch, batch_idx, self.global_rank)
        torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1)[0]))
        self.crf_begun = self.global_step >= self.config.optim.crf_after_fraction * self.total_steps
        ramp = self.config.augment.ramp_fraction * self.total_steps
        for module in self.modules():
            if isinstance(module, SpecAugment | LockedDropout):
                module.strength = min(1.0, self.global_step / ramp) if ramp else 1.0

    def on_train_epoch_start(self) -> None:
        self.audio_s = 0.0
        self.losses = []

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

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Let a run begin to average, or cease to, where it is resumed, and keep the package that it started from."""
        self.origin = resumed_origin(checkpoint.get(ORIGIN), self.config)
        self.trained_s = float(checkpoint[TRAINED])
        state = checkpoint["state_dict"]
        if self.average is None:
            checkpoint["state_dict"] = {name: state[name] for name in state if not name.startswith("average.")}
        elif not any(name.startswith("average.") for name in state):
            state |= {f"average.{name.removeprefix('model.')}": state[name] for name in state if name.startswith("model.")}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[TRAINED] = self.trained_s
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

    def show_samples(self, gathered: Validation) -> None:
        """Log a few references with their hypotheses, always of the same utterances."""
        lines = []
        for utterance in sorted(gathered.references)[: self.config.trainer.samples]:
            lines += [f"{utterance}", f"  ref {gathered.references[utterance]}", f"  hyp {gathered.hypotheses[utterance]}"]
        if not lines or not self.trainer.is_global_zero:
            return
        for line in lines:
            logger.info(line)
        experiment = getattr(self.logger, "experiment", None)
        if experiment is not None and hasattr(experiment, "add_text"):
            experiment.add_text("dev/samples", "    " + "\n    ".join(lines), self.global_step)


def gather(validation: Validation, world_size: int) -> Sequence[Validation]:
    """Return the validations of all processes."""
    if world_size == 1:
        return [validation]
    gathered: list[Any] = [None] * world_size
    torch.distributed.all_gather_object(gathered, validation)
    return gathered


def merge(validations: Sequence[Validation]) -> Validation:
    """Return one validation of the utterances of several."""
    merged = Validation()
    for part in validations:
        merged.loss += part.loss
        merged.n_tokens += part.n_tokens
        merged.references |= part.references
        merged.hypotheses |= part.hypotheses
    return merged
