"""Small source networks whose every value is its own, for the initializer's tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from idsnn_cli.architecture import Architecture, build_description
from idsnn_cli.initializer import Plan, Rules, make_plan


def ann(depth: int = 8, width: int = 4, classes: int = 5, **options: Any) -> Architecture:
    return build_description(f"resnet{depth}", classes, width=width, **options)


def spiking(depth: int = 8, width: int = 4, classes: int = 5, **options: Any) -> Architecture:
    return build_description(f"spiking-resnet{depth}", classes, width=width, timesteps=2, **options)


def values(architecture: Architecture, seed: int = 0) -> dict[str, Tensor]:
    """A state dict of ``architecture`` with random values, batch counters of 7 and positive variances."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in architecture.tensors().items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(7)
        else:
            drawn = torch.randn(shape, generator=generator)
            state[name] = drawn.abs() + 0.1 if name.endswith(("running_var", "input.std")) else drawn
    return state


def plan_of(
    source: Architecture, target: Architecture, *, without: Callable[[str], bool] | None = None, **rules: Any
) -> Plan:
    """The plan between two of ours, the source lacking the tensors that ``without`` names."""
    names = {name: name for name in source.tensors() if without is None or not without(name)}
    return make_plan(source, target, names, Rules(**rules))
