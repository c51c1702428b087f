"""VGGs in the files of others: whose they are, what is refused, and their functions."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import torchvision
from foreign import HALF, assert_same_logits, lively
from plain_vgg import GROUPS, Flat, features, naive_logits, numbered
from torch import nn

from idsnn_cli import load
from idsnn_cli.architecture import Neuron
from idsnn_cli.errors import FamilyError, UsageError
from idsnn_cli.families import INPUT_NORMALISATION, Reading, Recognised, SpikingReading, recognise
from idsnn_cli.families.folding import recognise_biased
from idsnn_cli.families.recogniser import never_alike

WIDTHS = (4, 6, 8, 10, 12)


def linear(*sizes: int) -> list[nn.Linear]:
    return [nn.Linear(entry, out) for entry, out in pairwise(sizes)]


def theirs(family: str, depth: int = 11) -> nn.Module:
    """A thin network of a family, in its own names."""
    if family == "torchvision-vgg":
        plan: list[str | int] = []
        for count, width in zip(GROUPS[depth], WIDTHS, strict=True):
            plan += [width] * count
            plan.append("M")
        network: nn.Module = torchvision.models.VGG(torchvision.models.vgg.make_layers(plan, batch_norm=True), 7)
        first, second, last = linear(12 * 49, 9, 11, 7)
        network.classifier = nn.Sequential(first, nn.ReLU(), nn.Dropout(), second, nn.ReLU(), nn.Dropout(), last)
        return network
    if family == "kuangliu-vgg":
        return Flat(nn.Sequential(*features(depth, WIDTHS), nn.AvgPool2d(1, 1)), nn.Linear(12, 7))
    first, second, last = linear(12, 9, 11, 7)
    if family == "chenyaofo-vgg":
        ends = nn.Sequential(first, nn.ReLU(), nn.Dropout(), second, nn.ReLU(), nn.Dropout(), last)
        return Flat(features(depth, WIDTHS), ends)
    ends = nn.Sequential(nn.Dropout(), first, nn.ReLU(), nn.Dropout(), second, nn.ReLU(), last)
    # Its features are wrapped for several GPUs.
    return Flat(numbered(module=features(depth, WIDTHS)), ends)


def read(shapes: dict[str, tuple[int, ...]], reading: Reading | None = None) -> tuple[Recognised, dict[str, str]]:
    """What is read, and the bias of each running mean that takes one in."""
    reading = reading or Reading()
    try:
        return recognise(shapes, reading), {}
    except FamilyError as refusal:
        return recognise_biased(shapes, reading, never_alike, refusal)


FAMILIES = ("torchvision-vgg", "kuangliu-vgg", "chengyangfu-vgg", "chenyaofo-vgg")


def shapes_of(network: nn.Module, prefix: str = "") -> dict[str, tuple[int, ...]]:
    return {prefix + key: tuple(value.shape) for key, value in network.state_dict().items()}


@pytest.mark.slow
@pytest.mark.parametrize("depth", GROUPS)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_and_depth_is_read(family: str, depth: int) -> None:
    shapes = shapes_of(theirs(family, depth))
    found, biases = read(shapes)
    assert (found.scheme, found.architecture.name) == (family, f"vgg{depth}")
    assert found.architecture.traits()["widths"] == WIDTHS
    assert found.architecture.traits()["head_side"] == (7 if family == "torchvision-vgg" else 1)
    assert found.architecture.num_classes == 7
    assert found.has_head
    assert INPUT_NORMALISATION in found.unknown
    assert list(found.names) == [n for n in found.architecture.tensors() if not n.startswith("input.")]
    assert {*found.names.values(), *found.dropped, *biases.values()} == set(shapes)
    assert not found.dropped
    assert len(biases) == sum(GROUPS[depth])
    assert any("folded into the running means" in note for note in found.notes)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_function_is_theirs_in_float64(family: str, tmp_path: Path) -> None:
    network = lively(theirs(family, 16)).double()
    torch.save(network.state_dict(), tmp_path / "theirs.pth")
    found = load(str(tmp_path / "theirs.pth"), normalise=((0.5,) * 3, (0.25,) * 3))
    images = torch.rand((2, 3, 32, 32), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        expected = network((images - 0.5) / 0.25)
        assert expected.std() > 1e-3
        torch.testing.assert_close(found(images), expected, rtol=1e-10, atol=1e-10)


def test_torchvisions_reads_images_of_its_own_size(tmp_path: Path) -> None:
    network = lively(theirs("torchvision-vgg", 13)).double()
    torch.save(network.state_dict(), tmp_path / "theirs.pth")
    found = load(str(tmp_path / "theirs.pth"), normalise=((0.5,) * 3, (0.25,) * 3))
    images = torch.rand((1, 3, 224, 224), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(found(images), network((images - 0.5) / 0.25), rtol=1e-10, atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_file_of_a_spiking_vgg_is_read_once_its_neurons_are_told(family: str, tmp_path: Path) -> None:
    torch.save(lively(theirs(family)).double().state_dict(), tmp_path / "theirs.pth")
    given = SpikingReading(3, Neuron(0.1, 0.8))
    path = str(tmp_path / "theirs.pth")
    found = load(path, normalise=((0.5,) * 3, (0.25,) * 3), kind="spiking", spiking=given)
    images = torch.rand((2, 3, 224, 224), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        expected = torch.stack(naive_logits(found.architecture, found.state_dict(), images))
        assert expected.flatten(0, 1).std(0).max() > 1e-3
        torch.testing.assert_close(found(images), expected, rtol=0, atol=1e-12)
    for odd, words in (({"block": "sew"}, "block is 'sew'"), ({"stem_padding": 3}, "stem_padding is not 1")):
        with pytest.raises(UsageError, match=words):
            load(path, normalise=HALF, kind="spiking", spiking=replace(given, **odd))


@pytest.mark.slow
def test_torchvisions_vgg16_bn_whole(tmp_path: Path) -> None:
    network = lively(torchvision.models.vgg16_bn(num_classes=10)).double()
    torch.save(network.state_dict(), tmp_path / "theirs.pth")
    found = load(str(tmp_path / "theirs.pth"), normalise=((0.5,) * 3, (0.25,) * 3))
    images = torch.rand((1, 3, 64, 64), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(found(images), network((images - 0.5) / 0.25), rtol=1e-10, atol=1e-10)


def test_convolutions_without_biases_are_read_too(tmp_path: Path) -> None:
    network = Flat(features(11, WIDTHS, bias=False), nn.Linear(12, 7))
    assert not recognise(shapes_of(network)).notes
    assert_same_logits(network, tmp_path)


@pytest.mark.parametrize("prefix", ["module.", "state_dict.module.", "model.backbone."])
def test_wrappers_are_seen_through(prefix: str) -> None:
    network = theirs("kuangliu-vgg")
    found, _ = read(shapes_of(network, prefix) | {"optimizer.state.0.momentum_buffer": (4,), "epoch": ()})
    assert found.root == prefix
    assert found.architecture == read(shapes_of(network))[0].architecture


def test_a_copy_is_chosen() -> None:
    network = theirs("kuangliu-vgg")
    both = shapes_of(network, "state_dict.") | shapes_of(network, "model_ema.")
    assert (read(both)[0].copy, read(both, Reading(weights="raw"))[0].root) == ("ema", "state_dict.")
    with pytest.raises(FamilyError, match="no averaged"):
        read(shapes_of(network), Reading(weights="ema"))


def test_features_alone_have_no_linear_layer() -> None:
    shapes = {key: shape for key, shape in shapes_of(theirs("kuangliu-vgg")).items() if key.startswith("features.")}
    found, _ = read(shapes)
    assert not found.has_head
    assert found.ending


def changed(**shapes: tuple[int, ...] | None) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...] | None] = {**shapes_of(theirs("chenyaofo-vgg")), **shapes}
    return {key: shape for key, shape in found.items() if shape is not None}


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        (shapes_of(torchvision.models.VGG(torchvision.models.vgg.make_layers([4, "M", 4]), 2)), "or it never had any"),
        (changed(**{"features.1.running_var": None}), "features.1' lacks running_var"),
        (changed(**{"features.4.weight": (6, 5, 3, 3)}), "4 channels before it"),
        (changed(**{"features.0.bias": (5,)}), r"is \[5\] where \[4\] fits"),
        (changed(**{"features.5.weight": (7,)}), r"is \[7\] where \[6\] fits"),
        (changed(**{"features.2.slope": (4,)}), "are not explained: 'features.2' (slope)"),
        (changed(**{"classifier.3.weight": (11, 8)}), "what stands before it gives 9"),
        (changed(**{"classifier.6.bias": None}), "no linear layer with its bias"),
        (changed(**{"mixing.weight": (3,)}), "not explained: 'mixing' (weight)"),
    ],
)
def test_what_is_no_vgg_that_can_be_described(shapes: dict[str, tuple[int, ...]], words: str) -> None:
    with pytest.raises(FamilyError) as caught:
        read(shapes)
    assert words.replace("\\", "") in caught.value.message
    assert caught.value.fix


def test_layers_at_other_distances_are_no_vgg() -> None:
    network = Flat(features(11, WIDTHS), nn.Linear(12, 7))
    moved = {}
    for key, shape in shapes_of(network).items():
        first, number, rest = key.split(".", 2) if key.startswith("features.") else (key, "0", "")
        moved[f"{first}.{int(number) + (int(number) > 7)}.{rest}" if rest else key] = shape
    with pytest.raises(FamilyError, match="stand 4 layers"):
        read(moved)


def test_what_stands_beside_may_be_left_out() -> None:
    shapes = changed(**{"mixing.weight": (3,)})
    found, _ = read(shapes, Reading(allow_unused=True))
    assert "mixing.weight" in found.dropped
    assert any("mixing" in note for note in found.notes)
