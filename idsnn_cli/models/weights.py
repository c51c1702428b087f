"""A network's first weights, each tensor drawn by its own name: no other layer has a part in it."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from idsnn_cli.architecture import Architecture
from idsnn_cli.seeding import derive_seed

# What every norm starts with beside its gamma; means and deviations of the input as if it were not normalised.
_CONSTANTS = {"running_mean": 0.0, "running_var": 1.0, "mean": 0.0, "std": 1.0}


def first_state(architecture: Architecture, seed: int) -> dict[str, Tensor]:
    """Every tensor's first value by its canonical name, in network order."""
    return {name: first_value(architecture, name, seed) for name in architecture.tensors()}


def first_value(architecture: Architecture, name: str, seed: int) -> Tensor:
    """The first value of one tensor, float32 on the CPU (batch counters int64).

    Convolutions: He, normal with variance 2 / (out * k * k). Norms: gamma 1, or theta in a spiking network (tdBN),
    beta 0. The linear layer, the biases of attention and ECA's kernels: uniform within 1 / sqrt(fan in), as torch
    draws them. Amplitudes of spikes: 1. Raises :class:`KeyError` for a name that the architecture does not have.
    """
    shapes = _shapes(architecture)
    shape = shapes[name]
    module, _, leaf = name.rpartition(".")
    part = module.rpartition(".")[2]
    if leaf == "num_batches_tracked":
        return torch.tensor(0)
    if leaf in _CONSTANTS:
        return torch.full(shape, _CONSTANTS[leaf])
    if part.startswith("amplitude"):
        return torch.ones(shape)
    if "norm" in part:
        gamma = architecture.neuron.v_threshold if architecture.kind == "spiking" else 1.0
        return torch.full(shape, gamma if leaf == "weight" else 0.0)
    values = torch.empty(shape)
    generator = torch.Generator().manual_seed(derive_seed(seed, "weights", name))
    if leaf == "weight" and len(shape) == 4:
        return values.normal_(0.0, math.sqrt(2.0 / (shape[0] * shape[2] * shape[3])), generator=generator)
    weight = shape if leaf == "weight" else shapes[f"{module}.weight"]
    bound = 1.0 / math.sqrt(math.prod(weight[1:]))
    return values.uniform_(-bound, bound, generator=generator)


@lru_cache(maxsize=4)
def _shapes(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """Of every tensor by name: worked out once, not for each tensor that is drawn."""
    return architecture.tensors()
