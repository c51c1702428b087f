"""The embedded digits against scikit-learn's copy of them."""

from __future__ import annotations

from importlib import resources

import numpy as np
import pytest
import torch

from idsnn_cli.data import load_data, plan_data
from idsnn_cli.data.sets.digits import HELD_OUT, held_out_split, raw_digits
from idsnn_cli.recipe.schema import Data

DIGITS = Data(dataset="digits")


def test_the_embedded_digits_are_scikit_learn_s() -> None:
    datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed")
    theirs = datasets.load_digits()
    images, labels = raw_digits()
    assert np.array_equal(images.numpy(), theirs.images)
    assert np.array_equal(labels.numpy(), theirs.target)


def test_they_are_shown_enlarged_in_three_equal_channels() -> None:
    bundle = load_data(DIGITS, seed=0)
    images = torch.cat([bundle.train.images, bundle.test.images])
    assert images.shape == (1797, 3, 32, 32)
    assert images.dtype == torch.uint8
    counts, labels = raw_digits()
    rows = torch.cat(list(held_out_split(labels).values()))
    small = images[:, 1, 2::4, 1::4].double()
    assert (small - counts[rows].double() * 255 / 16).abs().max() <= 0.5
    blocks = images.view(-1, 3, 8, 4, 8, 4)
    assert torch.equal(blocks.amax((1, 3, 5)), blocks.amin((1, 3, 5)))


def test_the_test_part_is_the_last_fifth_of_every_class() -> None:
    bundle = load_data(DIGITS, seed=0)
    assert torch.bincount(bundle.test.labels).tolist() == [HELD_OUT] * 10
    assert len(bundle.test) / 1797 == pytest.approx(0.2, abs=0.005)
    _, labels = raw_digits()
    parts = held_out_split(labels)
    for digit in range(10):
        assert (
            parts["train"][labels[parts["train"]] == digit].max() < parts["test"][labels[parts["test"]] == digit].min()
        )


def test_normalisation_is_measured_on_the_training_images() -> None:
    bundle = load_data(DIGITS.model_copy(update={"subset": 500}), seed=0)
    values = bundle.train.images.double() / 255
    assert bundle.mean == pytest.approx(values.mean((0, 2, 3)).tolist(), rel=1e-9)
    assert bundle.std == pytest.approx(values.std((0, 2, 3), correction=0).tolist(), rel=1e-9)


def test_the_plan_says_what_loading_gives() -> None:
    section = Data(dataset="digits", subset=200, validation=0.1, test_subset=100)
    plan, bundle = plan_data(section), load_data(section, seed=3)
    assert bundle.validation is not None
    assert plan.counts == {"train": len(bundle.train), "validation": len(bundle.validation), "test": len(bundle.test)}
    assert plan.counts == {"train": 200, "validation": 20, "test": 100}
    assert plan.image_bytes == 320 * 3 * 32 * 32
    assert plan.num_classes == bundle.num_classes == 10
    assert plan.image_size == bundle.image_size == (32, 32)
    assert (plan.files, plan.missing, plan.downloads, plan.download_mb) == ((), (), (), 0)


def test_the_licence_travels_with_the_data() -> None:
    text = resources.files("idsnn_cli.data").joinpath("digits.LICENSE.txt").read_text()
    assert "CC BY 4.0" in text
    assert "Alpaydin" in text
