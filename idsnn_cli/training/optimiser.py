"""Optimisers, and the learning rate as a pure function of the step, which resumes exactly because it has no state."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from idsnn_cli.recipe.schema import Training

# One-cycle constants of the field (Smith; torch's defaults): rise over 30 %, from lr / 25, down to lr / 25 / 1e4.
ONE_CYCLE_RISE, ONE_CYCLE_START, ONE_CYCLE_END = 0.3, 1 / 25, 1 / 25e4

# The decay of AdamW's second moment (the usual one); the recipe's momentum decays its first.
ADAM_SECOND_MOMENT = 0.999

# Of a group of parameters: what its rate is, in learning rates.
FACTOR = "factor"


def make_optimiser(
    model: nn.Module, config: Training, scales: Mapping[str, float] | None = None
) -> torch.optim.Optimizer:
    """SGD or AdamW over the model's parameters; weight decay leaves out what is no kernel where asked.

    That is BatchNorm, biases, amplitudes, gains, learnt decays and QCFS limits: all but the kernels of convolutions and
    linear layers.
    ``scales`` says by parameter what it was multiplied by when a network was converted, 1 where it is not named. Such a
    parameter p = c q is trained as q would have been: SGD on q moves p by c^2 times what SGD on p does, AdamW's step
    has the size of the rate, so there it is c times; and weight decay takes the same share of both.
    On CUDA it is fused into one kernel a group, and its rate is a tensor there, which a captured step reads.
    """
    adam = config.optimizer == "adamw"
    by_kind: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            spared = parameter.dim() <= 1 and not config.decay_norm_and_bias
            scale = (scales or {}).get(name, 1.0)
            by_kind.setdefault((spared, scale if adam else scale**2), []).append(parameter)
    device = next(iter(by_kind.values()))[0].device
    on_gpu = device.type == "cuda"
    # Kernels first, as resume states have them.
    groups = [
        {
            "params": parameters,
            "weight_decay": 0.0 if spared else config.weight_decay / factor,
            "lr": torch.tensor(config.lr * factor, device=device) if on_gpu else config.lr * factor,
            FACTOR: factor,
        }
        for (spared, factor), parameters in sorted(by_kind.items(), key=lambda item: item[0])
    ]
    fused = True if on_gpu else None
    if adam:
        betas = (config.momentum, ADAM_SECOND_MOMENT)
        return torch.optim.AdamW(groups, lr=config.lr, betas=betas, fused=fused, capturable=on_gpu)
    return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.nesterov, fused=fused)


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Give every group the learning rate times its factor, in the tensor that it has on a GPU."""
    for group in optimiser.param_groups:
        own = rate * group.get(FACTOR, 1.0)
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(own)
        else:
            group["lr"] = own


def optimiser_state(optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """The state dict with rates as numbers, so that any device can read it."""
    state = optimiser.state_dict()
    groups = [{**group, "lr": float(group["lr"])} for group in state["param_groups"]]
    return {**state, "param_groups": groups}


def load_optimiser(optimiser: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Take up ``state``, but keep what belongs to this device: the rate's tensor, and whether steps are fused."""
    kept = ("lr", "fused", "capturable", FACTOR)
    pairs = zip(state["param_groups"], optimiser.param_groups, strict=True)
    groups = [{**stored, **{key: own[key] for key in kept if key in own}} for stored, own in pairs]
    rates = [group["lr"] for group in optimiser.param_groups]
    optimiser.load_state_dict({**state, "param_groups": groups})
    # load_state_dict() copies; a captured step would go on reading the old tensor.
    for group, rate in zip(optimiser.param_groups, rates, strict=True):
        group["lr"] = rate


def learning_rate(config: Training, step: int, steps_per_epoch: int) -> float:
    """The learning rate of optimiser step ``step`` (from 0).

    A warm-up rises linearly and ends at the full rate; ``cosine`` falls to 0 at the end; ``step`` multiplies by gamma
    at each milestone (in epochs) or every ``step_every`` epochs, rounded to whole steps.
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
            drops = step // max(1, round((config.step_every or config.epochs) * steps_per_epoch))
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
