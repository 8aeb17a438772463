"""An LSTM language model as the engine trains it: its loss, its optimisers, what it remembers, its validation."""

from __future__ import annotations

import math
from statistics import fmean
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from asr.engine.checkpoint import check_like
from asr.engine.module import TrainingModule
from asr.engine.processes import gather
from asr.language.config import LstmConfig
from asr.language.lstm import LstmModel, State
from asr.language.model import SentenceScore
from asr.language.perplexity import Perplexity
from asr.language.softmax import Sampler, sampled_cross_entropy

BETAS = (0.9, 0.99)
EPS = 1e-8
MEMORY = "memory"
"""Where a checkpoint holds what the network remembers, ``(process, layer, output and cell, 1, row, unit)``."""
_NEWEST = 50  # batches whose mean loss is shown


class RowAdam(nn.Module):
    """Adam (Kingma and Ba 2015) for the rows of a large table that a step uses.

    Of 60,000 words a step meets a few thousand. The others' rows and moments stay as they are, each row counts its own steps,
    and the cost does not depend on the table's size.

    Parameters
    ----------
    n_rows, n_values
        The table's size.
    """

    def __init__(self, n_rows: int, n_values: int) -> None:
        super().__init__()
        # Parameters, as several processes send each other the buffers in every step.
        self.mean, self.square = (nn.Parameter(torch.zeros(n_rows, n_values), requires_grad=False) for _ in range(2))
        self.n_steps = nn.Parameter(torch.zeros(n_rows, 1), requires_grad=False)

    @torch.no_grad()
    def step(self, table: torch.Tensor, rows: torch.Tensor, gradient: torch.Tensor, lr: float) -> None:
        """Change rows by their gradient.

        Parameters
        ----------
        table
            ``(row, value)``; changed in place.
        rows
            ``(used row,)`` indices, each once.
        gradient
            ``(used row, value)``.
        lr
            Learning rate.
        """
        n_steps = self.n_steps[rows] + 1
        mean = self.mean[rows].lerp_(gradient, 1 - BETAS[0])
        square = self.square[rows].mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
        self.n_steps[rows], self.mean[rows], self.square[rows] = n_steps, mean, square
        scale = (square / (1 - BETAS[1] ** n_steps)).sqrt_().add_(EPS)
        table.index_add_(0, rows, mean / (1 - BETAS[0] ** n_steps) / scale, alpha=-lr)


def rate_factor(done: float, config: LstmConfig) -> float:
    """Return the learning rate as a share of its peak, when a share of all steps is done.

    It rises linearly, then falls along half a cosine (Loshchilov and Hutter 2017).

    Examples
    --------
    >>> config = LstmConfig(warmup_fraction=0.1, final_fraction=0.0)
    >>> [round(rate_factor(done, config), 2) for done in (0.0, 0.05, 0.1, 0.55, 1.0)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    if done < config.warmup_fraction:
        return done / config.warmup_fraction
    fallen = (done - config.warmup_fraction) / (1 - config.warmup_fraction)
    return config.final_fraction + (1 - config.final_fraction) * 0.5 * (1 + math.cos(math.pi * min(1.0, fallen)))


class LstmModule(TrainingModule):
    """The network with its loss, optimisers and validation.

    The embedding's rows have an optimiser of their own, :class:`RowAdam`: those that a step uses are a leaf of its graph.

    Parameters
    ----------
    config
        See :class:`asr.language.config.LstmConfig`.
    model
        Whose network is trained.
    counts
        ``(unit,)`` occurrences in the training text.
    seed
        With the place in the run it decides what dropout and the loss draw.
    total_steps
        Steps of the whole training, for the learning rate.
    """

    section = "lm"

    def __init__(self, config: LstmConfig, model: LstmModel, counts: torch.Tensor, *, seed: int, total_steps: int) -> None:
        super().__init__(seed)
        self.config = config
        self.model = model
        self.network = model.network.train()
        self.total_steps = total_steps
        self.rate = f"{{:,.0f}} {model.unit}s/s"
        self.sampler = Sampler(counts, config.samples) if 0 < config.samples < len(counts) else None
        self.network.embedding.weight.requires_grad_(False)
        self.rows = RowAdam(*self.network.embedding.weight.shape)
        self.trained = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        self.memory = self.no_memory()
        self.scores: list[SentenceScore] = []
        self.perplexity: Perplexity | None = None
        """Of the newest validation."""

    @property
    def epochs_trained(self) -> float:
        return round(self.global_step * self.config.epochs / self.total_steps, 2)

    def no_memory(self) -> torch.Tensor:
        """Return what the network remembers before it has read: ``(layer, output and cell, 1, row, unit)`` zeros."""
        return torch.zeros(self.config.layers, 2, 1, self.config.rows, self.config.hidden_size, device=self.device)

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        self.memory = self.no_memory()

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> torch.Tensor:
        inputs, targets = batch[0].long(), batch[1].long()
        loss, log_sums, self.used, self.weight, state = self.loss(inputs, targets, self.state())
        self.memory = torch.stack([torch.stack(layer) for layer in state.detach().layers]).float()
        self.note(loss.detach(), inputs.numel(), len(inputs), batch_idx)
        return loss + self.config.self_normalisation * log_sums.square().mean()  # Devlin et al. 2014

    def state(self) -> State:
        """Return what the network remembers of the window before."""
        return State(tuple((h, c) for h, c in self.memory.to(self.device)))

    def loss(
        self, inputs: torch.Tensor, targets: torch.Tensor, state: State | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, State]:
        """Compute the loss of a window of the text.

        Parameters
        ----------
        inputs, targets
            ``(row, step)`` indices of units.
        state
            After the window before; None at the beginning.

        Returns
        -------
        loss
            Mean cross-entropy in nats, its denominator estimated.
        log_sums
            ``(position,)`` logarithms of the denominators.
        used, weight
            The rows of the embedding that it depends on, ``(used row,)``, and what they hold, a leaf of the graph.
        state
            After this window.
        """
        table, bias = self.network.embedding.weight, self.network.bias
        if self.sampler is None:
            used = torch.arange(len(table), device=inputs.device)
            weight = table.detach().clone().requires_grad_()
            hidden, state = self.network(inputs, state, weight)
            logits = functional.linear(hidden.flatten(0, 1), weight, bias).float()
            return functional.cross_entropy(logits, targets.flatten()), logits.logsumexp(1), used, weight, state
        drawn, log_inclusion = self.sampler.draw(inputs.device)
        used, local = torch.unique(torch.cat([inputs.flatten(), targets.flatten(), drawn]), return_inverse=True)
        weight = table[used].detach().requires_grad_()
        local_inputs, local_targets, local_drawn = local.split([inputs.numel(), targets.numel(), len(drawn)])
        hidden, state = self.network(local_inputs.view_as(inputs), state, weight)
        hidden = hidden.flatten(0, 1)
        loss, log_sums = sampled_cross_entropy(hidden, local_targets, weight, bias[used], local_drawn, log_inclusion)
        return loss, log_sums, used, weight, state

    def on_after_backward(self) -> None:
        """Average the gradients of the embedding's rows over all processes; Lightning does so with the others."""
        if self.trainer.world_size == 1:
            return
        assert self.weight.grad is not None
        is_used = torch.zeros(len(self.network.embedding.weight), dtype=torch.int32, device=self.device)
        is_used[self.used] = 1
        torch.distributed.all_reduce(is_used)
        used = is_used.nonzero()[:, 0]
        gradient = self.weight.new_zeros(len(used), self.weight.shape[1])
        gradient[torch.searchsorted(used, self.used)] = self.weight.grad / self.trainer.world_size
        torch.distributed.all_reduce(gradient)
        self.used, self.weight = used, self.weight.new_empty(gradient.shape)
        self.weight.grad = gradient

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        self.clip([self.weight, *self.trained], self.config.clip_norm, optimizer)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.trained, lr=self.config.lr, betas=BETAS, eps=EPS)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: rate_factor((step + 1) / self.total_steps, self.config)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(epoch, batch_idx, optimizer, *args, **kwargs)
        assert self.weight.grad is not None
        self.rows.step(self.network.embedding.weight, self.used, self.weight.grad, optimizer.param_groups[0]["lr"])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint[MEMORY] = torch.stack(gather(self.memory.cpu(), self.trainer.world_size))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        check_like(MEMORY, checkpoint[MEMORY], torch.stack([self.no_memory().cpu()] * self.trainer.world_size))
        self.memory = checkpoint[MEMORY][self.global_rank]

    def on_validation_epoch_start(self) -> None:
        self.scores = []

    def validation_step(self, batch: list[list[str]], batch_idx: int) -> None:
        with torch.autocast(self.device.type, enabled=False):  # as the package will be used
            self.scores += self.model.score(batch)

    def on_validation_epoch_end(self) -> None:
        scores = [score for part in gather(self.scores, self.trainer.world_size) for score in part]
        self.perplexity = Perplexity(tuple(scores), self.model.unit)
        self.merit = (self.perplexity.perplexity,)
        self.log("dev/perplexity", self.perplexity.perplexity, rank_zero_only=True)

    def training_line(self) -> str:
        return f"training perplexity {_exp(fmean(self.losses[-_NEWEST:])):.1f}"

    def validation_line(self) -> str:
        assert self.perplexity is not None
        found = f"dev perplexity {self.perplexity.perplexity:.2f}, known words {self.perplexity.known_perplexity:.2f}"
        return f"{self.training_line()}, {found}"


def _exp(value: float) -> float:
    return math.exp(min(value, 700.0))
