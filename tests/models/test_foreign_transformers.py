"""Hugging Face's networks give their own logits, and are the same tensors as their torchvision twins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from foreign import assert_same_logits, lively
from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from idsnn_cli.families import BOTTLENECK_STRIDE, recognise
from idsnn_cli.report.inspect.comparison import compare_checkpoints

pytest.importorskip("transformers", reason="transformers is a test extra")

KINDS = {"basic": (BasicBlock, 1), "bottleneck": (Bottleneck, 4)}


def hugging_face(kind: str = "bottleneck", width: int = 16, **options: Any) -> Any:
    import transformers

    configure: Any = transformers.ResNetConfig
    sizes = [width * 2**stage * KINDS[kind][1] for stage in range(4)]
    config = configure(
        embedding_size=width, hidden_sizes=sizes, depths=[1, 2, 1, 1], layer_type=kind, num_labels=7, **options
    )
    return transformers.ResNetForImageClassification(config)


def torchvision_twin(theirs: Any, kind: str) -> nn.Module:
    """torchvision's network with the same weights, module by module."""
    twin = ResNet(KINDS[kind][0], [1, 2, 1, 1], num_classes=7)
    network = theirs.resnet
    pairs = [
        (twin.conv1, network.embedder.embedder.convolution),
        (twin.bn1, network.embedder.embedder.normalization),
        (twin.fc, theirs.classifier[1]),
    ]
    for stage in range(4):
        blocks = zip(
            twin.get_submodule(f"layer{stage + 1}").children(), network.encoder.stages[stage].layers, strict=True
        )
        for ours, block in blocks:
            for i, layer in enumerate(block.layer):
                pairs.append((ours.get_submodule(f"conv{i + 1}"), layer.convolution))
                pairs.append((ours.get_submodule(f"bn{i + 1}"), layer.normalization))
            if isinstance(ours.downsample, nn.Sequential):
                pairs.append((ours.downsample[0], block.shortcut.convolution))
                pairs.append((ours.downsample[1], block.shortcut.normalization))
    for to, fro in pairs:
        to.load_state_dict(fro.state_dict())
    assert sum(len(to.state_dict()) for to, _ in pairs) == len(twin.state_dict())
    evaluated: nn.Module = twin.eval()
    return evaluated


@pytest.mark.parametrize("kind", KINDS)
def test_logits(tmp_path: Path, kind: str) -> None:
    assert_same_logits(hugging_face(kind), tmp_path)


@pytest.mark.parametrize("options", [{}, {"bottleneck_stride": "1x1"}], ids=["3x3", "1x1"])
def test_the_stride_of_a_bottleneck_is_not_in_the_file(tmp_path: Path, options: dict[str, Any]) -> None:
    network = hugging_face(downsample_in_bottleneck=bool(options))
    assert BOTTLENECK_STRIDE in recognise({key: tuple(v.shape) for key, v in network.state_dict().items()}).unknown
    assert_same_logits(network, tmp_path, **options)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_and_its_torchvision_twin_are_the_same(tmp_path: Path, kind: str) -> None:
    theirs = lively(hugging_face(kind, width=64))
    twin = torchvision_twin(theirs, kind)
    canonical = []
    for network in (theirs, twin):
        state = network.state_dict()
        found = recognise({key: tuple(value.shape) for key, value in state.items()})
        canonical.append((found.architecture, {name: state[key] for name, key in found.names.items()}))
    (left, ours), (right, others) = canonical
    assert left == right
    assert list(ours) == list(others)
    assert all(torch.equal(ours[name], others[name]) for name in ours)
    torch.save(theirs.state_dict(), tmp_path / "theirs.bin")
    torch.save(twin.state_dict(), tmp_path / "twin.pth")
    document = compare_checkpoints(tmp_path / "theirs.bin", tmp_path / "twin.pth").to_dict()
    assert (document["identical"], document["a"]["scheme"], document["b"]["scheme"]) == (
        True,
        "huggingface",
        "torchvision",
    )
    images = torch.rand((2, 3, 32, 32), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(theirs(images).logits, twin(images), rtol=1e-4, atol=1e-4)
