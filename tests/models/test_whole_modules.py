"""Whole pickled modules as networks: the function is the module's own, and what its layers tell is looked at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision
from plain_resnet import plain
from torch import nn
from torch.nn import functional as F

from idsnn_cli import load
from idsnn_cli.errors import FamilyError
from idsnn_cli.report.inspect.checkpoint import describe_checkpoint

HALF = ((0.5,) * 3, (0.5,) * 3)


def network() -> nn.Module:
    """torchvision's ResNet-18, its statistics random too, in float64 and evaluation mode."""
    torch.manual_seed(0)
    model: nn.Module = torchvision.models.resnet18(num_classes=5)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.get_buffer("running_mean").normal_(std=0.2)
            module.get_buffer("running_var").uniform_(0.5, 1.5)
    return model.double().eval()


@pytest.mark.slow
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("wrap", [lambda net: net, nn.DataParallel, lambda net: {"epoch": 2, "model": net}])
def test_the_function_is_the_modules_own(wrap: Callable[[nn.Module], object], zipped: bool, tmp_path: Path) -> None:
    theirs, path = network(), tmp_path / "net.pth"
    torch.save(wrap(theirs), path, _use_new_zipfile_serialization=zipped)
    ours = load(path, normalise=HALF)
    images = torch.rand((2, 3, 64, 64), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs((images - 0.5) / 0.5), rtol=1e-9, atol=1e-9)
    assert "whole pickled module" in str(describe_checkpoint(path).choice)


def smooth(model: nn.Module) -> None:
    model.get_submodule("layer2.0").register_module("relu", nn.SiLU())


def large_eps(model: nn.Module) -> None:
    model.get_submodule("layer1.1.bn2").__dict__["eps"] = 1e-3


def dilated(model: nn.Module) -> None:
    model.get_submodule("layer3.1.conv1").__dict__["dilation"] = (2, 2)


def reflecting(model: nn.Module) -> None:
    model.get_submodule("conv1").__dict__["padding_mode"] = "reflect"


def late(model: nn.Module) -> None:
    block = model.get_submodule("layer2.0")
    block.get_submodule("conv1").__dict__["stride"] = (1, 1)
    block.get_submodule("conv2").__dict__["stride"] = (2, 2)


def small_stem_steps(model: nn.Module) -> None:
    model.get_submodule("conv1").__dict__["stride"] = (1, 1)


def unpadded(model: nn.Module) -> None:
    model.get_submodule("layer1.0.conv2").__dict__["padding"] = (0, 0)


def unpooled(model: nn.Module) -> None:
    model.register_module("maxpool", nn.Identity())


def blurred(model: nn.Module) -> None:
    model.get_submodule("layer2.0").register_module("pool", nn.AvgPool2d(2))


def smooth_function(model: nn.Module) -> None:
    model.get_submodule("layer2.0").__dict__["act"] = F.silu


class Standardised(nn.Conv2d):
    """Computes something else with the tensors of a convolution."""


def standardised(model: nn.Module) -> None:
    model.get_submodule("layer1.0.conv1").__class__ = Standardised


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (late, r"'layer2.0.conv1' has stride \(1, 1\), where a network here has 2"),
        (small_stem_steps, r"'conv1' has stride \(1, 1\), where a network here has 2"),
        (unpadded, r"'layer1.0.conv2' has padding \(0, 0\), where a network here has 1"),
        (unpooled, "'maxpool' pools nothing"),
        (blurred, "'layer2.0.pool' pools inside a block"),
        (smooth_function, r"'layer2.0.act' is torch\.nn\.functional\.silu, and not ReLU"),
        (standardised, r"'layer1.0.conv1' is a test_whole_modules\.Standardised"),
        (smooth, "'layer2.0.relu' is a SiLU"),
        (large_eps, "'layer1.1.bn2' has eps 0.001"),
        (dilated, r"'layer3.1.conv1' has dilation \(2, 2\)"),
        (reflecting, "'conv1' has padding_mode reflect"),
    ],
)
def test_layers_of_another_kind_are_refused(change: Callable[[nn.Module], None], words: str, tmp_path: Path) -> None:
    model, path = network(), tmp_path / "net.pth"
    change(model)
    torch.save(model, path)
    with pytest.raises(FamilyError, match=words):
        load(path, normalise=HALF)


def test_a_pool_behind_a_small_stem_is_refused(tmp_path: Path) -> None:
    model = plain()
    torch.save(model, tmp_path / "bare.pth")
    load(tmp_path / "bare.pth", normalise=HALF)
    model.register_module("maxpool", nn.MaxPool2d(2))
    torch.save(model, tmp_path / "net.pth")
    with pytest.raises(FamilyError, match="'maxpool' pools behind a 3x3 stem"):
        load(tmp_path / "net.pth", normalise=HALF)


@pytest.mark.parametrize("stride", ["1x1", "3x3"])
def test_bottlenecks_stride_where_the_layers_say(stride: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model: nn.Module = torchvision.models.resnet50(num_classes=5, width_per_group=16).double().eval()
    for number in (2, 3, 4) if stride == "1x1" else ():
        for name, value in (("conv1", (2, 2)), ("conv2", (1, 1))):
            model.get_submodule(f"layer{number}.0.{name}").__dict__["stride"] = value
    torch.save(model, tmp_path / "net.pth")
    images = torch.rand((2, 3, 64, 64), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(load(tmp_path / "net.pth", normalise=HALF)(images), model((images - 0.5) / 0.5))
    assert not any("bottleneck" in each for each in describe_checkpoint(tmp_path / "net.pth").unknown)


class SpikingNeuron(nn.Module):
    """A neuron without parameters: only its class tells that the network spikes."""


def test_a_class_tells_that_a_network_spikes(tmp_path: Path) -> None:
    model, path = network(), tmp_path / "net.pth"
    model.get_submodule("layer1.0").register_module("relu", SpikingNeuron())
    torch.save(model, path)
    with pytest.raises(Exception, match="spik"):
        load(path, normalise=HALF)
