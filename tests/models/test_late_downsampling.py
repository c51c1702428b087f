"""Stages that end with the block which changes the channels and strides: the same network, drawn otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from foreign import assert_same_logits
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from idsnn_cli.errors import FamilyError
from idsnn_cli.families import recognise
from idsnn_cli.initializer import initialize


class Late(nn.Module):
    """torchvision's names; every stage but the last widens and strides in its last block."""

    def __init__(self, block: Any, depths: tuple[int, ...], widths: tuple[int, ...]) -> None:
        super().__init__()
        entry = widths[0] * block.expansion
        self.conv1, self.bn1 = nn.Conv2d(3, entry, 3, padding=1, bias=False), nn.BatchNorm2d(entry)
        self.depths = depths
        for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
            blocks = []
            for number in range(depth):
                last = number == depth - 1 and stage < len(depths) - 1
                inner = widths[stage + 1] if last else width
                around = None
                if last:
                    outer = inner * block.expansion
                    around = nn.Sequential(nn.Conv2d(entry, outer, 1, 2, bias=False), nn.BatchNorm2d(outer))
                blocks.append(block(entry, inner, 2 if last else 1, around))
                entry = inner * block.expansion
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(entry, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        for stage in range(len(self.depths)):
            y = self.get_submodule(f"layer{stage + 1}")(y)
        logits: Tensor = self.fc(y.mean((2, 3)))
        return logits


class UnderRandomWords(nn.Module):
    """The same under names that say nothing."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.inner = [network]
        modules = [module for module in network.modules() if not list(module.children())]
        for i, module in enumerate(module for module in modules if list(module.parameters(recurse=False))):
            self.add_module(f"{'qzx'[i % 3]}{7919 * i % 1009}", module)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.inner[0].eval()(x)
        return logits


@pytest.mark.parametrize("strange", [False, True], ids=["named", "random words"])
@pytest.mark.parametrize(
    ("block", "depths", "regrouped"),
    [
        (BasicBlock, (3, 3, 3), (2, 3, 4)),
        (BasicBlock, (2, 1, 2), (1, 1, 3)),
        (Bottleneck, (2, 3, 1), (1, 3, 2)),
    ],
)
def test_it_runs_as_its_author_ran_it(
    tmp_path: Path, block: Any, depths: tuple[int, ...], regrouped: tuple[int, ...], strange: bool
) -> None:
    network: nn.Module = Late(block, depths, (8, 16, 24))
    network = UnderRandomWords(network) if strange else network
    found = assert_same_logits(network, tmp_path).architecture
    assert (found.depths, found.traits()["widths"]) == (regrouped, (8, 16, 24))
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    assert recognise(shapes).scheme == ("structure" if strange else "torchvision")


def test_a_student_starts_from_it() -> None:
    state = Late(BasicBlock, (2, 2, 2), (8, 16, 32)).state_dict()
    made = initialize(state, "spiking-resnet20")
    shortcut = {entry.target: entry for entry in made.plan.entries}["stages.1.0.shortcut.conv.weight"]
    assert shortcut.source == "layer1.1.downsample.0.weight"


def test_faults_keep_the_names_of_the_file() -> None:
    shapes = {key: tuple(value.shape) for key, value in Late(BasicBlock, (2, 2, 2), (8, 16, 32)).state_dict().items()}
    del shapes["layer1.1.bn2.running_var"]
    with pytest.raises(FamilyError, match=r"missing: 'layer1\.1\.bn2\.running_var' \(stages\.1\.0\.norm1"):
        recognise(shapes)


def test_a_change_in_the_middle_of_a_stage_is_refused() -> None:
    shapes = {key: tuple(value.shape) for key, value in Late(BasicBlock, (2, 2, 2), (8, 16, 32)).state_dict().items()}
    moved = {f"layer1.2.{key[9:]}" if key.startswith("layer2.0.") else key: v for key, v in shapes.items()}
    with pytest.raises(FamilyError):
        recognise({key.replace("layer2.1", "layer2.0"): shape for key, shape in moved.items()})
