"""The input normalisation found from images: right where it is clear, and never sure where it should not be."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from idsnn_cli.architecture import Architecture, build_description
from idsnn_cli.checkpoint import open_checkpoint
from idsnn_cli.data import calibration_batches, load_data
from idsnn_cli.data.channels import CONSTANTS, candidates
from idsnn_cli.errors import CheckpointError, DataError, UsageError
from idsnn_cli.evaluation.normalisation import NormalisationVerdict, find_normalisation
from idsnn_cli.models import Model, Network, build, identify, identify_tensors
from idsnn_cli.recipe import recipe_from_mapping

SEVEN = build_description("resnet8", 10, width=8, stem="7x7")
STEMS: dict[str, Architecture] = {
    "plain": build_description("resnet8", 10, width=12),
    "7x7": SEVEN,
    "deep": SEVEN.changed(stem="deep", stem_padding=1, stem_widths=(8, 8, 8)),
    "preactivation": SEVEN.changed(stem="3x3", stem_padding=1, preactivation=True),
    "7x7 preactivation": SEVEN.changed(preactivation=True),
    "deep preactivation": SEVEN.changed(stem="deep", stem_padding=1, stem_widths=(8, 8), preactivation=True),
}


def photographs(count: int, seed: int) -> Tensor:
    """(N, 3, 16, 16) in 0 to 1: smooth noise of another brightness and contrast in each image and channel."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn((count, 3, 5, 5), generator=generator)
    smooth = F.interpolate(coarse, (16, 16), mode="bilinear", align_corners=True)
    brightness = torch.randn((count, 3, 1, 1), generator=generator) * 0.1 + torch.rand(
        (count, 1, 1, 1), generator=generator
    )
    return (0.25 * smooth + 0.5 * brightness + 0.22).clamp(0, 1)


def cropped(images: Tensor, seed: int) -> Tensor:
    """Random crops of images with a black border of 2."""
    generator = torch.Generator().manual_seed(seed)
    padded = F.pad(images, (2,) * 4)
    places = torch.randint(0, 5, (len(images), 2), generator=generator).tolist()
    return torch.stack([padded[i, :, y : y + 16, x : x + 16] for i, (y, x) in enumerate(places)])


def trained(architecture: Architecture, name: str, images: Tensor) -> Model:
    """A network whose statistics are those of ``images`` under ``name``."""
    model = build(architecture, seed=2)
    model.set_normalisation(*CONSTANTS[name])
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(images)
    return model.eval()


def foreign(model: Model) -> Network:
    state = {key: value for key, value in model.state_dict().items() if not key.startswith("input.")}
    return identify_tensors({key: tuple(value.shape) for key, value in state.items()}, state.__getitem__)


def batches(seed: int = 9, count: int = 512) -> tuple[Tensor, ...]:
    return torch.split(photographs(count, seed), 128)


@pytest.mark.parametrize("crop", [False, True])
@pytest.mark.parametrize("name", CONSTANTS)
def test_every_candidate_is_found_with_and_without_crops(name: str, crop: bool) -> None:
    seen = photographs(1024, seed=1)
    network = foreign(trained(STEMS["plain"], name, cropped(seen, 3) if crop else seen))
    verdict = find_normalisation(network, batches())
    assert (verdict.name, verdict.padded, verdict.clear, verdict.images) == (name, crop, True, 512)
    assert (verdict.mean, verdict.std) == CONSTANTS[name]
    assert list(verdict.divergences.values()) == sorted(verdict.divergences.values())
    assert verdict.require_clear("x") is verdict


@pytest.mark.parametrize("stem", STEMS)
def test_every_stem_tells(stem: str) -> None:
    network = foreign(trained(STEMS[stem], "imagenet", cropped(photographs(1024, seed=1), 3)))
    verdict = find_normalisation(network, batches())
    assert (verdict.name, verdict.clear) == ("imagenet", True)
    assert verdict.to_dict()["name"] == "imagenet"


def test_the_divergence_is_the_one_that_is_stated() -> None:
    """With kernels that pass one pixel of one channel on, the moments are those of the images themselves."""
    model = build(STEMS["plain"], seed=0)
    width = model.architecture.stem_convolutions()[-1].out_channels
    kernel = torch.zeros(width, 3, 3, 3)
    for channel in range(width):
        kernel[channel, channel % 3, 1, 1] = 1 + channel
    mean, variance = torch.linspace(-1, 1, width), torch.linspace(0.5, 20, width)
    changed = {"stem.conv.weight": kernel, "stem.norm.running_mean": mean, "stem.norm.running_var": variance}
    model.load_state_dict(model.state_dict() | changed)
    images = photographs(30, 4)
    border = F.pad(images, (2,) * 4)
    shifts = [(i % 5, i // 5 % 5) for i in range(30)]
    crops = torch.stack([border[i, :, y : y + 16, x : x + 16] for i, (x, y) in enumerate(shifts)])
    expected = []
    for shown in (images, crops):
        total = 0.0
        for channel in range(width):
            values = (shown[:, channel % 3].double() - 0.5) / 0.5 * (1 + channel)
            m, v = float(values.mean()), float(values.var(correction=0)) + 1e-5
            at, wide = float(mean[channel]), float(variance[channel]) + 1e-5
            forth = 0.5 * (math.log(wide / v) + (v + (m - at) ** 2) / wide - 1)
            back = 0.5 * (math.log(v / wide) + (wide + (m - at) ** 2) / v - 1)
            total += (forth + back) / 2
        expected.append(total / width)
    found = find_normalisation(
        foreign(model), torch.split(images, 7), {name: CONSTANTS[name] for name in ("none", "half")}
    )
    assert found.divergences["half"] == pytest.approx(min(expected), rel=1e-4)


def test_what_no_candidate_explains_is_not_clear_and_lists_all() -> None:
    model = trained(STEMS["plain"], "none", (photographs(1024, seed=1) - 0.45) / 0.22)
    verdict = find_normalisation(foreign(model), batches())
    assert not verdict.clear
    with pytest.raises(UsageError) as caught:
        verdict.require_clear("theirs.pth")
    assert caught.value.message.startswith("theirs.pth does not show clearly")
    assert all(name in caught.value.message for name in CONSTANTS)
    assert len(str(caught.value).splitlines()) <= 5
    assert "teacher.normalise=" in str(caught.value.fix)


def test_two_that_are_near_each_other_are_not_clear() -> None:
    near = {"a": ((0.5,) * 3, (0.5,) * 3), "b": ((0.501,) * 3, (0.501,) * 3)}
    model = trained(STEMS["plain"], "half", photographs(1024, seed=1))
    verdict = find_normalisation(foreign(model), batches(), near)
    assert verdict.divergences["a"] < 0.002
    assert not verdict.clear


def test_what_cannot_tell_is_said() -> None:
    with pytest.raises(CheckpointError, match="never trained"):
        find_normalisation(foreign(build(STEMS["plain"], 0)), batches())
    model = trained(STEMS["plain"], "half", photographs(64, seed=1))
    with pytest.raises(DataError, match="no images"):
        find_normalisation(foreign(model), [])
    for bad in (torch.nan, -1.0):
        spoilt = foreign(trained(STEMS["plain"], "half", photographs(64, seed=1)))
        spoilt.read("stem.norm.running_var")[3] = bad
        with pytest.raises(CheckpointError, match="stem"):
            find_normalisation(spoilt, batches())


def test_dead_channels_weigh_nothing() -> None:
    model = trained(STEMS["plain"], "imagenet", photographs(1024, seed=1))
    state = model.state_dict()
    for name in ("stem.conv.weight", "stem.norm.running_mean", "stem.norm.running_var"):
        state[name][:4] = 0
    verdict = find_normalisation(foreign(model), batches())
    assert (verdict.name, verdict.clear) == ("imagenet", True)


def test_the_order_of_the_batches_sizes_does_not_matter() -> None:
    network = foreign(trained(STEMS["plain"], "cifar10", photographs(256, seed=1)))
    images = photographs(120, 5)
    first, second = (find_normalisation(network, torch.split(images, size)) for size in (120, 17))
    for name in CONSTANTS:
        assert first.divergences[name] == pytest.approx(second.divergences[name], rel=1e-4)


CHECKPOINTS, DATA = os.environ.get("IDSNN_CHECKPOINTS"), os.environ.get("IDSNN_DATA")


@pytest.mark.slow
@pytest.mark.skipif(not (CHECKPOINTS and DATA), reason="IDSNN_CHECKPOINTS and IDSNN_DATA name no public files")
@pytest.mark.parametrize(
    "name", ["akamaster_resnet20-12fca82f.th", "akamaster_resnet56-4bfd9763.th", "ehanw_resnet20.pth"]
)
def test_public_networks_show_imagenets(name: str) -> None:
    recipe = recipe_from_mapping({"data": {"dataset": "cifar10", "test_subset": 10}}, [], origin="a test")
    data = load_data(recipe.data, seed=0)
    verdict: NormalisationVerdict
    with open_checkpoint(Path(str(CHECKPOINTS)) / name) as file:
        network = identify(file)
        for seed in (1, 2):
            verdict = find_normalisation(network, calibration_batches(data.train, 128, 4, seed, "cpu"))
            assert (verdict.name, verdict.padded, verdict.clear) == ("imagenet", True, True)
            assert verdict.ratio > 8


@pytest.mark.parametrize("name", ["none", "half", "measured"])
def test_a_network_of_one_channel_is_shown_the_mean_of_three(name: str) -> None:
    grey = photographs(1024, seed=1).mean(1, keepdim=True)
    known = dict(candidates(1)) | {"measured": ((0.4,), (0.21,))}
    model = build(STEMS["plain"].changed(in_channels=1), seed=2)
    model.set_normalisation(*known[name])
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(grey)
    verdict = find_normalisation(foreign(model.eval()), batches(), known)
    assert (verdict.name, verdict.clear, verdict.mean) == (name, True, known[name][0])
    assert list(candidates(1)) == ["none", "half"]


def verdict(least: float, following: float, agreeing: int, channels: int) -> NormalisationVerdict:
    return NormalisationVerdict((0.5,), (0.5,), {"half": least, "none": following}, False, 512, channels, agreeing)


@pytest.mark.parametrize(
    ("least", "following", "agreeing", "channels", "clear"),
    [
        (0.0064, 0.0188, 64, 64, True),  # augmentation moved the statistics, and all channels say the same
        (0.0064, 0.0188, 16, 16, True),
        (0.0064, 0.0188, 15, 16, False),
        (0.0064, 0.0188, 8, 8, False),  # eight channels agree by chance
        (0.0045, 0.0124, 12, 16, False),  # images of another set
        (0.0084, 0.0250, 64, 64, False),
        (0.0064, 0.0180, 64, 64, False),
        (0.00204, 0.4623, 16, 16, True),
        (0.0030, 0.4623, 10, 16, True),
        (0.0070, 0.4623, 10, 16, False),
        (0.0124, 0.2274, 16, 16, False),  # a deviation of 0.45 where 0.5 is listed
        (0.0300, 3.0000, 16, 16, False),
        (0.0010, 0.0020, 16, 16, False),
        (0.0010, 0.0036, 16, 16, True),
    ],
)
def test_clear_is_judged_by_distance_ratio_and_channels(
    least: float, following: float, agreeing: int, channels: int, clear: bool
) -> None:
    assert verdict(least, following, agreeing, channels).clear is clear


def test_a_measured_normalisation_is_named_by_its_values() -> None:
    found = NormalisationVerdict((0.3,), (0.4,), {"measured": 0.1, "none": 0.2}, False, 512, 8, 8)
    with pytest.raises(UsageError) as caught:
        found.require_clear("theirs.pth")
    assert "teacher.normalise={mean: [0.3], std: [0.4]}" in str(caught.value.fix)


def test_channels_of_which_the_nearest_differs_are_counted() -> None:
    seen = photographs(1024, seed=1)
    right = find_normalisation(foreign(trained(STEMS["plain"], "imagenet", cropped(seen, 3))), batches())
    assert (right.agreeing, right.channels) == (12, 12)
    wrong = find_normalisation(foreign(trained(STEMS["plain"], "none", (seen - 0.45) / 0.22)), batches())
    assert wrong.agreeing < wrong.channels
    assert not wrong.clear
