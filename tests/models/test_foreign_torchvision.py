"""Networks as torchvision builds them give torchvision's logits: groups, wide bottlenecks, odd stems."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from foreign import HALF, assert_same_logits
from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from idsnn_cli.architecture import Architecture, build_description
from idsnn_cli.checkpoint import write_checkpoint
from idsnn_cli.errors import UsageError
from idsnn_cli.families import BOTTLENECK_STRIDE, recognise
from idsnn_cli.models import load


@pytest.mark.parametrize(
    ("groups", "base", "inner"),
    [
        (4, 8, (32, 64, 128, 256)),  # as ResNeXt-50 32x4d: half as wide again inside
        (8, 8, ()),  # as ResNeXt-101 32x8d would at this width: groups, and the usual widths
        (1, 128, (128, 256, 512, 1024)),  # Wide ResNet-50-2
    ],
    ids=["resnext", "grouped", "wide"],
)
def test_groups_and_wide_bottlenecks(tmp_path: Path, groups: int, base: int, inner: tuple[int, ...]) -> None:
    network = ResNet(Bottleneck, [1, 2, 1, 1], num_classes=7, groups=groups, width_per_group=base)
    found = assert_same_logits(network, tmp_path).architecture
    assert (found.traits().get("groups", 1), found.traits().get("inner_widths", ()), found.traits()["widths"]) == (
        groups,
        inner,
        (64, 128, 256, 512),
    )


@pytest.mark.parametrize("name", ["resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d", "wide_resnet101_2"])
def test_the_public_configurations_are_recognised(name: str) -> None:
    from torchvision import models

    with torch.device("meta"):
        network = getattr(models, name)()
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    found = recognise(shapes)
    assert BOTTLENECK_STRIDE in found.unknown
    assert found.architecture.tensors().keys() - {"input.mean", "input.std"} == found.names.keys()
    assert found.architecture.parameters() == sum(value.numel() for value in network.parameters())
    groups = {conv.groups for conv in network.modules() if isinstance(conv, nn.Conv2d)}
    assert found.architecture.traits().get("groups", 1) == max(groups)
    words = found.architecture.describe()
    assert (f"{max(groups)} groups" in words) is (max(groups) > 1)
    assert "inner widths " in words


def test_a_stem_of_another_width_than_the_first_stage(tmp_path: Path) -> None:
    network = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=5)
    network.conv1, network.bn1 = nn.Conv2d(3, 16, 7, 2, 3, bias=False), nn.BatchNorm2d(16)
    network.layer1[0].conv1 = nn.Conv2d(16, 64, 3, 1, 1, bias=False)
    network.layer1[0].downsample = nn.Sequential(nn.Conv2d(16, 64, 1, bias=False), nn.BatchNorm2d(64))
    found = assert_same_logits(network, tmp_path).architecture
    assert found.traits().get("stem_widths", ()) == (16,)
    assert "16 channels in the stem" in found.describe()


def strides_in_its_1x1(network: ResNet) -> ResNet:
    for block in network.modules():
        if isinstance(block, Bottleneck):
            block.conv1.stride, block.conv2.stride = block.conv2.stride, (1, 1)
    return network


def test_the_position_of_a_bottlenecks_stride_is_the_callers(tmp_path: Path) -> None:
    network = strides_in_its_1x1(ResNet(Bottleneck, [1, 1, 1, 1], num_classes=7))
    found = assert_same_logits(network, tmp_path, bottleneck_stride="1x1")
    assert "strides in the first 1x1" in found.architecture.describe()
    images = torch.rand((2, 3, 32, 32), generator=torch.Generator().manual_seed(1))
    other = load(tmp_path / "theirs.pth", normalise=HALF)
    with torch.no_grad():
        assert not torch.allclose(found(images), other(images), atol=1e-2)


def test_the_position_must_fit_the_file(tmp_path: Path) -> None:
    torch.save(ResNet(BasicBlock, [1, 1, 1, 1]).state_dict(), tmp_path / "basic.pth")
    with pytest.raises(UsageError, match="has no bottlenecks"):
        load(tmp_path / "basic.pth", normalise=HALF, bottleneck_stride="1x1")
    own = build_description("resnet50", 3, width=4)
    model_state = {name: torch.zeros(shape) for name, shape in own.tensors().items()}
    write_checkpoint(tmp_path / "own.safetensors", model_state, {"architecture": own.to_dict()})
    assert isinstance(load(tmp_path / "own.safetensors", bottleneck_stride="3x3").architecture, Architecture)
    with pytest.raises(UsageError, match="says itself"):
        load(tmp_path / "own.safetensors", bottleneck_stride="1x1")
