"""Descriptions: names, shapes, counts known from the literature, round trips and refusals."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from idsnn_cli.architecture import (
    Architecture,
    Neuron,
    build_description,
    read_description,
    validate,
)
from idsnn_cli.errors import CheckpointError, UsageError
from idsnn_cli.networks.resnet.names import ANN_NAMES, SPIKING_NAMES
from idsnn_cli.registry import names

NAMES = (*ANN_NAMES, *SPIKING_NAMES)


def test_the_names_are_those_of_the_issue() -> None:
    thin, full = ["8", "14", "20", "32", "44", "56", "110"], ["18", "34", "50", "101", "152"]
    assert sorted(ANN_NAMES) == sorted(f"resnet{depth}" for depth in thin + full)
    assert sorted(SPIKING_NAMES) == sorted(f"spiking-resnet{depth}" for depth in thin + full)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_gives_the_network_of_that_name(name: str) -> None:
    architecture = build_description(name, 10)
    assert architecture.name == name
    depth = int(name.removeprefix("spiking-").removeprefix("resnet"))
    layers = [conv for conv in architecture.convolutions() if ".shortcut." not in conv.name]
    assert len(layers) + 1 == depth  # and the linear layer
    assert build_description(name.upper().replace("RESNET", "ResNet-"), 10) == architecture


@pytest.mark.parametrize(
    ("name", "classes", "options", "parameters"),
    [
        # torchvision's tables.
        ("resnet18", 1000, {"stem": "7x7"}, 11_689_512),
        ("resnet34", 1000, {"stem": "7x7"}, 21_797_672),
        ("resnet50", 1000, {"stem": "7x7"}, 25_557_032),
        ("resnet101", 1000, {"stem": "7x7"}, 44_549_160),
        ("resnet152", 1000, {"stem": "7x7"}, 60_192_808),
        # The CIFAR networks of He et al. with option A: 0.27, 0.46, 0.66, 0.85 and 1.7 million.
        ("resnet20", 10, {"shortcut": "pad"}, 269_722),
        ("resnet32", 10, {"shortcut": "pad"}, 464_154),
        ("resnet44", 10, {"shortcut": "pad"}, 658_586),
        ("resnet56", 10, {"shortcut": "pad"}, 853_018),
        ("resnet110", 10, {"shortcut": "pad"}, 1_727_962),
        # A CIFAR ResNet-18 with a 3x3 stem.
        ("resnet18", 10, {}, 11_173_962),
        ("spiking-resnet18", 10, {}, 11_173_962),
    ],
)
def test_parameter_counts(name: str, classes: int, options: dict[str, Any], parameters: int) -> None:
    assert build_description(name, classes, **options).parameters() == parameters


def test_a_block_strides_in_its_first_3x3_and_in_its_shortcut() -> None:
    basic, bottleneck = build_description("resnet34", 10), build_description("resnet50", 10)
    assert [conv.stride for conv in basic.block_convolutions(1, 0)] == [2, 1]
    assert [conv.stride for conv in bottleneck.block_convolutions(1, 0)] == [1, 2, 1]
    for architecture in (basic, bottleneck):
        projection = architecture.shortcut_convolution(1, 0)
        assert projection is not None
        assert (projection.stride, projection.kernel, projection.padding) == (2, 1, 0)
        assert architecture.shortcut_convolution(1, 1) is None
    assert basic.shortcut_convolution(0, 0) is None
    widening = bottleneck.shortcut_convolution(0, 0)
    assert widening is not None
    assert (widening.in_channels, widening.out_channels, widening.stride) == (64, 256, 1)


def test_stems() -> None:
    small = build_description("spiking-resnet18", 10).stem_convolution()
    assert (small.kernel, small.stride, small.padding) == (3, 1, 1)
    release = build_description("spiking-resnet18", 10, stem_padding=3).stem_convolution()
    assert release.padding == 3
    large = build_description("resnet18", 10, stem="7x7").stem_convolution()
    assert (large.kernel, large.stride, large.padding) == (7, 2, 3)


def test_a_width_scales_every_stage() -> None:
    assert build_description("resnet18", 10, width=16).traits()["widths"] == (16, 32, 64, 128)
    assert build_description("spiking-resnet20", 10, width=8).traits()["widths"] == (8, 16, 32)


def test_tensors_chain_from_image_to_classes() -> None:
    """Every convolution reads as many channels as what stands before it gives."""
    for name in NAMES:
        architecture = build_description(name, 9, width=4)
        channels = architecture.stem_convolutions()[-1].out_channels
        for stage, block in architecture.blocks():
            around = architecture.shortcut_convolution(stage, block)
            inner = channels
            for conv in architecture.block_convolutions(stage, block):
                assert conv.in_channels == inner
                inner = conv.out_channels
            assert (around.out_channels if around else channels) == inner
            channels = inner
        assert architecture.tensors()["head.weight"] == (9, channels)
        buffers = ("running_mean", "running_var", "num_batches_tracked", "input.mean", "input.std")
        total = sum(math.prod(s) for n, s in architecture.tensors().items() if not n.endswith(buffers))
        assert architecture.parameters() == total


@st.composite
def descriptions(draw: st.DrawFn) -> Architecture:
    name = draw(st.sampled_from(NAMES))
    options: dict[str, Any] = {
        "width": draw(st.sampled_from([None, 4, 6])),
        "stem": draw(st.sampled_from(["3x3", "7x7"])),
    }
    architecture = build_description(name, draw(st.integers(1, 1000)), **options)
    if architecture.traits()["block"] == "basic" and draw(st.booleans()):
        architecture = architecture.changed(shortcut="pad")
    if architecture.kind == "spiking":
        surrogate = draw(st.sampled_from(names("idsnn_cli.spiking.surrogates")))
        neuron = Neuron(draw(st.floats(0.01, 5)), draw(st.floats(0, 1)), surrogate, draw(st.floats(0.1, 9)))
        architecture = architecture.changed(
            timesteps=draw(st.integers(1, 64)),
            neuron=neuron,
            spiking_block=draw(st.sampled_from(["spiking", "sew", "ms"])),
            join=draw(st.sampled_from(["add", "and", "iand"])),
            coding=draw(st.sampled_from(["direct", "poisson"])),
        )
    return architecture


@settings(deadline=None, derandomize=True, max_examples=150)
@given(descriptions())
def test_the_json_form_gives_an_equal_description(architecture: Architecture) -> None:
    plain = json.loads(json.dumps(architecture.to_dict()))
    assert read_description(plain) == architecture
    if architecture.kind == "ann":
        assert "timesteps" not in plain
        assert "neuron" not in plain
    else:
        # A checkpoint must carry every constant of its neuron.
        assert set(plain["neuron"]) == {"v_threshold", "decay", "surrogate", "surrogate_scale"}


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "quantum"},
        {"stem": "5x5"},
        {"depths": [2, 2]},
        {"depths": []},
        {"depths": "many"},
        {"widths": [0, 1, 2]},
        {"num_classes": 0},
        {"num_classes": "ten"},
        {"timesteps": 0},
        {"neuron": {"surrogate": "box"}},
        {"neuron": {"spin": 1}},
        {"neuron": 3},
        {"block": "tripleneck"},
        {"unheard_of": 1},
    ],
)
def test_a_damaged_json_form_is_a_typed_error(change: dict[str, Any]) -> None:
    plain = build_description("spiking-resnet8", 10).to_dict()
    with pytest.raises(CheckpointError) as caught:
        read_description(plain | change)
    assert caught.value.fix


@pytest.mark.parametrize("key", ["kind", "block", "depths", "widths", "num_classes"])
def test_a_missing_key_is_a_typed_error(key: str) -> None:
    plain = build_description("spiking-resnet8", 10).to_dict()
    del plain[key]
    with pytest.raises(CheckpointError):
        read_description(plain)


@pytest.mark.parametrize(
    ("name", "near"),
    [("spiking-resnet81", "spiking-resnet8"), ("resnet19", "resnet1"), ("spikingresnet18", "spiking-resnet18")],
)
def test_an_unknown_name_suggests_a_near_one(name: str, near: str) -> None:
    with pytest.raises(UsageError) as caught:
        build_description(name, 10)
    assert f"'{name}'" in caught.value.message
    assert f"Did you mean '{near}" in caught.value.message
    assert all(known in (caught.value.fix or "") for known in NAMES)


def test_what_cannot_be_built_is_refused() -> None:
    for change in ({"groups": 2}, {"bottleneck_stride": "1x1"}, {"bottleneck_stride": "average"}):
        with pytest.raises(UsageError, match=f"{next(iter(change))} is .*, which a Spiking ResNet cannot have"):
            build_description("spiking-resnet50", 10).changed(**change)
    with pytest.raises(UsageError, match="in MS blocks, whose shortcuts add membranes"):
        build_description("spiking-resnet50", 10, spiking_block="ms", amplitude="channel")
    with pytest.raises(UsageError, match="option-A"):
        build_description("resnet50", 10, shortcut="pad")
    with pytest.raises(UsageError, match="num_classes"):
        build_description("resnet18", 0)
    with pytest.raises(UsageError, match="timesteps"):
        validate(build_description("spiking-resnet8", 10, timesteps=0))
    with pytest.raises(UsageError, match="option-A"):
        validate(build_description("resnet8", 10, shortcut="pad").changed(widths=(16, 33, 64)))


def test_words() -> None:
    words = build_description(
        "spiking-resnet18", 100, stem_padding=3, timesteps=6, spiking_block="sew", join="iand", coding="poisson"
    ).describe()
    for part in (
        "Spiking ResNet-18",
        "2-2-2-2",
        "64-128-256-512",
        "padded by 3",
        "100 classes",
        "T = 6",
        "IAND",
        "poisson",
    ):
        assert part in words
    assert "threshold 0.5" in words
    assert "T =" not in build_description("resnet18", 10).describe()
