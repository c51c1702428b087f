"""Corruptions against their formulas, and the accuracy on them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from scipy.ndimage import convolve
from torch import Tensor

from idsnn_cli.architecture import build_description
from idsnn_cli.evaluation.accuracy import evaluate
from idsnn_cli.evaluation.measure import Work
from idsnn_cli.evaluation.measures.robustness import MEASURE, STRENGTHS, add_noise, blur, corruption, lower_contrast
from idsnn_cli.models import build


def images(count: int = 5, height: int = 12, width: int = 10) -> Tensor:
    return torch.rand((count, 3, height, width), generator=torch.Generator().manual_seed(0))


def test_noise_is_an_images_own_and_grows_with_its_strength() -> None:
    grey = torch.full((6, 3, 24, 24), 0.5)
    whole = add_noise(grey, 0.08, 3, 0)
    parts = [add_noise(grey[:1], 0.08, 3, 0), add_noise(grey[1:4], 0.08, 3, 1), add_noise(grey[4:], 0.08, 3, 4)]
    assert torch.equal(torch.cat(parts), whole)
    assert float((whole - 0.5).std()) == pytest.approx(0.08, rel=0.05)
    assert float((whole - 0.5).mean()) == pytest.approx(0, abs=0.004)
    # The same draws at another strength, others for another image or seed.
    assert torch.allclose((add_noise(grey, 0.04, 3, 0) - 0.5) * 2, whole - 0.5, atol=1e-6)
    assert not torch.equal(whole[0], whole[1])
    assert not torch.equal(add_noise(grey, 0.08, 4, 0), whole)
    rough = add_noise(images(), 2.0, 0, 0)
    assert (float(rough.min()), float(rough.max())) == (0, 1)


@pytest.mark.parametrize("size", [(12, 10), (8, 8), (40, 48)])
def test_blur_is_a_gaussian_in_32nds_of_the_shorter_side(size: tuple[int, int]) -> None:
    given = images(2, *size)
    for strength in STRENGTHS["blur"]:
        s = strength * min(size) / 32
        radius = int(np.ceil(3 * s))
        i, j = np.mgrid[-radius : radius + 1, -radius : radius + 1]
        kernel = np.exp(-(i**2 + j**2) / (2 * s * s))
        expected = convolve(given.numpy().astype(float), (kernel / kernel.sum())[None, None], mode="nearest")
        assert np.allclose(blur(given, strength).numpy(), expected, atol=1e-5)
    flat = torch.full((1, 3, 9, 9), 0.3)
    assert torch.allclose(blur(flat, 2.0), flat, atol=1e-6)


def test_contrast_shrinks_towards_each_images_mean() -> None:
    given = images()
    found = lower_contrast(given, 0.3)
    for one, other in zip(given, found, strict=True):
        assert torch.allclose(other, one.mean() + 0.3 * (one - one.mean()), atol=1e-6)
    assert torch.allclose(lower_contrast(given, 1.0), given, atol=1e-6)
    assert float(found.std()) < float(given.std())


@pytest.mark.parametrize("name", STRENGTHS)
def test_five_strengths_each_worse_than_the_one_before(name: str) -> None:
    given = images(4, 32, 32)
    changes = [float((corruption(name, strength, 0)(given, 0) - given).abs().mean()) for strength in STRENGTHS[name]]
    assert len(changes) == 5
    assert changes == sorted(changes)
    assert changes[0] > 0


@pytest.mark.parametrize("coding", ["direct", "poisson"])
def test_robustness_does_not_depend_on_batches(coding: str) -> None:
    model = build(build_description("spiking-resnet8", 3, width=4, timesteps=2, coding=coding), seed=2)
    with torch.no_grad():
        # A head that tells images apart, so that accuracy is not the share of one class.
        model.head.weight.mul_(20)
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.bias.add_(0.3)
    given = images(30, 8, 8)
    labels = torch.arange(30) % 3

    def batches(size: int) -> Iterator[tuple[Tensor, Tensor]]:
        for at in range(0, 30, size):
            yield given[at : at + size], labels[at : at + size]

    said: list[str] = []
    found = MEASURE.run(Work(model, lambda: batches(30), seed=5, say=said.append))
    assert {name: tuple(each.strength for each in rows) for name, rows in found.items()} == STRENGTHS
    assert len(said) == len(STRENGTHS)
    assert found == MEASURE.run(Work(model, lambda: batches(7), seed=5))
    worse = [(corruption("blur", 1.5, 5)(given, 0), labels)]
    assert found["blur"][3].top1 == evaluate(model, worse, seed=5).top1
    assert len({each.top1 for rows in found.values() for each in rows}) > 1
