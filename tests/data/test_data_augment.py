"""Draws and their carrying out: against torchvision's AutoAugment, and against plain loops over images."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms import AutoAugment, AutoAugmentPolicy

from idsnn_cli.data import apply, draw, to_unit
from idsnn_cli.data.autoaugment import POLICIES, autoaugment
from idsnn_cli.recipe.schema import Augment

ALL = Augment(crop=4, flip=True, autoaugment="cifar10", cutout=8)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images_of(count: int, height: int = 32, width: int = 32, seed: int = 0) -> Tensor:
    noise = torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=seeded(seed))
    return noise // torch.randint(1, 5, (count, 1, 1, 1), dtype=torch.uint8, generator=seeded(seed + 1)) + 3


@pytest.mark.parametrize("size", [(32, 32), (28, 28), (24, 40)])
def test_every_policy_is_torchvision_s(size: tuple[int, int]) -> None:
    """All 25 policies, both signs, both operations on and off: equal level by level."""
    cases = [
        (p, first, second, s, t)
        for p in range(25)
        for first in (True, False)
        for second in (True, False)
        for s in (True, False)
        for t in (True, False)
    ]
    policy = torch.tensor([case[0] for case in cases])
    applied = torch.tensor([case[1:3] for case in cases])
    negative = torch.tensor([case[3:5] for case in cases])
    images = images_of(len(cases), *size)
    theirs = AutoAugment(AutoAugmentPolicy.CIFAR10)
    # A probability of -1 is below every policy's and 2 above it: the operation happens, or does not.
    probabilities = torch.where(applied, -1.0, 2.0)
    drawn = zip(policy.tolist(), probabilities, (~negative).int(), strict=True)
    theirs.get_params = lambda transform_num: next(drawn)
    expected = torch.stack([theirs(image) for image in images])
    assert torch.equal(autoaugment(images, policy, applied, negative), expected)


def test_the_table_is_torchvision_s() -> None:
    theirs = AutoAugment(AutoAugmentPolicy.CIFAR10).policies
    ours = [tuple((o.name, o.probability, o.level) for o in pair) for pair in POLICIES]
    assert ours == [tuple((name, probability, level or 0) for name, probability, level in pair) for pair in theirs]


def test_policies_are_drawn_for_each_image_with_their_probabilities() -> None:
    draws = draw(40_000, Augment(autoaugment="cifar10"), seeded(0), (32, 32))
    assert draws.policy is not None
    assert draws.applied is not None
    assert draws.negative is not None
    counts = torch.bincount(draws.policy, minlength=25)
    assert counts.min() > 1400
    assert counts.max() < 1800
    for number, pair in enumerate(POLICIES):
        shares = draws.applied[draws.policy == number].float().mean(0)
        for share, operation in zip(shares, pair, strict=True):
            assert abs(float(share) - operation.probability) < 0.05
    assert abs(float(draws.negative.float().mean()) - 0.5) < 0.01


@settings(deadline=None, derandomize=True, max_examples=40)
@given(st.integers(0, 9), st.integers(1, 20), st.integers(1, 20), st.integers(0, 8), st.booleans(), st.integers(0, 30))
def test_crop_flip_and_cutout_equal_a_loop(
    count: int, height: int, width: int, crop: int, flip: bool, cutout: int
) -> None:
    augment = Augment(crop=crop, flip=flip, cutout=cutout)
    images = images_of(count, height, width)
    draws = draw(count, augment, seeded(1), (height, width))
    fill = (0.1, 0.2, 0.3)
    result = apply(images, draws, fill)
    assert result.shape == images.shape
    assert result.dtype == torch.float32
    for i, image in enumerate(images):
        if draws.top is not None and draws.left is not None:
            top, left = int(draws.top[i]), int(draws.left[i])
            image = F.pad(image, (crop,) * 4)[:, top : top + height, left : left + width]
        if draws.flip is not None and bool(draws.flip[i]):
            image = image.flip(-1)
        expected = image.float() / 255
        if draws.centre_y is not None and draws.centre_x is not None:
            top, left = int(draws.centre_y[i]) - cutout // 2, int(draws.centre_x[i]) - cutout // 2
            for channel, value in enumerate(fill):
                expected[channel, max(top, 0) : max(top + cutout, 0), max(left, 0) : max(left + cutout, 0)] = value
        assert torch.equal(result[i], expected)


def test_crops_reach_every_offset_and_flips_are_fair() -> None:
    draws = draw(20_000, Augment(crop=4, cutout=16), seeded(3), (32, 24))
    assert draws.top is not None
    assert draws.left is not None
    assert draws.flip is not None
    assert draws.centre_y is not None
    assert draws.centre_x is not None
    assert set(draws.top.tolist()) == set(draws.left.tolist()) == set(range(9))
    assert abs(float(draws.flip.float().mean()) - 0.5) < 0.02
    assert set(draws.centre_y.tolist()) == set(range(32))
    assert set(draws.centre_x.tolist()) == set(range(24))


@settings(deadline=None, derandomize=True, max_examples=20)
@given(st.integers(1, 30), st.integers(0, 30), st.integers(0, 30))
def test_shares_of_the_draws_give_the_images_of_the_whole(count: int, one: int, other: int) -> None:
    start, stop = sorted((min(one, count), min(other, count)))
    images, draws = images_of(count), draw(count, ALL, seeded(count), (32, 32))
    whole = apply(images, draws, (0.5, 0.5, 0.5))
    part = draws[start:stop]
    assert len(part) == stop - start
    assert torch.equal(apply(images[start:stop], part, (0.5, 0.5, 0.5)), whole[start:stop])
    rows = torch.randperm(count, generator=seeded(7))
    assert torch.equal(apply(images[rows], draws[rows], (0.5, 0.5, 0.5)), whole[rows])


def test_nothing_drawn_is_nothing_done() -> None:
    images = images_of(5)
    draws = draw(5, Augment(crop=0, flip=False), seeded(0), (32, 32))
    assert torch.equal(apply(images, draws), to_unit(images))
    assert torch.equal(to_unit(images), images.float() / 255)


def test_the_images_given_are_left_as_they_were() -> None:
    images = images_of(64)
    before = images.clone()
    apply(images, draw(64, ALL, seeded(0), (32, 32)))
    assert torch.equal(images, before)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_shows_the_same_images() -> None:
    images, draws = images_of(2000), draw(2000, ALL, seeded(0), (32, 32))
    on_gpu = apply(images.cuda(), draws, (0.5, 0.4, 0.3)).cpu()
    apart = (on_gpu - apply(images, draws, (0.5, 0.4, 0.3))).abs() * 255
    # Blends may truncate to the next level where a multiplication and an addition are fused.
    assert float(apart.max()) < 1.01
    assert float((apart > 0.5).float().mean()) < 1e-3
