"""What a plan uses of its source, against autograd: a source value is used where some target value depends on it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_checkpoints import random_state, resnet, spiking

from idsnn_cli.architecture import Architecture, build_description
from idsnn_cli.initializer import Findings, Rules, apply, make_plan
from idsnn_cli.models import build
from idsnn_cli.networks.resnet.architecture import ResNetArchitecture
from idsnn_cli.report.inspect.layer_map import describe_mapping
from idsnn_cli.report.inspect.network import is_parameter
from idsnn_cli.report.inspect.source_use import block_of

BOTTLENECK = ResNetArchitecture.of(kind="ann", block="bottleneck", depths=(2, 1, 1), widths=(4, 8, 8), num_classes=10)
DEEP = resnet(14, 4).changed(stem="deep", stem_widths=(2, 3, 4))
GROUPED = BOTTLENECK.changed(groups=2)

CASES: dict[str, tuple[Architecture, Architecture, dict[str, Any]]] = {
    "fewer channels": (resnet(14, 8), spiking(8, 5), {"head": "copy"}),
    "more channels, deeper": (resnet(8, 3), spiking(14, 7), {"blocks": "ends", "multiplicity": "divide"}),
    "uniform": (resnet(8, 6), spiking(8, 4), {"channels": "uniform", "head": "copy"}),
    "random, no shortcut": (resnet(8, 6), spiking(8, 4), {"channels": "random", "shortcut": "random"}),
    "importance": (resnet(8, 6, shortcut="pad"), spiking(8, 4, shortcut="pad"), {"channels": "importance"}),
    "merge": (resnet(8, 6), spiking(8, 4), {"channels": "merge", "head": "copy"}),
    "a smaller stem": (resnet(8, 4, stem="7x7"), spiking(8, 3), {}),
    "a smaller stem by area": (resnet(8, 4, stem="7x7"), spiking(8, 3), {"kernels": "area"}),
    "a larger stem": (resnet(8, 4), spiking(8, 3, stem="7x7"), {}),
    "a deep stem": (DEEP, spiking(8, 3), {}),
    "a deep stem into 7x7": (DEEP, spiking(8, 3, stem="7x7"), {}),
    "folded bottlenecks": (BOTTLENECK, spiking(8, 4), {"channels": "uniform"}),
    "dropped bottlenecks": (BOTTLENECK, spiking(8, 4), {"bottleneck": "drop"}),
    "folded groups": (GROUPED, spiking(8, 3), {"channels": "uniform"}),
    "dropped groups": (GROUPED, spiking(8, 4), {"bottleneck": "drop", "channels": "random"}),
    "some classes": (resnet(), spiking(8, 4, 3), {"head": "map", "class_map": (4, None, 4)}),
    "a missing stage": (resnet(8, 4), build_description("spiking-resnet18", 10, width=4), {}),
}


def findings(source: Architecture) -> Findings:
    generator = torch.Generator().manual_seed(0)
    sizes = source.streams().sizes
    return Findings(
        scores={name: torch.rand(n, generator=generator).tolist() for name, n in sizes.items()},
        correlations={name: torch.corrcoef(torch.randn(n, 50, generator=generator)) for name, n in sizes.items()},
    )


@pytest.mark.parametrize("case", CASES)
def test_used_values_are_those_that_the_student_depends_on(case: str) -> None:
    source, target, rules = CASES[case]
    plan = make_plan(source, target, {name: name for name in source.tensors()}, Rules(**rules), findings(source))
    state = random_state(source)
    for value in state.values():
        if value.is_floating_point():
            value.requires_grad_()
    made = apply(plan, state.__getitem__, build(target, 0).state_dict(), torch.device("cpu"))
    by_block: dict[str, list[torch.Tensor]] = {}
    generator = torch.Generator().manual_seed(1)
    for entry in plan.entries:
        # Running statistics may depend on weights that no trained value does.
        if entry.source is not None and is_parameter(entry.target):
            value = made[entry.target]
            # Random factors, so that no two contributions cancel.
            by_block.setdefault(block_of(entry.target), []).append(
                (value * torch.randn(value.shape, generator=generator)).sum()
            )
    report = describe_mapping(plan).to_dict()
    parameters = [name for name in state if is_parameter(name)]
    used = {name: torch.zeros(state[name].shape, dtype=torch.bool) for name in parameters}
    for block in report["blocks"]:
        if block["share"] is None:
            continue
        total = torch.stack(by_block[block["name"]]).sum()
        gradients = torch.autograd.grad(total, [state[n] for n in parameters], retain_graph=True, allow_unused=True)
        inside = 0
        for name, gradient in zip(parameters, gradients, strict=True):
            if gradient is not None:
                used[name] |= gradient != 0
                inside += int((gradient != 0).sum()) if block_of(name) == block["takes"] else 0
        assert block["share"]["used"] == inside, block["name"]
    assert report["share"]["used"] == sum(int(mask.sum()) for mask in used.values())
    for source_block in report["source_blocks"]:
        inside = sum(int(mask.sum()) for name, mask in used.items() if block_of(name) == source_block["name"])
        assert source_block["share"]["used"] == inside
