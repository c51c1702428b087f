"""Source networks that run, in float64, for the tests of what looks at activations."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from sources import values
from torch import Tensor

from idsnn_cli.architecture import Architecture
from idsnn_cli.architecture import validate as checked
from idsnn_cli.models import Model, Network, build, identify_tensors
from idsnn_cli.networks.resnet.architecture import ResNetArchitecture


def described(block: str, depths: tuple[int, ...], widths: tuple[int, ...], **traits: object) -> Architecture:
    plain = ResNetArchitecture.of(
        kind="ann",
        block="basic" if block == "basic" else "bottleneck",
        depths=depths,
        widths=widths,
        num_classes=5,
    )
    made = plain.changed(**traits)
    checked(made)
    return made


BASIC = described("basic", (2, 3, 2), (4, 6, 8))
OPTION_A = described("basic", (2, 2, 2), (4, 8, 12), shortcut="pad")
OPTION_A_BEHIND = described("basic", (2, 2, 2), (4, 8, 12), shortcut="pad-end")
GROUPED = described("bottleneck", (2, 2), (4, 6), groups=2, inner_widths=(6, 8))
PREACTIVATION = described("basic", (2, 2), (4, 6), preactivation=True)
PREACTIVATION_50 = described("bottleneck", (2, 2), (2, 4), preactivation=True, inner_widths=(6, 8))
DEEP = described(
    *("basic", (2, 2), (4, 6)),
    stem="deep",
    stem_widths=(4, 5, 4),
    shortcut="average",
    attention="se",
    attention_sizes=(3, 4),
)
ALL = {
    "basic": BASIC,
    "option A": OPTION_A,
    "option A, zeros behind": OPTION_A_BEHIND,
    "grouped": GROUPED,
    "pre-activation": PREACTIVATION,
    "pre-activation bottleneck": PREACTIVATION_50,
    "deep": DEEP,
}


def state_of(architecture: Architecture, seed: int = 0) -> dict[str, Tensor]:
    """Random values of both signs in float64, kernels small enough for maps not to explode."""
    state = values(architecture, seed)
    for name, value in state.items():
        if value.dim() == 4:
            state[name] = value / value[0].numel() ** 0.5
    return {name: value.double() if value.is_floating_point() else value for name, value in state.items()}


def running(architecture: Architecture, seed: int = 0) -> Model:
    model = build(architecture, seed=1).double()
    model.load_state_dict(state_of(architecture, seed))
    return model.eval()


def network(model: Model) -> Network:
    state = model.state_dict()
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    return identify_tensors(shapes, state.__getitem__, described=model.architecture)


def labelled(sizes: Sequence[int] = (3, 4), pixels: int = 16, classes: int = 5) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(7)
    drawn = []
    for size in sizes:
        images = torch.rand((size, 3, pixels, pixels), generator=generator, dtype=torch.float64)
        drawn.append((images, torch.randint(classes, (size,), generator=generator)))
    return drawn
