"""Operations against a count on the running network, and what reaching an accuracy costs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from idsnn_cli.architecture import Architecture, build_description, forward_macs, training_macs
from idsnn_cli.models import build
from idsnn_cli.networks.resnet.architecture import ResNetArchitecture

DEEP = {"stem": "deep", "stem_widths": (4, 4, 8), "stem_padding": 1}
ODD: dict[str, dict[str, Any]] = {
    "bottleneck, groups, SE": {"groups": 2, "inner_widths": (8, 16), "attention": "se", "attention_sizes": (4, 6)},
    "first 1x1 strides, ECA": {"bottleneck_stride": "1x1", "attention": "eca", "attention_sizes": (3, 5)},
    "deep stem, averages": {**DEEP, "stem_pool": "average", "bottleneck_stride": "average", "shortcut": "average"},
    "averages beside projections": {"bottleneck_stride": "average"},
    "unpadded pool": {"stem": "7x7", "stem_padding": 3, "stem_pool": "ceil"},
    "strided deep stem": {**DEEP, "stem_pool": "convolution"},
    "option A": {"block": "basic", "shortcut": "pad"},
    "pre-activation": {"preactivation": True},
}


def counted(architecture: Architecture, height: int, width: int) -> int:
    """MACs of one image, seen at every layer as it runs: outputs times the weights behind each."""
    network = build(architecture, 0).eval()
    network.input.std.fill_(1)
    total = 0

    def look(module: nn.Module, inputs: object, output: torch.Tensor) -> None:
        nonlocal total
        weight = module.weight
        assert isinstance(weight, torch.Tensor)
        total += output.numel() * weight[0].numel()

    for module in network.modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
            module.register_forward_hook(look)
    with torch.no_grad():
        network(torch.rand(1, 3, height, width))
    return total


@pytest.mark.parametrize("case", list(ODD))
@pytest.mark.parametrize("size", [(32, 32), (33, 45)])
def test_macs_of_anns_of_every_kind_are_those_of_the_running_network(case: str, size: tuple[int, int]) -> None:
    plain = {"kind": "ann", "block": "bottleneck", "depths": (1, 2), "widths": (8, 16), "num_classes": 5}
    architecture = ResNetArchitecture.of(**{**plain, **ODD[case]})
    assert forward_macs(architecture, *size) == counted(architecture, *size)


@pytest.mark.parametrize("name", ["spiking-resnet8", "spiking-resnet18"])
@pytest.mark.parametrize("coding", ["direct", "poisson"])
@pytest.mark.parametrize("stem", ["3x3", "7x7"])
def test_macs_of_spiking_networks_count_their_time_steps(name: str, coding: Any, stem: Any) -> None:
    architecture = build_description(name, 10, width=4, stem=stem, timesteps=3, coding=coding)
    assert forward_macs(architecture, 16, 16) == counted(architecture, 16, 16)


def test_the_papers_networks_cost_what_is_known_of_them() -> None:
    # ResNet-34 and ResNet-18 with a CIFAR stem: 1.16 and 0.56 G multiply-accumulates an image.
    teacher, student = (forward_macs(build_description(name, 100), 32, 32) for name in ("resnet34", "resnet18"))
    assert teacher / 1e9 == pytest.approx(1.16, abs=0.005)
    assert student / 1e9 == pytest.approx(0.556, abs=0.005)
    assert training_macs(student, teacher) == 3 * student + teacher
