"""AdamW's parameter groups and the learning rate over the run."""

from __future__ import annotations

import math

import torch
from torch import nn

from asr.config import OptimConfig


def learning_rate_factor(step: int, total_steps: int, config: OptimConfig) -> float:
    """Return the learning rate at a step as a share of its peak.

    It rises linearly over ``warmup_fraction`` of all steps, then falls to ``final_fraction`` along half a cosine
    (Loshchilov and Hutter 2017) or a line, or stays.

    Examples
    --------
    >>> [round(learning_rate_factor(s, 100, OptimConfig(schedule="linear", final_fraction=0.0)), 2) for s in (0, 9, 55, 100)]
    [0.1, 1.0, 0.5, 0.0]
    """
    warmup = round(config.warmup_fraction * total_steps)
    if step < warmup:
        return (step + 1) / warmup
    if config.schedule == "constant":
        return 1.0
    done = min(1.0, (step - warmup) / max(1, total_steps - warmup))
    remaining = 1.0 - done if config.schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))
    return config.final_fraction + (1.0 - config.final_fraction) * remaining


def build_optimizer(module: nn.Module, config: OptimConfig) -> torch.optim.AdamW:
    """Return AdamW (Loshchilov and Hutter 2019); only weights of two and more dimensions decay."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    return torch.optim.AdamW(
        [
            {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ],
        lr=config.lr,
        betas=(config.betas[0], config.betas[1]),
        eps=config.eps,
    )
