"""Optimisers, and the learning rate as a pure function of the step, which resumes exactly because it has no state."""

from __future__ import annotations

import math

import torch
from torch import nn

from idsnn_cli.recipe.schema import Training

# One-cycle constants of the field (Smith; torch's defaults): rise over 30 %, from lr / 25, down to lr / 25 / 1e4.
ONE_CYCLE_RISE, ONE_CYCLE_START, ONE_CYCLE_END = 0.3, 1 / 25, 1 / 25e4

# The decay of AdamW's second moment (the usual one); the recipe's momentum decays its first.
ADAM_SECOND_MOMENT = 0.999


def make_optimiser(model: nn.Module, config: Training) -> torch.optim.Optimizer:
    """SGD or AdamW over the model's parameters; weight decay leaves out BatchNorm and biases where asked."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    if config.decay_norm_and_bias:
        groups = [{"params": parameters, "weight_decay": config.weight_decay}]
    else:
        groups = [
            {"params": [p for p in parameters if p.dim() > 1], "weight_decay": config.weight_decay},
            {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
        ]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.lr, betas=(config.momentum, ADAM_SECOND_MOMENT))
    return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.nesterov)


def learning_rate(config: Training, step: int, steps_per_epoch: int) -> float:
    """The learning rate of optimiser step ``step`` (from 0).

    A warm-up rises linearly and ends at the full rate; ``cosine`` falls to 0 at the end; ``step`` multiplies by gamma
    at each milestone (in epochs) or every ``step_every`` epochs.
    """
    total = config.epochs * steps_per_epoch
    if config.schedule == "onecycle":
        return config.lr * _one_cycle(step, total)
    warmup = round(config.warmup_epochs * steps_per_epoch)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    epoch = step // steps_per_epoch
    if config.schedule == "step":
        if config.milestones is not None:
            drops = sum(epoch >= milestone for milestone in config.milestones)
        else:
            drops = epoch // (config.step_every or config.epochs)
        return config.lr * config.gamma**drops
    if config.schedule == "cosine":
        return config.lr * _cosine((step - warmup) / max(total - warmup, 1))
    return config.lr


def _cosine(progress: float) -> float:
    return (1 + math.cos(math.pi * progress)) / 2


def _one_cycle(step: int, total: int) -> float:
    peak = ONE_CYCLE_RISE * total - 1
    if step <= peak:
        return 1 + (ONE_CYCLE_START - 1) * _cosine(step / peak)
    progress = min((step - peak) / max(total - 1 - peak, 1), 1.0)
    return ONE_CYCLE_END + (1 - ONE_CYCLE_END) * _cosine(progress)
