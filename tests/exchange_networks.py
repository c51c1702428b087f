"""Students with norms that do something, so that spikes come through every layer, and images for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from idsnn_cli.architecture import Neuron, build_description
from idsnn_cli.models import Model, build, save
from idsnn_cli.spiking import LIF

NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "thin": ("spiking-resnet8", {}),
    "wide": ("spiking-resnet18", {}),
    "option A": ("spiking-resnet14", {"shortcut": "pad", "neuron": Neuron(0.6, 0.3)}),
    "option A behind": ("spiking-resnet8", {"shortcut": "pad-end", "neuron": Neuron(0.4, 0.9)}),
    "bottlenecks": ("spiking-resnet50", {"width": 4}),
    "integrate": ("spiking-resnet8", {"neuron": Neuron(0.7, 1.0)}),
    "no memory": ("spiking-resnet8", {"neuron": Neuron(0.3, 0.0)}),
    "max-pool": ("spiking-resnet18", {"stem": "7x7"}),
    "sew add": ("spiking-resnet14", {"spiking_block": "sew"}),
    "sew and": ("spiking-resnet8", {"spiking_block": "sew", "join": "and", "neuron": Neuron(0.5, 0.8)}),
    "sew iand": ("spiking-resnet8", {"spiking_block": "sew", "join": "iand", "shortcut": "pad"}),
    "ms": ("spiking-resnet14", {"spiking_block": "ms"}),
    "poisson": ("spiking-resnet8", {"coding": "poisson"}),
    "grey": ("spiking-resnet8", {"in_channels": 1}),
    "folded": ("spiking-resnet8", {"amplitude": "folded", "shortcut": "pad"}),
    "folded by layer": ("spiking-resnet14", {"amplitude": "folded-layer", "shortcut": "pad"}),
    "thresholds": ("spiking-resnet14", {"amplitude": "folded", "shortcut": "pad", "spiking_block": "ms"}),
    "thresholds by layer": ("spiking-resnet8", {"amplitude": "folded-layer", "spiking_block": "ms"}),
    "vgg": ("spiking-vgg11", {}),
    "learnt decays": ("spiking-resnet8", {"learn_decay": "layer"}),
}


def network(name: str, classes: int = 6, **changed: Any) -> Model:
    """One of ``NETWORKS`` in float64 and evaluation mode, its norms, biases and what neurons learn drawn."""
    arch, traits = NETWORKS[name]
    options = {"width": 8, "timesteps": 3, **traits, **changed}
    model = build(build_description(arch, classes, **options), seed=4).double().eval()
    draws = torch.Generator().manual_seed(1)
    for part, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in (
                (module.weight, 0.6, 1.5),
                (module.bias, -0.2, 0.4),
                (module.running_mean, -0.3, 0.3),
                (module.running_var, 0.3, 2.0),
            ):
                assert tensor is not None
                tensor.data.uniform_(low, high, generator=draws)
        elif part.endswith(("amplitude", "gain")):
            getattr(module, "weight", torch.ones(1)).data.uniform_(0.5, 1.5, generator=draws)
        elif isinstance(module, LIF) and module.decay_logit is not None:
            module.decay_logit.data.uniform_(-2, 3, generator=draws)
        if isinstance(module, LIF) and module.start_shift is not None:
            module.start_shift.data.uniform_(-0.3, 0.3, generator=draws)
    channels = model.architecture.in_channels
    model.set_normalisation((0.4, 0.5, 0.45)[:channels], (0.2, 0.25, 0.3)[:channels])
    return model


def images(count: int = 4, side: int = 32, channels: int = 3) -> Tensor:
    draws = torch.Generator().manual_seed(3)
    return torch.rand((count, channels, side, side), generator=draws, dtype=torch.float64)


def saved(folder: Path, model: Model, name: str = "student.safetensors") -> Path:
    path = folder / name
    save(model, path)
    return path
