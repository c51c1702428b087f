"""Rarer families give their own logits: CLIP, ResNet-RS, Cadene's SENets, pre-activation of two more kinds."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign import HALF, assert_same_logits, lively
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from idsnn_cli.architecture import read_description
from idsnn_cli.errors import CheckpointError
from idsnn_cli.families import BOTTLENECK_STRIDE, STEM_STRIDE, recognise
from idsnn_cli.models import load


def test_resnet_rs(tmp_path: Path) -> None:
    pytest.importorskip("timm", reason="timm is a test extra")
    from timm import layers
    from timm.models import resnet

    parts: Any = layers
    make: Any = resnet.ResNet
    network = make(
        resnet.Bottleneck,
        (1, 2, 1, 1),
        num_classes=7,
        channels=(32, 48, 64, 96),
        stem_width=16,
        stem_type="deep",
        replace_stem_pool=True,
        avg_down=True,
        block_args={"attn_layer": partial(parts.get_attn("se"), rd_ratio=0.25)},
    )
    found = assert_same_logits(network, tmp_path, 64).architecture
    assert (found.traits()["stem_pool"], found.traits().get("stem_widths", ()), found.traits()["shortcut"]) == (
        "convolution",
        (16, 16, 32, 32),
        "average",
    )
    assert "the stem pools by its last convolution" in found.describe()
    assert read_description(found.to_dict()) == found


@pytest.mark.parametrize("size", [64, 54], ids=["even", "odd"])
@pytest.mark.parametrize(
    ("block", "groups", "stride", "activated"),
    [
        ("SEResNetBlock", 1, "3x3", True),
        ("SEResNetBottleneck", 1, "1x1", False),
        ("SEResNeXtBottleneck", 4, "3x3", False),
    ],
)
def test_cadenes_senets(tmp_path: Path, block: str, groups: int, stride: str, activated: bool, size: int) -> None:
    pytest.importorskip("timm", reason="timm is a test extra")
    from timm.models import senet

    make: Any = senet.SENet
    network = make(getattr(senet, block), (1, 2, 1, 1), groups=groups, reduction=16, num_classes=7)
    found = assert_same_logits(network, tmp_path, size).architecture
    assert (found.traits()["stem_pool"], found.traits().get("bottleneck_stride", "3x3")) == ("ceil", stride)
    assert (found.traits()["attention"], found.traits()["attention_activated"], found.traits().get("groups", 1)) == (
        "se",
        activated,
        groups,
    )
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    assert not {STEM_STRIDE, BOTTLENECK_STRIDE} & set(recognise(shapes).unknown)


def test_senet_154_is_known_but_not_supported() -> None:
    timm = pytest.importorskip("timm", reason="timm is a test extra")
    with torch.device("meta"):
        network = timm.create_model("legacy_senet154")
    with pytest.raises(CheckpointError, match=r"SENet-154: known, but not supported yet"):
        recognise({key: tuple(value.shape) for key, value in network.state_dict().items()})


@pytest.mark.slow
def test_clip_as_timm_runs_it_with_a_linear_layer(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm", reason="timm is a test extra")
    network = timm.create_model("resnet50_clip_gap", num_classes=7)
    found = assert_same_logits(network, tmp_path, 64).architecture
    assert (
        found.traits()["stem_pool"],
        found.traits().get("bottleneck_stride", "3x3"),
        found.traits()["shortcut"],
    ) == (
        "average",
        "average",
        "average",
    )
    assert (found.depths, found.traits().get("stem_widths", ())) == ((3, 4, 6, 3), (32, 32, 64))
    assert "strides by averages" in found.describe()
    assert read_description(found.to_dict()) == found


def openai_names(shapes: dict[str, Any]) -> dict[str, Any]:
    """What timm calls its CLIP ResNet's tensors -> what OpenAI calls them, head apart."""
    found = {}
    for key, value in shapes.items():
        name = key
        for i in (1, 2, 3):
            name = name.replace(f"stem.conv{i}.conv.", f"conv{i}.").replace(f"stem.conv{i}.bn.", f"bn{i}.")
        for old, new in (("conv1_1x1", "1"), ("conv2_kxk", "2"), ("conv3_1x1", "3")):
            name = name.replace(f"{old}.conv.", f"conv{new}.").replace(f"{old}.bn.", f"bn{new}.")
        name = name.replace("shortcut.conv.conv.", "downsample.0.").replace("shortcut.conv.bn.", "downsample.1.")
        if name.startswith("stages."):
            _, stage, rest = name.split(".", 2)
            name = f"layer{int(stage) + 1}.{rest}"
        if not name.startswith("head."):
            found[f"visual.{name}"] = value
    return found


@pytest.mark.parametrize("tower_only", [False, True])
def test_openais_clip_is_a_source_and_no_classifier(tmp_path: Path, tower_only: bool) -> None:
    timm = pytest.importorskip("timm", reason="timm is a test extra")
    with torch.device("meta"):
        theirs = timm.create_model("resnet50_clip")
    network = recognise({key: tuple(value.shape) for key, value in theirs.state_dict().items()})
    assert not network.has_head
    assert "attention pooling" in network.ending
    shapes = openai_names({key: tuple(value.shape) for key, value in theirs.state_dict().items()})
    pooling = {f"visual.attnpool.{part}_proj.weight": (2048, 2048) for part in "qkv"}
    text: dict[str, tuple[int, ...]] = {
        "transformer.resblocks.0.mlp.c_fc.weight": (8, 4),
        "token_embedding.weight": (9, 4),
        "positional_embedding": (7, 4),
        "ln_final.bias": (4,),
        "text_projection": (4, 4),
        "logit_scale": (),
    }
    beside = pooling if tower_only else pooling | text
    found = recognise(shapes | beside)
    assert (found.scheme, found.architecture) == ("clip", network.architecture)
    assert set(found.dropped) == set(beside)
    assert all("CLIP's" in reason for reason in found.dropped.values())
    assert sorted(found.names.values()) == sorted(shapes)
    torch.save({key: torch.zeros(shape) for key, shape in (shapes | beside).items()}, tmp_path / "clip.pth")
    with pytest.raises(CheckpointError, match=r"attention pooling.* cannot classify") as caught:
        load(tmp_path / "clip.pth", normalise=HALF)
    assert "init --from" in str(caught.value.fix)


class LinearSE(nn.Module):
    """Of linear layers, in moskomule's names without biases."""

    def __init__(self, channels: int, bias: bool) -> None:
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(channels, 4, bias=bias), nn.ReLU(), nn.Linear(4, channels, bias=bias), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        gates: Tensor = self.fc(x.mean((2, 3)))
        return x * gates[:, :, None, None]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
def test_gates_of_linear_layers(tmp_path: Path, block: Any, bias: bool) -> None:
    class Gated(block):  # type: ignore[misc]  # the base is a parameter of the test
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            last = self.bn2 if block is BasicBlock else self.bn3
            self.se = LinearSE(last.num_features, bias)
            self.last = "bn2" if block is BasicBlock else "bn3"

        def forward(self, x: Tensor) -> Tensor:
            y = F.relu(self.bn1(self.conv1(x)))
            y = self.bn2(self.conv2(y))
            if self.last == "bn3":
                y = self.bn3(self.conv3(F.relu(y)))
            around = x if self.downsample is None else self.downsample(x)
            return F.relu(self.se(y) + around)

    found = assert_same_logits(ResNet(Gated, [1, 1, 1, 1], num_classes=7), tmp_path).architecture
    assert (found.traits()["attention"], found.traits()["attention_bias"], found.traits()["attention_sizes"]) == (
        "se",
        bias,
        (4, 4, 4, 4),
    )
    assert read_description(found.to_dict()) == found


class Preactivated(nn.Module):
    """A pre-activation block; ``around`` names its projection: kuangliu's ``shortcut.0``, or ``convShortcut``."""

    def __init__(self, entry: int, width: int, stride: int, bottleneck: bool, around: str) -> None:
        super().__init__()
        outer = 4 * width if bottleneck else width
        plan = [(entry, outer, 3, stride), (outer, outer, 3, 1)]
        if bottleneck:
            plan = [(entry, width, 1, 1), (width, width, 3, stride), (width, outer, 1, 1)]
        for i, (c_in, c_out, kernel, step) in enumerate(plan, 1):
            self.add_module(f"bn{i}", nn.BatchNorm2d(c_in))
            self.add_module(f"conv{i}", nn.Conv2d(c_in, c_out, kernel, step, kernel // 2, bias=False))
        self.length, self.around = len(plan), None
        if stride > 1 or entry != outer:
            conv = nn.Conv2d(entry, outer, 1, stride, bias=False)
            self.add_module(around, conv if around == "convShortcut" else nn.Sequential(conv))
            self.around = around

    def forward(self, x: Tensor) -> Tensor:
        y = shortcut = x
        for i in range(1, self.length + 1):
            y = F.relu(self.get_submodule(f"bn{i}")(y))
            if i == 1 and self.around:
                shortcut = self.get_submodule(self.around)(y)
            y = self.get_submodule(f"conv{i}")(y)
        return y + shortcut


class KuangliuPreactivation(nn.Module):
    def __init__(self, bottleneck: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        entry = 8
        for stage, (depth, width) in enumerate(((2, 8), (1, 12), (2, 16))):
            blocks = []
            for number in range(depth):
                stride = 2 if stage and not number else 1
                blocks.append(Preactivated(entry, width, stride, bottleneck, "shortcut"))
                entry = 4 * width if bottleneck else width
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.linear = nn.Linear(entry, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(x)
        for stage in (1, 2, 3):
            y = self.get_submodule(f"layer{stage}")(y)
        logits: Tensor = self.linear(y.mean((2, 3)))
        return logits


class Wide(nn.Module):
    """xternalz's WideResNet; with ``twice`` TRADES's, which builds its first stage again and never calls that."""

    def __init__(self, widths: tuple[int, ...], twice: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        entry = 16
        for stage, width in enumerate(widths):
            group = nn.Module()
            blocks = [
                Preactivated(entry if b == 0 else width, width, 1 + bool(stage and not b), False, "convShortcut")
                for b in range(2)
            ]
            group.layer = nn.Sequential(*blocks)
            self.add_module(f"block{stage + 1}", group)
            if stage == 0 and twice:
                self.sub_block1 = nn.Module()
                self.sub_block1.layer = nn.Sequential(Preactivated(16, width, 1, False, "convShortcut"))
            entry = width
        self.bn1 = nn.BatchNorm2d(entry)
        self.fc = nn.Linear(entry, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(x)
        for stage in (1, 2, 3):
            y = self.get_submodule(f"block{stage}.layer")(y)
        logits: Tensor = self.fc(F.relu(self.bn1(y)).mean((2, 3)))
        return logits


@pytest.mark.parametrize("bottleneck", [False, True])
def test_kuanglius_preactivation_has_no_last_norm(tmp_path: Path, bottleneck: bool) -> None:
    found = assert_same_logits(KuangliuPreactivation(bottleneck), tmp_path).architecture
    assert (found.preactivation, found.final_norm, found.depths) == (True, False, (2, 1, 2))
    assert "pre-activation without a last norm" in found.describe()
    assert read_description(found.to_dict()) == found


@pytest.mark.parametrize("widths", [(16, 32, 64), (32, 64, 128)], ids=["same", "wider than the stem"])
def test_wide_residual_networks(tmp_path: Path, widths: tuple[int, ...]) -> None:
    found = assert_same_logits(Wide(widths, False), tmp_path).architecture
    assert (found.preactivation, found.final_norm, found.traits()["widths"]) == (True, True, widths)


def test_the_stage_that_trades_never_calls_is_dropped(tmp_path: Path) -> None:
    network = lively(Wide((32, 64, 128), True))
    torch.save(network.state_dict(), tmp_path / "trades.pth")
    images = torch.rand((2, 3, 16, 16), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        theirs = network((images - 0.5) / 0.25)
        torch.testing.assert_close(load(tmp_path / "trades.pth", normalise=HALF)(images), theirs, rtol=1e-4, atol=1e-4)
    found = recognise({key: tuple(value.shape) for key, value in network.state_dict().items()})
    assert found.dropped
    assert all(key.startswith("sub_block1.") for key in found.dropped)
