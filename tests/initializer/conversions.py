"""Small ANNs in float64, what conversion makes of them, and the network of rates that spikes tend to."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from idsnn_cli.architecture import Architecture, Neuron, build_description
from idsnn_cli.initializer import Initialization, Rules, initialize
from idsnn_cli.models import Model, build

FIRE = Neuron(1.0, 1.0, reset="soft", start="half")


def images(count: int = 6, side: int = 12) -> Tensor:
    return torch.rand((count, 3, side, side), generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def shown(x: Tensor) -> list[tuple[Tensor, Tensor]]:
    return [(part, torch.zeros(len(part), dtype=torch.int64)) for part in torch.split(x, 4)]


def ann(name: str = "resnet8", *, seed: int = 0, side: int = 12, **options: Any) -> Model:
    """An ANN whose norms have seen images and have uneven gammas, betas and statistics, in float64."""
    model = build(build_description(name, 5, width=4, **options), seed).double()
    model.set_normalisation((0.5, 0.4, 0.6), (0.25, 0.3, 0.2))
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for name_, value in model.named_parameters():
            if value.dim() == 1:
                value.add_(torch.randn(value.shape, generator=generator, dtype=value.dtype) * 0.2)
            elif name_.endswith("limit"):
                value.copy_(1.0 + torch.rand((), generator=generator, dtype=value.dtype))
        for _ in range(40):
            model.train()(images(side=side))
    return model.eval()


def spiking(source: Model, timesteps: int, depth: int = 8, **options: Any) -> Architecture:
    own = source.architecture
    kept: dict[str, Any] = {**own.name_options(), **options}
    kept.setdefault("neuron", FIRE)
    name = f"spiking-resnet{depth}"
    return build_description(name, own.num_classes, width=4, timesteps=timesteps, **kept)


def converted(source: Model, target: Architecture, x: Tensor, **rules: Any) -> tuple[Initialization, Model]:
    chosen: dict[str, Any] = {"convert": "weight-normalisation", "head": "copy", "percentile": 100.0} | rules
    if chosen["convert"] == "learnt-thresholds":
        del chosen["percentile"]
    found = initialize(source, target, rules=Rules(**chosen), images=shown(x), seed=3)
    model = build(target, 0)
    model.load_state_dict(found.state)
    # The state is float32, as every start; what is compared with it is the same in float64.
    return found, model.double().eval()


class Rate(nn.Module):
    """What an integrate-and-fire neuron tends to: the rate clip(current / theta, 0, 1)."""

    def forward(self, x: Tensor, _repeat: int = 1) -> Tensor:
        return x.clamp(0, 1)


class Level(nn.Module):
    """What an integrate-and-fire neuron that starts at half gives of a constant current in ``levels`` steps: a rate."""

    def __init__(self, levels: int, theta: float = 1.0) -> None:
        super().__init__()
        self.levels, self.theta = levels, theta

    def forward(self, x: Tensor, _repeat: int = 1) -> Tensor:
        return torch.floor(x / self.theta * self.levels + 0.5).clamp(0, self.levels) / self.levels


def rates(model: Model, x: Tensor) -> dict[str, Tensor]:
    """The output of every activation."""
    found: dict[str, Tensor] = {}
    names = [name for name, _ in model.architecture.activations()]
    handles = [
        model.get_submodule(name).register_forward_hook(lambda _m, _i, out, name=name: found.__setitem__(name, out))
        for name in names
    ]
    with torch.no_grad():
        found["logits"] = model(x)
    for handle in handles:
        handle.remove()
    return found


def as_rates(model: Model) -> Model:
    """The same weights in a network of rates of one step."""
    twin = build(model.architecture.changed(timesteps=1), 0).double()
    twin.load_state_dict(model.state_dict())
    for name, _ in twin.architecture.activations():
        parent, _, leaf = name.rpartition(".")
        setattr(twin.get_submodule(parent), leaf, Rate())
    return twin.eval()


def space(architecture: Architecture, act: str) -> str:
    if act == "stem.act":
        return "stages.0"
    stage, block, leaf = act.split(".")[1:]
    return f"stages.{stage}" if leaf == "act1" else f"stages.{stage}.{block}.inner0"
