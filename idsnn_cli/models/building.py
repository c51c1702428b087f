"""From a description to a network with first weights, to one of more time steps, and to its device.

Each tensor is drawn by its own name: no other layer has a part in its first weights.
"""

from __future__ import annotations

import math
from functools import lru_cache
from importlib import import_module

import torch
from torch import Tensor, nn

from idsnn_cli.architecture import DECAY_LOGIT, QCFS, START_SHIFT, Architecture, is_scale
from idsnn_cli.errors import UsageError
from idsnn_cli.models.base import Model
from idsnn_cli.rules import RandomKernels
from idsnn_cli.seeding import derive_seed
from idsnn_cli.spiking import first_logit
from idsnn_cli.spiking.memory_layout import kernel_format

# What every norm starts with beside its gamma; means and deviations of the input as if it were not normalised; the
# lambda of QCFS as its authors start it; neurons without a shift of their start.
_CONSTANTS = {"running_mean": 0.0, "running_var": 1.0, "mean": 0.0, "std": 1.0, "limit": 8.0, START_SHIFT: 0.0}


def first_state(architecture: Architecture, seed: int, random: RandomKernels = "he") -> dict[str, Tensor]:
    """Every tensor's first value by its canonical name, in network order."""
    return {name: first_value(architecture, name, seed, random) for name in architecture.tensors()}


def first_value(architecture: Architecture, name: str, seed: int, random: RandomKernels = "he") -> Tensor:
    """The first value of one tensor, float32 on the CPU (batch counters int64).

    Convolutions: ``he``, normal with variance 2 / (out * k * k), or ``torch``, its default (kaiming_uniform with a =
    sqrt(5)), uniform within 1 / sqrt(fan in), fan in = in / groups * k * k. Norms: gamma 1, or theta in a spiking
    network (tdBN), beta 0. The linear layer, the biases of attention and ECA's kernels: uniform within 1 / sqrt(fan
    in), as torch draws them. Amplitudes of spikes and gains: 1. Learnt decays: the neuron's. Shifts of starts: 0.
    Raises :class:`KeyError` for a name that the architecture does not have.
    """
    shapes = _shapes(architecture)
    shape = shapes[name]
    module, _, leaf = name.rpartition(".")
    part = module.rpartition(".")[2]
    if leaf == "num_batches_tracked":
        return torch.tensor(0)
    if leaf in _CONSTANTS:
        return torch.full(shape, _CONSTANTS[leaf])
    if is_scale(name):
        return torch.ones(shape)
    if leaf == DECAY_LOGIT:
        return first_logit(architecture.neuron.decay)
    if "norm" in part:
        gamma = architecture.neuron.v_threshold if architecture.kind == "spiking" else 1.0
        return torch.full(shape, gamma if leaf == "weight" else 0.0)
    values = torch.empty(shape)
    generator = torch.Generator().manual_seed(derive_seed(seed, "weights", name))
    if random == "he" and leaf == "weight" and len(shape) == 4:
        return values.normal_(0.0, math.sqrt(2.0 / (shape[0] * shape[2] * shape[3])), generator=generator)
    weight = shape if leaf == "weight" else shapes[f"{module}.weight"]
    bound = 1.0 / math.sqrt(math.prod(weight[1:]))
    return values.uniform_(-bound, bound, generator=generator)


@lru_cache(maxsize=4)
def _shapes(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """Of every tensor by name: worked out once, not for each tensor that is drawn."""
    return architecture.tensors()


def build(architecture: Architecture, seed: int, random: RandomKernels = "he") -> Model:
    """The network with random weights drawn from ``seed`` as ``random`` says; torch's own generators are not used."""
    network = bare(architecture)
    network.load_state_dict(first_state(architecture, seed, random), assign=True)
    return network


def prolonged(network: Model, timesteps: int) -> Model:
    """The same spiking network, sharing its weights and mode, for ``timesteps`` steps instead of its own T.

    With direct coding its first T steps are those of ``network``; Poisson coding draws other spikes. Raises
    :class:`UsageError` where ``timesteps`` is not more than T.
    """
    require_beyond(network.architecture, timesteps)
    longer = bare(network.architecture.changed(timesteps=timesteps))
    longer.load_state_dict(network.state_dict(), assign=True)
    return longer.train(network.training)


def bare(architecture: Architecture) -> Model:
    """The module on the meta device, where nothing is drawn that would be thrown away."""
    module, _, name = architecture.builder.partition(":")
    with torch.device("meta"):
        network = getattr(import_module(module), name)(architecture)
    assert isinstance(network, Model)
    if isinstance(architecture.activation, QCFS):
        network.share_ranges()
    network.give_starts()
    return network


def require_beyond(architecture: Architecture, timesteps: int) -> None:
    """Raise :class:`UsageError` where ``timesteps`` is not more than the network has, or it reads frames."""
    own = architecture.timesteps
    if architecture.coding == "frames":
        raise UsageError(
            f"{timesteps} time steps: the network reads a frame at each of its {own}, and recordings have no more",
            "Leave --timesteps (eval.timesteps) out.",
        )
    if timesteps <= own:
        raise UsageError(
            f"{timesteps} time steps are not beyond the network's own {own}",
            f"Give more than {own} (--timesteps, eval.timesteps); each of its own is measured anyway.",
        )


def per_step(logits: Tensor) -> Tensor:
    """Logits of either network as (T, N, K); an ANN has one step."""
    return logits if logits.dim() == 3 else logits.unsqueeze(0)


def place(model: nn.Module, device: torch.device, dtype: torch.dtype | None = None) -> None:
    """Bring ``model`` to ``device``, in NHWC order (not on mps), and to ``dtype`` where one is given; in place.

    Dense NHWC maps measured faster on the CPU (1.2 to 2.8 times for the thin ResNets) and suit tensor cores.
    """
    model.to(device, dtype).to(memory_format=kernel_format(device))
