"""Networks whose names nobody knows: the layout comes from shapes and order, or an error says what is doubtful."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from resnet_families import BUILDERS, Size, Torchvision, answer

from idsnn_cli.architecture import Architecture
from idsnn_cli.checkpoint import open_checkpoint
from idsnn_cli.errors import FamilyError
from idsnn_cli.families import NEURONS, Reading, Row, Scheme, recognise

Shapes = dict[str, tuple[int, ...]]
FULL = Size(depths=(2, 1, 3, 2), widths=(4, 8, 16, 32), kernel=7)
DEEP = Size(bottleneck=True, depths=(1, 2, 1, 2), widths=(4, 8, 16, 32))
LEAVES = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def words(count: int, seed: int = 0) -> list[str]:
    letters = random.Random(seed)
    return [f"{''.join(letters.choices('bdfgklmnprstvz', k=7))}{i}" for i in range(count)]


def renamed(shapes: Shapes, leaves: bool) -> tuple[Shapes, dict[str, str]]:
    """Random words for the modules, or for every whole key; and each new key's old one."""
    modules = list(dict.fromkeys(key.rpartition(".")[0] for key in shapes))
    of_module = dict(zip(modules, words(len(modules)), strict=True))
    if leaves:
        old = {f"{of_module[key.rpartition('.')[0]]}.{key.rpartition('.')[2]}": key for key in shapes}
    else:
        old = dict(zip(words(len(shapes)), shapes, strict=True))
    return {key: shapes[before] for key, before in old.items()}, old


def shapes_of(network: torch.nn.Module) -> Shapes:
    return {key: tuple(value.shape) for key, value in network.state_dict().items()}


def assert_as_named(shapes: Shapes, leaves: bool, ignore: dict[str, Any] | None = None) -> None:
    """Under random words the network is what its own names say."""
    known = recognise(shapes)
    strange, old = renamed(shapes, leaves)
    found = recognise(strange)
    assert found.scheme == "structure"
    assert found.architecture == known.architecture.changed(**(ignore or {}))
    assert {name: old[key] for name, key in found.names.items()} == dict(known.names)
    assert found.certainty is not None
    assert NEURONS in found.unknown
    assert found.dropped == {}


@pytest.mark.parametrize("leaves", [True, False], ids=["leaves", "no leaves"])
@pytest.mark.parametrize("size", [Size(), FULL, DEEP], ids=["thin", "full", "bottleneck"])
@pytest.mark.parametrize("family", [name for name in BUILDERS if name != "release-student"])
def test_families_under_random_words(family: str, size: Size, leaves: bool) -> None:
    with torch.device("meta"):
        assert_as_named(answer(BUILDERS[family](size))[0], leaves)


@pytest.mark.parametrize("leaves", [True, False], ids=["leaves", "no leaves"])
@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "resnext50_32x4d", "wide_resnet50_2"])
def test_torchvisions_networks_under_random_words(name: str, leaves: bool) -> None:
    with torch.device("meta"):
        network = getattr(torchvision.models, name)()
    assert_as_named(shapes_of(network), leaves)


@pytest.mark.parametrize("leaves", [True, False], ids=["leaves", "no leaves"])
@pytest.mark.parametrize(
    "name", ["resnet18d", "resnet50s", "resnet50t", "seresnet50", "ecaresnet50t", "resnetv2_50", "resnetv2_50d"]
)
def test_timms_networks_under_random_words(name: str, leaves: bool) -> None:
    timm = pytest.importorskip("timm", reason="timm is a test extra")
    with torch.device("meta"):
        network = timm.create_model(name)
    # That a projection reads averages is in the names alone.
    assert_as_named(shapes_of(network), leaves, {"shortcut": "projection"})


CHECKPOINTS = os.environ.get("IDSNN_CHECKPOINTS")


@pytest.mark.skipif(not CHECKPOINTS, reason="IDSNN_CHECKPOINTS does not name the folder of public checkpoints")
@pytest.mark.parametrize("leaves", [True, False], ids=["leaves", "no leaves"])
@pytest.mark.parametrize(
    ("file", "number"),
    [("akamaster_resnet20-12fca82f.th", 0.68), ("akamaster_resnet56-4bfd9763.th", 0.68), ("ehanw_resnet20.pth", 0.98)],
)
def test_public_files_under_random_words(file: str, number: float, leaves: bool) -> None:
    with open_checkpoint(Path(str(CHECKPOINTS)) / file) as checkpoint:
        shapes = {key.removeprefix("state_dict.module."): shape for key, shape in checkpoint.shapes().items()}
    assert_as_named(shapes, leaves)
    certainty = recognise(renamed(shapes, leaves)[0]).certainty
    assert certainty is not None
    assert certainty.number == pytest.approx(number - (0 if leaves else 0.05))
    assert certainty.words == ("sure" if number > 0.9 else "not sure")
    assert ("plain stack" in " ".join(certainty.reasons)) is (number < 0.9)


@pytest.mark.slow
@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    st.booleans(),
    st.lists(st.integers(1, 4), min_size=2, max_size=4),
    st.integers(2, 5),
    st.booleans(),
    st.sampled_from(["as built", "norms first", "projection first", "norms behind all"]),
    st.booleans(),
)
def test_the_order_within_a_block_does_not_matter(
    bottleneck: bool, depths: list[int], width: int, counted: bool, order: str, leaves: bool
) -> None:
    size = Size(bottleneck, tuple(depths), tuple(width * 2**s for s in range(len(depths))), kernel=7)
    shapes, names = answer(Torchvision(size))
    sort: dict[str, Callable[[str], Any]] = {
        "as built": lambda key: 0,
        "norms first": lambda key: (
            (9, key.split(".")[3] == "0") if "downsample" in key else (int(key.split(".")[2][-1]), ".conv" in key)
        ),
        "projection first": lambda key: "downsample" not in key,
        "norms behind all": lambda key: (2 if "downsample" in key else 0, ".bn" in key),
    }
    blocks: dict[str, list[str]] = {}
    for key in shapes:
        blocks.setdefault(".".join(key.split(".")[:2]) if key.startswith("layer") else key, []).append(key)
    turned = {
        key: shapes[key]
        for at, block in blocks.items()
        for key in (sorted(block, key=sort[order]) if at.startswith("layer") else block)
    }
    if not counted:
        turned = {key: shape for key, shape in turned.items() if not key.endswith("num_batches_tracked")}
    strange, old = renamed(turned, leaves)
    found = recognise(strange)
    assert {name: old[key] for name, key in found.names.items()} == {n: k for n, k in names.items() if k in turned}


def test_names_in_the_order_of_the_alphabet_make_it_less_sure() -> None:
    shapes = renamed(answer(Torchvision(FULL))[0], True)[0]
    modules: dict[str, str] = {}
    for key in shapes:
        modules.setdefault(key.rpartition(".")[0], f"{len(modules):04}")
    in_order = {f"{modules[key.rpartition('.')[0]]}.{key.rpartition('.')[2]}": shape for key, shape in shapes.items()}
    sure, less = recognise(in_order).certainty, recognise(dict(sorted(in_order.items()))).certainty
    assert sure is not None
    assert less is not None
    assert less.number == pytest.approx(sure.number - 0.3)
    assert "alphabet" in " ".join(less.reasons)


def test_no_head_and_no_counters() -> None:
    shapes = {k: v for k, v in answer(Torchvision(FULL, head=None))[0].items() if not k.endswith("tracked")}
    found = recognise(renamed(shapes, False)[0])
    assert (found.has_head, found.architecture.depths) == (False, FULL.depths)
    assert found.certainty is not None
    assert "no linear layer" in " ".join(found.certainty.reasons)


def inserted(shapes: Shapes, behind: str, extra: Shapes) -> Shapes:
    """``extra`` behind the last tensor of a module."""
    result: Shapes = {}
    last = [key for key in shapes if key.startswith(behind + ".")][-1]
    for key, shape in shapes.items():
        result[key] = shape
        if key == last:
            result |= extra
    return result


def norm(name: str, channels: int) -> Shapes:
    return {f"{name}.{leaf}": (channels,) if leaf != "num_batches_tracked" else () for leaf in LEAVES}


@pytest.mark.parametrize("leaves", [True, False], ids=["leaves", "no leaves"])
@pytest.mark.parametrize(
    ("behind", "dead"),
    [
        ("layer2.0.bn2", norm("layer2.0.bn9", 5)),
        ("layer3.1.bn2", {"layer3.1.lost.weight": (24, 12, 1, 1), **norm("layer3.1.lost_bn", 24)}),
        ("layer3.1.bn2", {"layer3.1.lost.weight": (24, 12, 1, 1)}),
    ],
    ids=["norm", "projection", "bare projection"],
)
def test_what_cannot_be_part_of_the_path_is_dropped(behind: str, dead: Shapes, leaves: bool) -> None:
    shapes, names = answer(Torchvision(FULL))
    strange, old = renamed(inserted(shapes, behind, dead), leaves)
    found = recognise(strange)
    assert {name: old[key] for name, key in found.names.items()} == names
    assert {old[key] for key in found.dropped} == set(dead)
    assert all(reason.startswith("never called") for reason in found.dropped.values())


@pytest.mark.parametrize("leaves", [True, False], ids=["leaves", "no leaves"])
@pytest.mark.parametrize(
    ("behind", "doubtful"),
    [
        ("layer3.1.bn2", norm("layer3.1.bn3", 16)),
        ("layer3.1.bn2", {"layer3.1.downsample.0.weight": (16, 16, 1, 1), **norm("layer3.1.downsample.1", 16)}),
        ("layer3.1.bn2", {"layer3.1.more.weight": (16, 16, 3, 3)}),
        ("fc", {"aux.weight": (3, 3), "aux.bias": (3,)}),
    ],
    ids=["norm", "projection", "convolution", "linear"],
)
def test_what_might_be_part_of_it_is_unexplained(behind: str, doubtful: Shapes, leaves: bool) -> None:
    shapes, names = answer(Torchvision(FULL))
    strange, old = renamed(inserted(shapes, behind, doubtful), leaves)
    with pytest.raises(FamilyError, match=f"a ResNet's but for {len(doubtful)} of {len(strange)}") as caught:
        recognise(strange)
    fix = str(caught.value.fix)
    assert 0 <= fix.index("--scheme") < fix.index("--allow-unused")
    rows = tuple(Row(key, None, "never called") for key, before in old.items() if before in doubtful)
    choices = [Reading(scheme=Scheme("own", "mine", rows, spiking=True))]
    if behind == "fc":
        choices.append(Reading(allow_unused=True))
    else:  # among the blocks only the user's own table may leave something out
        with pytest.raises(FamilyError, match="a ResNet's but for"):
            recognise(strange, Reading(allow_unused=True))
    for choice in choices:
        found = recognise(strange, choice)
        assert {name: old[key] for name, key in found.names.items()} == names
        assert {old[key] for key in found.dropped} == set(doubtful)


def test_two_readings_are_an_error_that_says_so() -> None:
    # Of three convolutions alike any one may be the one that is never called.
    more = {"layer3.1.more.weight": (16, 16, 3, 3), **norm("layer3.1.more_bn", 16)}
    shapes = inserted(answer(Torchvision(FULL))[0], "layer3.1.bn2", more)
    with pytest.raises(FamilyError, match=r"fit two different ResNets: '\w+' may be stages\.2\.\d\.conv\d") as caught:
        recognise(renamed(shapes, False)[0])
    assert "--scheme FILE" in str(caught.value.fix)


def test_a_single_stage_may_have_its_norms_on_either_side() -> None:
    with pytest.raises(FamilyError, match="two different ResNets"):
        recognise(renamed(answer(Torchvision(Size(depths=(3,), widths=(4,))))[0], False)[0])


def test_a_file_that_a_table_almost_explains_is_the_tables() -> None:
    shapes = answer(Torchvision(FULL))[0]
    odd = {key.replace("layer2.0.bn1", "layer2.0.oddity"): shape for key, shape in shapes.items()}
    found = recognise(odd)
    assert (found.scheme, found.certainty) == ("torchvision", None)
    assert found.names["stages.1.0.norm0.weight"] == "layer2.0.oddity.weight"
    with pytest.raises(FamilyError, match=r"not explained by the nearest naming scheme \(torchvision"):
        recognise(odd | {"layer2.0.more.weight": (8, 8, 5, 5)})
    # With most of the names gone, the structure speaks.
    strange = {f"x.{key}" if key > "layer2" else key: shape for key, shape in shapes.items()}
    assert recognise(strange).scheme == "structure"


@pytest.mark.parametrize("name", ["vgg11_bn", "densenet121", "mobilenet_v2", "googlenet", "shufflenet_v2_x1_0"])
# Torchvision says so of GoogLeNet without init_weights, which the others do not know.
@pytest.mark.filterwarnings("ignore:The default weight initialization of GoogleNet:FutureWarning")
def test_other_networks_under_random_words_are_no_resnet(name: str) -> None:
    with torch.device("meta"):
        network = getattr(torchvision.models, name)()
    for leaves in (True, False):
        with pytest.raises(FamilyError):
            recognise(renamed(shapes_of(network), leaves)[0])


def test_wrappers_stand_around_random_words_too() -> None:
    shapes, old = renamed(answer(Torchvision(FULL))[0], True)
    wrapped = {f"state_dict.module.{key}": shape for key, shape in shapes.items()}
    found = recognise(wrapped | {"optimizer.state.0.momentum_buffer": (4, 4, 3, 3), "epoch": ()})
    assert found.root == "state_dict."  # the next prefix is a word like others
    assert len(found.names) == len(old)
    assert set(found.dropped) == {"optimizer.state.0.momentum_buffer", "epoch"}
    assert isinstance(found.architecture, Architecture)
