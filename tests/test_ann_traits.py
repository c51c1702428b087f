"""Traits that only ANNs have: their shapes, JSON form, words and refusals."""

from __future__ import annotations

import json
from typing import Any

import pytest

from idsnn_cli.architecture import Architecture, build_description, read_description, validate
from idsnn_cli.errors import CheckpointError, UsageError

RESNET50 = build_description("resnet50", 1000, stem="7x7")
RESNET18 = build_description("resnet18", 1000, stem="7x7")
SPIKING18 = build_description("spiking-resnet18", 10)
RESNEXT = RESNET50.changed(groups=32, inner_widths=(128, 256, 512, 1024))
TRAITS: dict[str, tuple[Architecture, int, str]] = {
    # The parameters that torchvision's and timm's tables give for these networks.
    "ResNeXt-50 32x4d": (RESNEXT, 25_028_904, "inner widths 128-256-512-1024, 32 groups"),
    "Wide ResNet-50-2": (RESNEXT.changed(groups=1), 68_883_240, "inner widths 128-256-512-1024"),
    "ResNet-50-D": (
        RESNET50.changed(stem="deep", stem_padding=1, stem_widths=(32, 32, 64), shortcut="average"),
        25_576_264,
        "deep stem, averaged projection shortcuts, 32-32-64 channels in the stem",
    ),
    "SE-ResNet-50": (
        RESNET50.changed(attention="se", attention_sizes=(16, 32, 64, 128)),
        28_088_024,
        "squeeze-and-excitation 16-32-64-128",
    ),
    "ECA-ResNet-18": (
        RESNET18.changed(attention="eca", attention_sizes=(3, 5, 5, 5)),
        11_689_512 + 2 * (3 + 5 + 5 + 5),
        "ECA of kernels 3-5-5-5",
    ),
    "ResNet-18 of MS blocks": (RESNET18.changed(membranes=True), 11_689_512, "activations before convolutions (MS)"),
    "ResNet-50 v2": (RESNET50.changed(preactivation=True), 25_549_352, "pre-activation"),
    "ResNet-50, original": (RESNET50.changed(bottleneck_stride="1x1"), 25_557_032, "strides in the first 1x1"),
}


@pytest.mark.parametrize("name", TRAITS)
def test_counts_words_and_json(name: str) -> None:
    architecture, parameters, words = TRAITS[name]
    validate(architecture)
    assert architecture.parameters() == parameters
    assert words in architecture.describe()
    plain = json.loads(json.dumps(architecture.to_dict()))
    assert read_description(plain) == architecture


def test_the_dictionary_of_a_plain_network_is_as_it_was_before_these_traits() -> None:
    ann = ["kind", "block", "depths", "widths", "num_classes", "stem", "stem_padding", "shortcut", "in_channels"]
    assert list(RESNET50.to_dict()) == ["family", *ann]
    spiking = [*ann, "timesteps", "neuron", "spiking_block", "join", "coding"]
    assert list(build_description("spiking-resnet18", 10).to_dict()) == ["family", *spiking]


def test_a_bottleneck_strides_where_it_says() -> None:
    strides = [conv.stride for conv in RESNET50.block_convolutions(1, 0)]
    original = [conv.stride for conv in RESNET50.changed(bottleneck_stride="1x1").block_convolutions(1, 0)]
    assert (strides, original) == ([1, 2, 1], [2, 1, 1])


@pytest.mark.parametrize(
    ("base", "change", "words"),
    [
        (RESNET50, {"groups": 3}, "3 groups do not divide"),
        (RESNET50, {"groups": 0}, "groups is 0"),
        (RESNET50, {"inner_widths": (64, 64)}, "inner_widths differ in length"),
        (RESNET50, {"inner_widths": (64, 64, 0, 64)}, r"inner_widths\[2\] is 0"),
        (RESNET50, {"bottleneck_stride": "5x5"}, "bottleneck_stride is '5x5'"),
        (RESNET50, {"stem_widths": (32, 32)}, "a 7x7 stem does not have 2 stem_widths"),
        (RESNET50, {"stem": "deep"}, "a deep stem does not have 0 stem_widths"),
        (SPIKING18, {"stem": "deep", "stem_widths": (32, 64)}, "a Spiking ResNet cannot have"),
        (SPIKING18, {"shortcut": "average"}, "a Spiking ResNet cannot have"),
        (RESNET18, {"attention": "se"}, "attention is 'se' with 0 attention_sizes"),
        (RESNET18, {"attention_sizes": (4, 4, 4, 4)}, "attention is 'none' with 4"),
        (RESNET18, {"attention": "eca", "attention_sizes": (3, 4, 3, 3)}, "odd kernels"),
        (RESNET18, {"attention": "cbam"}, "attention is 'cbam'"),
        (SPIKING18, {"attention": "se", "attention_sizes": (4, 4, 4, 4)}, "a Spiking ResNet cannot have"),
        (RESNET18.changed(preactivation=True), {"shortcut": "pad"}, "pre-activation blocks with"),
        (RESNET50.changed(preactivation=True), {"bottleneck_stride": "average"}, "shortcuts or strides by averages"),
        (RESNET18, {"preactivation": 1}, "preactivation is 1"),
        (RESNET18, {"membranes": 1}, "membranes is 1"),
        (SPIKING18, {"membranes": True}, "a Spiking ResNet cannot have"),
        (RESNET18, {"membranes": True, "preactivation": True}, "blocks that add membranes, with"),
        (RESNET18, {"membranes": True, "attention": "eca", "attention_sizes": (3, 3, 3, 3)}, "blocks that add membr"),
        (RESNET50, {"membranes": True, "bottleneck_stride": "average"}, "blocks that add membranes, with"),
        (RESNET18, {"membranes": True, "stem": "deep", "stem_widths": (32, 64)}, "blocks that add membranes, with"),
        (SPIKING18, {"preactivation": True}, "a Spiking ResNet cannot have"),
        (SPIKING18, {"stem_pool": "average"}, "a Spiking ResNet cannot have"),
        (RESNET50, {"stem_pool": "convolution"}, "stem_pool is convolution, which a 7x7 stem"),
        (RESNET50, {"stem_pool": "none"}, "stem_pool is 'none'"),
        (RESNET18, {"final_norm": False}, "final_norm is false without preactivation"),
        (RESNET18, {"attention_bias": False}, "traits of se"),
        (RESNET18, {"attention_activated": True}, "traits of se"),
        (RESNET18, {"bottleneck_stride": "average"}, "traits of bottlenecks"),
        (RESNET18, {"groups": 2}, "traits of bottlenecks"),
        (RESNET18, {"inner_widths": (64, 64, 64, 64)}, "traits of bottlenecks"),
        (RESNET18, {"bottleneck_stride": "1x1"}, "traits of bottlenecks"),
        (SPIKING18, {"stem_widths": (32,)}, "a Spiking ResNet cannot have"),
    ],
)
def test_what_cannot_be_built_is_refused(base: Architecture, change: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        base.changed(**change)
    assert caught.value.fix
    with pytest.raises(CheckpointError):
        read_description({**base.to_dict(), **change})


@pytest.mark.parametrize("value", [3, "wide", None, [1, "2", 3, 4], {"a": 1}])
def test_damaged_widths_are_typed_errors(value: Any) -> None:
    with pytest.raises(CheckpointError):
        read_description({**RESNET50.to_dict(), "inner_widths": value})
