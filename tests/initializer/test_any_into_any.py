"""Every kind of source into students of other sizes: each tensor is what the rules say, worked out here again."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from sources import ann, plan_of, spiking, values
from torch import Tensor
from torch.nn import functional as F

from idsnn_cli.architecture import Architecture
from idsnn_cli.errors import MappingError
from idsnn_cli.initializer import Plan, apply
from idsnn_cli.models import build

CPU = torch.device("cpu")
DEEP = ann(18, 8, stem="7x7").changed(stem="deep", stem_widths=(4, 6, 8), stem_padding=1)
GROUPED = ann(50, 8).changed(groups=4)
SOURCES = {
    "resnet34": ann(34, 8),
    "resnet50": ann(50, 8),
    "resnet101": ann(101, 4),
    "resnet152": ann(152, 4),
    "wide": ann(50, 4).changed(inner_widths=(8, 16, 32, 64)),
    "resnext": GROUPED,
    "grouped wide": GROUPED.changed(inner_widths=(16, 32, 64, 128)),
    "imagenet stem": ann(18, 8, stem="7x7"),
    "deep stem": DEEP,
    "preactivation": ann(18, 8).changed(preactivation=True),
    "preactivation bottlenecks": ann(50, 8).changed(preactivation=True),
    "se": ann(50, 8).changed(attention="se", attention_sizes=(2, 2, 2, 2)),
    "thin 20": ann(20, 4),
    "thin 110, option A": ann(110, 4, shortcut="pad"),
    "thin 20, zeros behind": ann(20, 4, shortcut="pad-end"),
    "smaller": ann(8, 2),
}
TARGETS = {
    "18": spiking(18, 6),
    "34": spiking(34, 8),
    "18 of 7x7": spiking(18, 6, stem="7x7"),
    "20": spiking(20, 4),
    "20, option A": spiking(20, 4, shortcut="pad"),
    "20, zeros behind": spiking(20, 6, shortcut="pad-end"),
    "56, wider": spiking(56, 12),
    "20, ms": spiking(20, 4, spiking_block="ms"),
    "20, ms, option A": spiking(20, 4, shortcut="pad", spiking_block="ms"),
    "34, ms, 7x7": spiking(34, 8, stem="7x7", spiking_block="ms"),
    "50": spiking(50, 6),
    "50, sew": spiking(50, 8, spiking_block="sew"),
    "50, ms": spiking(50, 4, stem="7x7", spiking_block="ms"),
    "101": spiking(101, 2, spiking_block="ms"),
}


def state_of(plan: Plan, source: dict[str, Tensor], seed: int = 0) -> dict[str, Tensor]:
    start = build(plan.target, seed).state_dict()
    return apply(plan, source.__getitem__, start, CPU, seed)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("source", SOURCES)
def test_any_resnet_starts_any_student(source: str, target: str) -> None:
    """Shapes fit, the plan survives JSON, and what is random is only what must be."""
    ours, theirs = (each[name].traits()["block"] for each, name in ((TARGETS, target), (SOURCES, source)))
    if (theirs, ours) == ("basic", "bottleneck"):
        with pytest.raises(MappingError, match=r"block of 2 convolutions does not become one of 3") as caught:
            plan_of(SOURCES[source], TARGETS[target])
        assert "stages.0.0.conv0.weight [" in caught.value.message
        assert caught.value.message.count("stages.0.0.conv0.weight") == 2
        assert "ResNet-50" in str(caught.value.fix)
        return
    rules = ("loop", "uniform", "random")
    channels = rules[(list(SOURCES).index(source) + list(TARGETS).index(target)) % 3]
    plan = plan_of(SOURCES[source], TARGETS[target], channels=channels, multiplicity="divide", head="copy", noise=0.1)
    assert Plan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan
    state = state_of(plan, values(SOURCES[source]))
    assert {name: tuple(value.shape) for name, value in state.items()} == dict(TARGETS[target].tensors())
    assert all(torch.isfinite(value).all() for value in state.values())
    build(TARGETS[target], 0).load_state_dict(state)
    stages = len(SOURCES[source].depths)
    for entry in plan.entries:
        if entry.action == "random" and ".shortcut." not in entry.target:
            last = len(TARGETS[target].block_convolutions(0, 0)) - 1
            behind = SOURCES[source].preactivation and f".norm{last}." in entry.target
            assert behind or int(entry.target.split(".")[1]) >= stages, entry


def test_a_bottleneck_folded_into_a_basic_block() -> None:
    source, target = GROUPED, spiking(18, 8)
    theirs = values(source)
    state = state_of(plan_of(source, target), theirs)
    at = "stages.1.2"  # block 1 of 2 takes floor(1 * 4 / 2)
    scale = theirs[f"{at}.norm0.weight"] / torch.sqrt(theirs[f"{at}.norm0.running_var"] + 1e-5)
    images = torch.randn(1, 64, 9, 9, generator=torch.Generator().manual_seed(5))
    images[:, 16:] = 0  # the student reads the first 16 of the 64 channels
    reduced = F.conv2d(images, theirs[f"{at}.conv0.weight"]) * scale.view(1, -1, 1, 1)
    expected = F.conv2d(reduced, theirs[f"{at}.conv1.weight"], padding=1, groups=4)
    found = F.conv2d(images[:, :16], state["stages.1.1.conv0.weight"], padding=1)
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    assert torch.equal(state["stages.1.1.norm0.bias"], theirs[f"{at}.norm1.bias"])
    last = state["stages.1.1.conv1.weight"]
    assert torch.equal(last[:, :, 1, 1], theirs[f"{at}.conv2.weight"][:16, :, 0, 0])
    assert last.count_nonzero() == last[:, :, 1, 1].count_nonzero()
    assert torch.equal(state["stages.1.1.norm1.running_mean"], theirs[f"{at}.norm2.running_mean"][:16])


def test_a_bottleneck_without_its_1x1s() -> None:
    plan = plan_of(ann(50, 8), spiking(18, 8), bottleneck="drop")
    theirs = values(ann(50, 8))
    state = state_of(plan, theirs)
    for conv in ("conv0", "conv1"):
        assert torch.equal(state[f"stages.2.1.{conv}.weight"], theirs["stages.2.3.conv1.weight"])
        assert torch.equal(state[f"stages.2.1.norm{conv[-1]}.weight"], theirs["stages.2.3.norm1.weight"])
    assert "stages.2.3.conv0.weight and stages.2.3.conv2.weight" in str(plan.blocks[5].note)


def test_norms_before_convolutions_go_behind_the_one_before() -> None:
    source = ann(18, 8).changed(preactivation=True)
    theirs = values(source)
    plan = plan_of(source, spiking(18, 8))
    state = state_of(plan, theirs)
    assert torch.equal(state["stem.norm.weight"], theirs["stages.0.0.norm0.weight"])
    assert torch.equal(state["stages.2.1.norm0.running_var"], theirs["stages.2.1.norm1.running_var"])
    reasons = {entry.target: entry.reason for entry in plan.entries if entry.action == "random"}
    assert "no BatchNorm of the source stands here" in str(reasons["stages.2.1.norm1.weight"])
    assert "no BatchNorm of the source stands here" in str(reasons["stages.1.0.shortcut.norm.bias"])


def test_a_deep_stem_becomes_one_convolution() -> None:
    target = spiking(18, 8, stem="7x7")
    theirs = values(DEEP)
    state = state_of(plan_of(DEEP, target), theirs)
    assert torch.equal(state["stem.norm.weight"], theirs["stem.2.norm.weight"])
    # Resized by area the kernel of 11x11 keeps its sum, so the answer to an even image is that of the three.
    resized = state_of(plan_of(DEEP, target, kernels="area"), theirs)["stem.conv.weight"]
    y = even = torch.ones(1, 3, 41, 41)
    for i in range(3):
        y = F.conv2d(y, theirs[f"stem.{i}.conv.weight"], stride=2 if i == 0 else 1)
        if i < 2:
            scale = theirs[f"stem.{i}.norm.weight"] / torch.sqrt(theirs[f"stem.{i}.norm.running_var"] + 1e-5)
            y = y * scale.view(1, -1, 1, 1)
    assert resized.shape == (8, 3, 7, 7)
    assert torch.allclose(F.conv2d(even, resized, stride=2)[..., 0, 0], y[..., 0, 0], rtol=1e-4, atol=1e-2)


def test_a_projection_that_selects() -> None:
    """From option A each output passes on what the zero-padded shortcut did; other channels stay random."""
    source, target = ann(20, 8, shortcut="pad"), spiking(20, 8)
    plan = plan_of(source, target, bare_shortcut="select")
    state = state_of(plan, values(source))
    start = build(target, 0).state_dict()
    weight, random = state["stages.1.0.shortcut.conv.weight"], start["stages.1.0.shortcut.conv.weight"]
    for row in range(16):
        if 4 <= row < 12:
            wanted = torch.zeros(8)
            wanted[row - 4] = 1.0
            assert torch.equal(weight[row, :, 0, 0], wanted)
        else:
            assert torch.equal(weight[row], random[row])


def test_a_map_of_classes() -> None:
    source, target = ann(8, 4, classes=5), spiking(8, 4, classes=3)
    theirs = values(source)
    state = state_of(plan_of(source, target, head="map", class_map=(4, None, 0)), theirs)
    start = build(target, 0).state_dict()
    assert torch.equal(state["head.weight"][[0, 2]], theirs["head.weight"][[4, 0]])
    assert torch.equal(state["head.weight"][1], start["head.weight"][1])
    assert torch.equal(state["head.bias"][[0, 2]], theirs["head.bias"][[4, 0]])
    with pytest.raises(MappingError, match="class_map names 3 classes"):
        plan_of(source, target, head="map", class_map=(5, None, 0))


@pytest.mark.parametrize(("source", "head"), [(ann(8, 4, classes=5), "copied"), (ann(8, 4, classes=7), "random")])
def test_a_head_that_may_match(source: Architecture, head: str) -> None:
    plan = plan_of(source, spiking(8, 4, classes=5), head="match")
    assert {entry.action for entry in plan.entries if entry.target.startswith("head.")} == {head}


@pytest.mark.parametrize(
    ("blocks", "said"),
    [
        (((0,), (0,)), "lists 2 stages"),
        (((0, 1), (0,), (0,)), "stage 0"),
        (((0,), (3,), (0,)), "0 to 2"),
        (((0,), (1,), (0,)), "change in a stage's first block"),
    ],
)
def test_lists_of_blocks_that_do_not_fit(blocks: Any, said: str) -> None:
    with pytest.raises(MappingError, match=said):
        plan_of(ann(20, 4), spiking(8, 4), blocks=blocks)


def test_a_list_of_blocks() -> None:
    plan = plan_of(ann(20, 4), spiking(14, 4), blocks=((2, 1), (0, 2), (0, 1)))
    assert [pair.source_block for pair in plan.blocks] == [2, 1, 0, 2, 0, 1]


def test_noise_is_on_repeated_channels_alone() -> None:
    source, target = ann(8, 4), spiking(8, 8)
    theirs = values(source)
    plain = state_of(plan_of(source, target), theirs)
    noisy = state_of(plan_of(source, target, noise=0.5), theirs)
    again = state_of(plan_of(source, target, noise=0.5), theirs, seed=0)
    other = state_of(plan_of(source, target, noise=0.5), theirs, seed=1)
    name = "stages.0.0.conv0.weight"
    assert torch.equal(noisy[name][:4], plain[name][:4])
    difference = noisy[name][4:] - plain[name][4:]
    assert float(difference.std() / plain[name].std()) == pytest.approx(0.5, rel=0.15)
    assert torch.equal(noisy[name], again[name])
    assert not torch.equal(noisy[name], other[name])
    assert torch.equal(noisy["stages.0.0.norm0.weight"], plain["stages.0.0.norm0.weight"])


def test_bottlenecks_give_bottlenecks_each_convolution_its_own() -> None:
    """3 -> 3: every kernel is the teacher's of the same place, its first channels."""
    source, target = ann(101, 4), spiking(50, 2, spiking_block="ms")
    theirs = values(source)
    plan = plan_of(source, target, channels="loop")
    state = state_of(plan, theirs)
    for stage, depths in enumerate(zip((3, 4, 6, 3), (3, 4, 23, 3), strict=True)):
        block, taken = depths[0] - 1, (depths[0] - 1) * depths[1] // depths[0]
        for i in range(3):
            ours, other = f"stages.{stage}.{block}", f"stages.{stage}.{taken}"
            kernel = state[f"{ours}.conv{i}.weight"]
            assert torch.equal(kernel, theirs[f"{other}.conv{i}.weight"][: kernel.shape[0], : kernel.shape[1]])
            gamma = state[f"{ours}.norm{i}.weight"]
            assert torch.equal(gamma, theirs[f"{other}.norm{i}.weight"][: len(gamma)])
    assert all(pair.source_block is not None and pair.note is None for pair in plan.blocks)
