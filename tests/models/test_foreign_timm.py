"""Networks as timm builds them give timm's logits: deep stems, averaged shortcuts, groups, attention."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from foreign import assert_same_logits

from idsnn_cli.architecture import read_description
from idsnn_cli.families import AVERAGED_SHORTCUTS, recognise

timm = pytest.importorskip("timm", reason="timm is a test extra")


def narrow(basic: bool = False, **options: Any) -> Any:
    """A shallow ResNet of timm's, a quarter or an eighth as wide as usual."""
    from timm.models import resnet

    block: Any = resnet.BasicBlock if basic else resnet.Bottleneck
    settings = {"layers": (1, 2, 1, 1), "num_classes": 7, "channels": (32, 48, 64, 96), **options}
    return resnet.ResNet(block, **settings)


@pytest.mark.parametrize("size", [64, 52], ids=["even", "odd"])
@pytest.mark.parametrize("basic", [True, False], ids=["basic", "bottleneck"])
@pytest.mark.parametrize(
    ("options", "stem_widths", "shortcut"),
    [
        ({"stem_width": 16, "stem_type": "deep", "avg_down": True}, (16, 16, 32), "average"),  # d
        ({"stem_width": 32, "stem_type": "deep"}, (32, 32, 64), "projection"),  # s
        ({"stem_width": 32, "stem_type": "deep_tiered", "avg_down": True}, (24, 32, 64), "average"),  # t
        ({"avg_down": True, "channels": (64, 48, 32, 16)}, (), "average"),
    ],
    ids=["d", "s", "t", "plain stem"],
)
def test_deep_stems_and_averaged_shortcuts(
    tmp_path: Path, options: dict[str, Any], stem_widths: tuple[int, ...], shortcut: str, basic: bool, size: int
) -> None:
    # At 52 pixels the maps are 13, 7, 4 and 2 wide, so averages meet odd edges.
    found = assert_same_logits(narrow(basic, **options), tmp_path, size).architecture
    assert (found.traits().get("stem_widths", ()), found.traits()["shortcut"]) == (stem_widths, shortcut)
    assert ("deep stem" in found.describe()) is bool(stem_widths)
    assert ("averaged" in found.describe()) is (shortcut == "average")


@pytest.mark.parametrize("basic", [True, False], ids=["basic", "bottleneck"])
@pytest.mark.parametrize(
    ("kind", "sizes"),
    [
        # A sixteenth of a block's channels in eights, and kernels by the logarithm of those channels, as timm has them.
        ("se", {True: (8, 8, 8, 8), False: (16, 16, 16, 24)}),
        ("eca", {True: (3, 3, 3, 3), False: (5, 5, 5, 5)}),
    ],
)
def test_attention(tmp_path: Path, kind: str, sizes: dict[bool, tuple[int, ...]], basic: bool) -> None:
    network = narrow(basic, block_args={"attn_layer": kind}, channels=(64, 48, 64, 96))
    found = assert_same_logits(network, tmp_path).architecture
    assert (found.traits()["attention"], found.traits()["attention_sizes"]) == (kind, sizes[basic])


@pytest.mark.parametrize("size", [64, 52], ids=["even", "odd"])
@pytest.mark.parametrize("basic", [True, False], ids=["basic", "bottleneck"])
@pytest.mark.parametrize(
    ("options", "stem_widths"),
    [
        ({}, ()),
        ({"stem_type": "deep", "avg_down": True}, (16, 16, 32)),
        ({"stem_type": "tiered", "avg_down": True}, (12, 16, 32)),
    ],
    ids=["plain", "d", "t"],
)
def test_preactivation(
    tmp_path: Path, options: dict[str, Any], stem_widths: tuple[int, ...], basic: bool, size: int
) -> None:
    from timm import layers
    from timm.models import resnetv2

    make: Any = resnetv2.ResNetV2
    parts: Any = layers
    network = make(
        layers=[1, 2, 1, 1],
        channels=(32, 48, 64, 80) if basic else (128, 192, 256, 320),
        num_classes=7,
        stem_chs=32,
        basic=basic,
        bottle_ratio=1.0 if basic else 0.25,
        conv_layer=parts.create_conv2d,
        norm_layer=parts.BatchNormAct2d,
        **options,
    )
    found = assert_same_logits(network, tmp_path, size).architecture
    assert (found.preactivation, found.traits().get("stem_widths", ())) == (True, stem_widths)
    assert found.traits()["widths"] == (32, 48, 64, 80)
    assert "pre-activation" in found.describe()


def test_every_trait_at_once(tmp_path: Path) -> None:
    """As seresnext26d_32x4d and its like: groups, wide inside, deep stem, averages and gates."""
    network = narrow(
        cardinality=4,
        base_width=24,
        stem_width=16,
        stem_type="deep",
        avg_down=True,
        block_args={"attn_layer": "se"},
        channels=(32, 64, 96, 128),
    )
    found = assert_same_logits(network, tmp_path).architecture
    assert (found.traits().get("groups", 1), found.traits().get("inner_widths", ())) == (4, (48, 96, 144, 192))
    assert found.to_dict() == read_description(found.to_dict()).to_dict()


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        *("resnet18", "resnet26", "resnet10t", "resnet14t", "resnet18d", "resnet26t", "resnet50d", "resnet50s"),
        *("resnet101d", "wide_resnet50_2", "resnext50_32x4d", "resnext50d_32x4d", "resnext101_64x4d"),
        *("seresnet50", "seresnext26d_32x4d", "seresnext26t_32x4d", "seresnext101d_32x8d", "seresnet152d"),
        *("resnetv2_18", "resnetv2_34d", "resnetv2_50", "resnetv2_50d", "resnetv2_50t", "resnetv2_101d"),
        *("ecaresnet26t", "ecaresnet50d", "ecaresnet50t", "ecaresnetlight", "ecaresnext26t_32x4d"),
    ],
)
def test_the_public_configurations_are_recognised(name: str) -> None:
    with torch.device("meta"):
        network = timm.create_model(name)
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    found = recognise(shapes)
    assert found.dropped == {}
    assert (AVERAGED_SHORTCUTS in found.unknown) is name.startswith("resnetv2")
    assert sorted(found.names.values()) == sorted(shapes)
    for ours, key in found.names.items():
        stored = shapes[key][:2] if key == "head.fc.weight" else shapes[key]
        assert found.architecture.tensors()[ours] == stored
    assert found.architecture.parameters() == sum(value.numel() for value in network.parameters())
