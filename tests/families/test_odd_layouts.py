"""Networks that fit together and cannot be described are named as what they are, and damage is not."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import torch
import torchvision
from torch import nn

from idsnn_cli.errors import FamilyError
from idsnn_cli.families import recognise

Shapes = dict[str, tuple[int, ...]]


def shapes_of(model: nn.Module) -> Shapes:
    return {key: tuple(value.shape) for key, value in model.state_dict().items()}


def resnet(name: str) -> nn.Module:
    with torch.device("meta"):
        model: nn.Module = getattr(torchvision.models, name)(num_classes=10)
    return model


def put(model: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, leaf = path.rpartition(".")
    model.get_submodule(parent).register_module(leaf, module)


def pruned(model: nn.Module, blocks: Iterable[tuple[str, int]]) -> nn.Module:
    """``model`` with as many channels behind the first convolution of each block, and the next one reading them."""
    for at, width in blocks:
        first, second = (model.get_submodule(f"{at}.conv{i}") for i in (1, 2))
        assert isinstance(first, nn.Conv2d)
        assert isinstance(second, nn.Conv2d)
        kernel, after = first.kernel_size[0], second.kernel_size[0]
        put(model, f"{at}.conv1", nn.Conv2d(first.in_channels, width, kernel, first.stride[0], kernel // 2, bias=False))
        put(
            model, f"{at}.conv2", nn.Conv2d(width, second.out_channels, after, second.stride[0], after // 2, bias=False)
        )
        put(model, f"{at}.bn1", nn.BatchNorm2d(width))
    return model


def refusal(shapes: Shapes) -> FamilyError:
    with pytest.raises(FamilyError) as caught:
        recognise(shapes)
    return caught.value


@pytest.mark.parametrize(
    ("name", "blocks", "words"),
    [
        ("resnet18", [("layer2.1", 50)], "'layer2.1.conv1.weight' (stages.1.1.conv0.weight) 50"),
        ("resnet18", [("layer2.0", 50)], "'layer2.0.conv1.weight' (stages.1.0.conv0.weight) 50"),
        ("resnet18", [(f"layer{s}.{b}", 10 * s + b) for s in (1, 2, 3, 4) for b in (0, 1)], "10, 'layer1.1"),
        ("resnet50", [("layer3.4", 100)], "stage 2 (from 0)"),
    ],
)
def test_pruned_widths(name: str, blocks: list[tuple[str, int]], words: str) -> None:
    model = pruned(resnet(name), blocks).to("meta")
    model(torch.empty((1, 3, 64, 64), device="meta"))  # its layers do fit
    error = refusal(shapes_of(model))
    assert "uneven widths, as pruning of channels leaves them" in error.message
    assert words in error.message
    assert "before its channels were pruned" in str(error.fix)


def test_blocks_that_widen_in_their_second_convolution() -> None:
    model = resnet("resnet18")
    for stage, width in ((2, 64), (3, 128), (4, 256)):
        put(model, f"layer{stage}.0.conv1", nn.Conv2d(width, width, 3, 1, 1, bias=False))
        put(model, f"layer{stage}.0.conv2", nn.Conv2d(width, 2 * width, 3, 2, 1, bias=False))
        put(model, f"layer{stage}.0.bn1", nn.BatchNorm2d(width))
    model.to("meta")(torch.empty((1, 3, 64, 64), device="meta"))
    message = refusal(shapes_of(model)).message
    assert "widen (and so stride) in their second convolution" in message
    assert "'layer2.0.conv2.weight' (stages.1.0.conv1.weight) is 128x64x3x3" in message


@pytest.mark.parametrize("side", [2, 4, 7])
def test_heads_that_read_flattened_maps(side: int) -> None:
    shapes = shapes_of(resnet("resnet18"))
    shapes["fc.weight"] = (10, 512 * side * side)
    error = refusal(shapes)
    assert f"reads flattened maps of {side}x{side} pixels" in error.message
    assert "'fc.weight'" in error.message


def test_shortcuts_of_larger_kernels() -> None:
    shapes = shapes_of(resnet("resnet18"))
    for stage in (2, 3, 4):
        key = f"layer{stage}.0.downsample.0.weight"
        shapes[key] = (*shapes[key][:2], 3, 3)
    assert "shortcuts of 3x3 kernels" in refusal(shapes).message


def test_what_does_not_fit_together_is_not_called_pruned() -> None:
    """One tensor of another width is damage: the convolution behind it reads as many as before."""
    shapes = shapes_of(resnet("resnet18"))
    shapes["layer2.1.conv1.weight"] = (50, *shapes["layer2.1.conv1.weight"][1:])
    assert "not as the rest of the network has it" in refusal(shapes).message
    for leaf in ("weight", "bias", "running_mean", "running_var"):
        shapes[f"layer2.1.bn1.{leaf}"] = (50,)
    assert "not as the rest of the network has it" in refusal(shapes).message


def test_a_missing_stage_is_not_called_flattened() -> None:
    shapes = {key: shape for key, shape in shapes_of(resnet("resnet18")).items() if not key.startswith("layer4")}
    error = refusal(shapes)
    assert "reads 512 channels, but the last stage gives 256. A later stage looks missing" in error.message
