"""The recogniser against networks built as their families build them: the whole mapping, and what is around it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from resnet_families import (
    BUILDERS,
    Detectron2,
    HuggingFaceBackbone,
    MmpretrainDeep,
    Size,
    Torchvision,
    answer,
)
from torch import nn

from idsnn_cli.architecture import Architecture, build_description
from idsnn_cli.checkpoint import open_checkpoint
from idsnn_cli.errors import FamilyError
from idsnn_cli.families import (
    AVERAGED_SHORTCUTS,
    BOTTLENECK_STRIDE,
    INPUT_NORMALISATION,
    NEURONS,
    OPTION_A_CHANNELS,
    STEM_STRIDE,
    recognise,
)
from idsnn_cli.networks.resnet.architecture import ResNetArchitecture

Shape = tuple[int, ...]

THIN = Size()
FULL = Size(depths=(2, 1, 3, 2), widths=(4, 8, 16, 32), kernel=7, classes=5)
DEEP = Size(bottleneck=True, depths=(1, 2, 1, 2), widths=(4, 8, 16, 32), classes=5)


def described(size: Size) -> Architecture:
    return ResNetArchitecture.of(
        kind="ann",
        block="bottleneck" if size.bottleneck else "basic",
        depths=size.depths,
        widths=size.widths,
        num_classes=size.classes,
        stem="7x7" if size.kernel == 7 else "3x3",
        stem_padding=3 if size.kernel == 7 else 1,
        shortcut="projection" if size.projections else "pad",
    )


def on_meta(scheme: str, size: Size) -> nn.Module:
    with torch.device("meta"):
        return BUILDERS[scheme](size)


@pytest.mark.parametrize("size", [THIN, FULL, DEEP], ids=["thin", "full", "bottleneck"])
@pytest.mark.parametrize("family", BUILDERS)
def test_each_family_is_mapped_whole(family: str, size: Size) -> None:
    if family == "release-student" and size.bottleneck:
        pytest.skip("the release has no bottleneck student")
    shapes, names = answer(on_meta(family, size))
    found = recognise(shapes)
    assert found.scheme == {"spikingjelly": "torchvision"}.get(family, family)
    assert dict(found.names) == names
    assert found.dropped == {}
    assert found.root == ""
    has_head = family != "detectron2"
    assert found.has_head is has_head
    expected = described(size) if has_head else described(Size(**{**vars(size), "classes": 1}))
    assert found.architecture == expected
    assert list(found.names) == [name for name in found.architecture.tensors() if name in names]


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
def test_torchvisions_own_networks(depth: int) -> None:
    with torch.device("meta"):
        network = getattr(torchvision.models, f"resnet{depth}")()
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    found = recognise(shapes)
    assert found.scheme == "torchvision"
    assert found.architecture == build_description(f"resnet{depth}", 1000, stem="7x7")
    assert sorted(found.names.values()) == sorted(shapes)
    assert found.architecture.parameters() == sum(value.numel() for value in network.parameters())
    # torchvision registers a block's parts in the order in which they run, with the projection at the end.
    assert list(found.names.values()) == list(shapes)
    bottleneck = (BOTTLENECK_STRIDE,) if depth >= 50 else ()
    assert found.unknown == (STEM_STRIDE, *bottleneck, INPUT_NORMALISATION)


@pytest.mark.slow
@settings(deadline=None, derandomize=True, max_examples=40)
@given(
    st.sampled_from([name for name in BUILDERS if name not in ("release-student", "detectron2", "spikingjelly")]),
    st.booleans(),
    st.lists(st.tuples(st.integers(1, 12), st.integers(1, 9)), min_size=1, max_size=5),
    st.sampled_from([3, 7]),
    st.integers(1, 20),
)
def test_any_size_of_any_family(
    family: str, bottleneck: bool, stages: list[tuple[int, int]], kernel: int, classes: int
) -> None:
    depths, widths = zip(*stages, strict=True)
    size = Size(bottleneck, depths, widths, kernel, classes)
    shapes, names = answer(on_meta(family, size))
    found = recognise(shapes)
    assert dict(found.names) == names
    assert found.architecture == described(size)


@pytest.mark.parametrize(("head", "scheme"), [("linear", "akamaster"), ("fc", "torchvision")])
def test_option_a_shortcuts_have_no_tensors(head: str, scheme: str) -> None:
    size = Size(projections=False)
    shapes, names = answer(Torchvision(size, head, "shortcut"))
    found = recognise(shapes)
    assert found.scheme == scheme
    assert found.architecture == described(size)
    assert dict(found.names) == names
    assert OPTION_A_CHANNELS in found.unknown


@pytest.mark.parametrize("size", [FULL, DEEP], ids=["basic", "bottleneck"])
@pytest.mark.parametrize("averaged", [False, True])
def test_mmpretrains_deep_stems_and_averaged_shortcuts(size: Size, averaged: bool) -> None:
    shapes, names = answer(MmpretrainDeep(size, averaged))
    found = recognise(shapes)
    assert found.scheme == "mmpretrain"
    assert dict(found.names) == names
    assert (found.architecture.traits()["stem"], found.architecture.traits().get("stem_widths", ())) == (
        "deep",
        (2, 2, 4),
    )
    assert found.architecture.traits()["shortcut"] == ("average" if averaged else "projection")
    for key in ("backbone.layer2.0.downsample.1.weight", "backbone.stem.1.bn.running_var"):
        # A missing tensor is named as the file names it, whatever its stage.
        rest = {name: shape for name, shape in shapes.items() if name != key}
        with pytest.raises(FamilyError, match=f"'{key}'"):
            recognise(rest)


@pytest.mark.parametrize(
    ("name", "options"),
    [("resnet20", {}), ("resnet8", {"shortcut": "pad"}), ("resnet34", {"stem": "7x7", "width": 16}), ("resnet50", {})],
)
def test_our_own_names_pass_through(name: str, options: dict[str, Any]) -> None:
    architecture = build_description(name, 10, **options)
    found = recognise(architecture.tensors())
    assert found.scheme == "idsnn"
    assert found.architecture == architecture
    assert dict(found.names) == {key: key for key in architecture.tensors()}
    assert INPUT_NORMALISATION not in found.unknown
    assert NEURONS in found.unknown
    assert (AVERAGED_SHORTCUTS in found.unknown) is (architecture.traits()["shortcut"] == "projection")


def test_a_spiking_student_passes_as_the_ann_of_its_shapes() -> None:
    student = build_description("spiking-resnet20", 10, timesteps=4, stem_padding=3)
    found = recognise(student.tensors())
    assert found.architecture == build_description("resnet20", 10)
    assert {STEM_STRIDE, NEURONS} <= set(found.unknown)
    assert list(found.names) == list(student.tensors())


def test_counts_of_batches_may_be_missing() -> None:
    shapes, names = answer(Torchvision(THIN))
    older = {key: shape for key, shape in shapes.items() if not key.endswith("num_batches_tracked")}
    found = recognise(older)
    assert dict(found.names) == {name: key for name, key in names.items() if key in older}
    assert found.architecture == described(THIN)


def test_without_a_head_the_classes_are_a_stand_in() -> None:
    for network in (Torchvision(FULL, head=None), HuggingFaceBackbone(FULL), Detectron2(FULL)):
        shapes, names = answer(network)
        found = recognise(shapes)
        assert not found.has_head
        assert found.architecture.num_classes == 1
        assert dict(found.names) == names


@pytest.mark.parametrize(
    "root",
    [
        "state_dict.module.",
        "module.module.",
        "_orig_mod.",
        "model_state._orig_mod.module.",
        "state_dict.model.net.backbone.",
        "teacher.module.backbone.",
        "params.",
        "model._fsdp_wrapped_module._orig_mod.",
    ],
)
@pytest.mark.parametrize("family", ["torchvision", "huggingface", "pycls", "mmpretrain", "weiaicunzai"])
def test_wrappers_and_prefixes_are_seen_through(family: str, root: str) -> None:
    shapes, names = answer(on_meta(family, THIN), root)
    beside: dict[str, Shape] = {}
    if root.startswith(("state_dict", "model_state")):
        beside = {"optimizer.state.0.momentum_buffer": (4, 3, 3, 3), "best": ()}
    found = recognise(shapes | beside)
    assert found.scheme == family
    assert dict(found.names) == names
    assert set(found.dropped) == set(beside)
    assert all(found.dropped.values())


def test_the_parts_of_fsdp_and_compile_may_stand_inside() -> None:
    shapes, names = answer(Torchvision(THIN))

    def inside(key: str) -> str:
        return key.replace("layer2.0.", "layer2._orig_mod.0._fsdp_wrapped_module.")

    found = recognise({inside(key): shape for key, shape in shapes.items()})
    assert dict(found.names) == {name: inside(key) for name, key in names.items()}


def test_of_several_copies_the_moving_average_is_taken() -> None:
    raw, _ = answer(Torchvision(THIN), "state_dict.")
    average, names = answer(Torchvision(THIN), "state_dict_ema.module.")
    found = recognise(raw | average)
    assert dict(found.names) == names
    assert set(found.dropped) == set(raw)
    assert set(found.dropped.values()) == {"other weights; those under 'state_dict_ema.module.' were taken"}


def test_moco_keeps_the_query_encoder_and_reports_the_rest() -> None:
    shapes, names = answer(Torchvision(DEEP), "state_dict.module.encoder_q.")
    keys, _ = answer(Torchvision(DEEP), "state_dict.module.encoder_k.")
    queue: dict[str, Shape] = {"state_dict.module.queue": (128, 64), "state_dict.module.queue_ptr": (1,)}
    found = recognise(keys | shapes | queue)
    assert found.scheme == "moco"
    assert not found.has_head
    assert dict(found.names) == {name: key for name, key in names.items() if not name.startswith("head")}
    assert set(found.dropped) == set(keys) | set(queue) | {key for key in shapes if ".fc." in key}
    assert {reason.split()[0] for reason in found.dropped.values()} == {"MoCo's"}


def test_what_stands_beside_a_backbone_is_dropped_by_name() -> None:
    shapes, names = answer(Detectron2(FULL), "model.backbone.bottom_up.")
    other: dict[str, Shape] = {"model.backbone.fpn_lateral2.weight": (8, 4, 1, 1), "model.roi_heads.box.bias": (2,)}
    found = recognise(shapes | other)
    assert dict(found.names) == names
    assert found.dropped == dict.fromkeys(other, "outside 'model.backbone.bottom_up.', which holds the network")


def test_a_linear_layer_may_be_stored_as_a_1x1_convolution() -> None:
    shapes, names = answer(Torchvision(THIN))
    found = recognise({**shapes, "fc.weight": (*shapes["fc.weight"], 1, 1)})
    assert dict(found.names) == names
    assert found.architecture == described(THIN)


def test_counters_of_a_profiler_are_dropped() -> None:
    shapes, names = answer(Torchvision(THIN))
    counters: dict[str, Shape] = {f"{at}.total_ops": (1,) for at in ("conv1", "layer1.0", "layer2.0.bn1")}
    counters["total_params"] = (1,)
    found = recognise(shapes | counters)
    assert dict(found.names) == names
    assert set(found.dropped) == set(counters)


CHECKPOINTS = os.environ.get("IDSNN_CHECKPOINTS")


@pytest.mark.skipif(not CHECKPOINTS, reason="IDSNN_CHECKPOINTS does not name the folder of public checkpoints")
@pytest.mark.parametrize(
    ("file", "scheme", "root", "name", "shortcut", "parameters"),
    [
        ("akamaster_resnet20-12fca82f.th", "akamaster", "state_dict.module.", "resnet20", "pad", 269_722),
        ("akamaster_resnet56-4bfd9763.th", "akamaster", "state_dict.module.", "resnet56", "pad", 853_018),
        ("ehanw_resnet20.pth", "ehanw", "", "resnet20", "projection", 272_474),
    ],
)
def test_public_files(file: str, scheme: str, root: str, name: str, shortcut: str, parameters: int) -> None:
    with open_checkpoint(Path(str(CHECKPOINTS)) / file) as checkpoint:
        shapes = checkpoint.shapes()
    found = recognise(shapes)
    assert (found.scheme, found.root) == (scheme, root)
    expected = build_description(name, 10, shortcut="pad" if shortcut == "pad" else "projection")
    assert found.architecture == expected
    assert expected.parameters() == parameters
    assert found.dropped == {}
    assert sorted(found.names.values()) == sorted(shapes)
    # Both authors register parts in the order in which they run, so the canonical order is the file's.
    assert list(found.names.values()) == list(shapes)
