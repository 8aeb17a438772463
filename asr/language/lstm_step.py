"""One step of an LSTM language model's training."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.nn import functional

from asr.engine.checkpoint import check_like, load_optimiser
from asr.errors import TrainingDiverged
from asr.language.config import LstmConfig
from asr.language.lstm import LstmNetwork, State
from asr.language.softmax import Sampler, sampled_cross_entropy

BETAS = (0.9, 0.99)
EPS = 1e-8


class RowAdam:
    """Adam (Kingma and Ba 2015) for the rows of a large table that a step uses.

    Of 60,000 words a step meets a few thousand. The others' rows and moments stay as they are, each row counts its own steps,
    and the cost does not depend on the table's size.

    Parameters
    ----------
    table
        ``(row, value)``; changed in place.
    """

    def __init__(self, table: torch.Tensor) -> None:
        self.table = table
        self.mean = torch.zeros_like(table)
        self.square = torch.zeros_like(table)
        self.n_steps = torch.zeros(len(table), 1, device=table.device)

    @torch.no_grad()
    def step(self, rows: torch.Tensor, gradient: torch.Tensor, lr: float) -> None:
        """Change rows by their gradient.

        Parameters
        ----------
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
        self.table.index_add_(0, rows, mean / (1 - BETAS[0] ** n_steps) / scale, alpha=-lr)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return the moments and counts."""
        return {"mean": self.mean, "square": self.square, "n_steps": self.n_steps}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Take up moments and counts.

        Raises
        ------
        ValueError
            They are of another table.
        """
        for name, tensor in self.state_dict().items():
            check_like(f"rows.{name}", state[name], tensor)
            tensor.copy_(state[name])


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


class Stepper:
    """The network with its optimisers.

    Parameters
    ----------
    config
        See :class:`asr.language.config.LstmConfig`.
    network
        On the device to train on.
    counts
        ``(unit,)`` occurrences in the training text, on the same device.
    seed
        Decides which units are drawn for the loss.
    total_steps
        Steps of the whole training, for the learning rate.
    precision
        ``float32``, or ``bfloat16`` for mixed precision.
    """

    def __init__(
        self,
        config: LstmConfig,
        network: LstmNetwork,
        counts: torch.Tensor,
        *,
        seed: int,
        total_steps: int,
        precision: torch.dtype,
    ) -> None:
        self.config = config
        self.network = network
        self.total_steps = total_steps
        self.precision = precision
        self.n_steps = 0
        self.sampler = Sampler(counts, config.samples, seed) if 0 < config.samples < len(counts) else None
        network.embedding.weight.requires_grad_(False)  # its rows have an optimiser of their own
        self.rows = RowAdam(network.embedding.weight.data)
        self.parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.Adam(self.parameters, betas=BETAS, eps=EPS)

    def step(self, inputs: torch.Tensor, targets: torch.Tensor, state: State | None) -> tuple[float, State]:
        """Learn from a window of the text.

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
        state
            After this window, without its history.

        Raises
        ------
        TrainingDiverged
            The loss or the gradient is not finite.
        """
        device = inputs.device.type
        with torch.autocast(device, self.precision, enabled=self.precision != torch.float32):
            loss, log_sums, rows, weight, state = self._loss(inputs, targets, state)
            total = loss + self.config.self_normalisation * log_sums.square().mean()  # Devlin et al. 2014
        self.optimizer.zero_grad()
        total.backward()
        assert weight.grad is not None
        limit = self.config.clip_norm or math.inf
        norm = torch.nn.utils.clip_grad_norm_([weight, *self.parameters], limit)
        if not math.isfinite(value := loss.item()) or not math.isfinite(norm.item()):
            raise TrainingDiverged(
                f"the loss is {value} and the gradient's norm {norm.item()} in step {self.n_steps + 1}. The last checkpoint is "
                "kept. Try a lower lm.lr or lm.clip_norm, or a longer lm.warmup_fraction."
            )
        self.n_steps += 1
        lr = self.config.lr * rate_factor(self.n_steps / self.total_steps, self.config)
        self.optimizer.param_groups[0]["lr"] = lr
        self.optimizer.step()
        self.rows.step(rows, weight.grad, lr)
        return value, state.detach()

    def _loss(
        self, inputs: torch.Tensor, targets: torch.Tensor, state: State | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, State]:
        """Return the loss, its denominators' logarithms, the embedding's rows that it used, those as a leaf, and the state."""
        table, bias = self.network.embedding.weight, self.network.bias
        if self.sampler is None:
            rows = torch.arange(len(table), device=inputs.device)
            weight = table.detach().clone().requires_grad_()
            hidden, state = self.network(inputs, state, weight)
            logits = functional.linear(hidden.flatten(0, 1), weight, bias).float()
            return functional.cross_entropy(logits, targets.flatten()), logits.logsumexp(1), rows, weight, state
        drawn, log_inclusion = self.sampler.draw()
        used = torch.cat([inputs.flatten(), targets.flatten(), drawn])
        rows, local = torch.unique(used, return_inverse=True)
        weight = table[rows].detach().requires_grad_()
        local_inputs, local_targets, local_drawn = local.split([inputs.numel(), targets.numel(), len(drawn)])
        hidden, state = self.network(local_inputs.view_as(inputs), state, weight)
        hidden = hidden.flatten(0, 1)
        loss, log_sums = sampled_cross_entropy(hidden, local_targets, weight, bias[rows], local_drawn, log_inclusion)
        return loss, log_sums, rows, weight, state

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the next step depends on, the generators of random numbers included."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rows": self.rows.state_dict(),
            "n_steps": self.n_steps,
            "drawing": self.sampler.generator.get_state() if self.sampler else None,
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state() if self.rows.table.is_cuda else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what :meth:`state_dict` returned.

        Raises
        ------
        KeyError, TypeError, ValueError, RuntimeError
            It is of another network, or no state.
        """
        self.network.load_state_dict(state["network"])
        for name, tensor in self.network.state_dict().items():
            check_like(name, state["network"][name], tensor)
        load_optimiser(self.optimizer, state["optimizer"], {p: name for name, p in self.network.named_parameters()})
        self.rows.load_state_dict(state["rows"])
        self.n_steps = int(state["n_steps"])
        torch.set_rng_state(state["random"])
        # A run that goes on elsewhere draws other numbers, which is as good.
        if self.sampler and state["drawing"] is not None and state["drawing"].shape == self.sampler.generator.get_state().shape:
            self.sampler.generator.set_state(state["drawing"])
        if self.rows.table.is_cuda and state["random_cuda"] is not None:
            torch.cuda.set_rng_state(state["random_cuda"])
