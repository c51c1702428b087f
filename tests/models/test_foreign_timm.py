"""Networks as timm builds them give timm's logits: deep stems, averaged shortcuts, groups."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from foreign import assert_same_logits

from idsnn_cli.families import recognise

timm = pytest.importorskip("timm", reason="timm is a test extra")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


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
    assert (found.stem_widths, found.shortcut) == (stem_widths, shortcut)
    assert ("deep stem" in found.describe()) is bool(stem_widths)
    assert ("averaged" in found.describe()) is (shortcut == "average")


@pytest.mark.parametrize(
    "name",
    [
        *("resnet18", "resnet26", "resnet10t", "resnet14t", "resnet18d", "resnet26t", "resnet50d", "resnet50s"),
        *("resnet101d", "wide_resnet50_2", "resnext50_32x4d", "resnext50d_32x4d", "resnext101_64x4d"),
    ],
)
def test_the_public_configurations_are_recognised(name: str) -> None:
    with torch.device("meta"):
        network = timm.create_model(name)
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    found = recognise(shapes)
    assert found.dropped == {}
    assert sorted(found.names.values()) == sorted(shapes)
    assert all(found.architecture.tensors()[ours] == shapes[key] for ours, key in found.names.items())
    assert found.architecture.parameters() == sum(value.numel() for value in network.parameters())
