"""Images of one, two, three and four channels: kept, turned into each other, measured and refused."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from PIL import Image

from idsnn_cli.data import load_data, plan_data
from idsnn_cli.data.channels import with_channels, with_size
from idsnn_cli.errors import DataError, UsageError
from idsnn_cli.recipe.schema import Augment, Data, MeanStd


def pack(path: Path, channels: int | None, height: int = 8, width: int = 8) -> np.ndarray:
    """A file of 12 images of two classes, and those images; of None channels they have no axis of them."""
    last = () if channels is None else (channels,)
    images = np.random.default_rng(0).integers(0, 256, (12, height, width, *last), dtype=np.uint8)
    labels = np.arange(12) % 2
    np.savez(path, train_images=images, train_labels=labels, test_images=images[:4], test_labels=labels[:4])
    return images


@pytest.mark.parametrize("channels", [None, 1, 2, 3, 4])
def test_npz_keeps_its_channels(tmp_path: Path, channels: int | None) -> None:
    images = pack(tmp_path / "a.npz", channels).reshape(12, 8, 8, -1)
    section = Data(dataset="npz", path=tmp_path / "a.npz")
    bundle, plan = load_data(section, seed=0), plan_data(section)
    assert np.array_equal(bundle.train.images.numpy(), images.transpose(0, 3, 1, 2))
    assert bundle.channels == plan.channels == (channels or 1)
    assert plan.image_bytes == 16 * 64 * (channels or 1)
    assert bundle.mean == pytest.approx(images.mean((0, 1, 2)) / 255)
    assert bundle.std == pytest.approx(images.std((0, 1, 2)) / 255)


def test_channels_are_the_rounded_mean_or_three_equal_ones(tmp_path: Path) -> None:
    images = pack(tmp_path / "a.npz", 3).astype(int)
    grey = load_data(Data(dataset="npz", path=tmp_path / "a.npz", channels=1), seed=0)
    assert grey.train.images.shape == (12, 1, 8, 8)
    assert np.array_equal(grey.train.images[:, 0].numpy(), np.rint(images.mean(3)))
    assert plan_data(Data(dataset="npz", path=tmp_path / "a.npz", channels=1)).image_bytes == 16 * 64
    pack(tmp_path / "b.npz", None)
    three = load_data(Data(dataset="npz", path=tmp_path / "b.npz", channels=3), seed=0).train.images
    assert torch.equal(three[:, 0], three[:, 2])
    assert torch.equal(with_channels(three, 1), three[:, :1])


def test_two_channels_are_not_turned_into_others(tmp_path: Path) -> None:
    pack(tmp_path / "a.npz", 2)
    section = Data(dataset="npz", path=tmp_path / "a.npz", channels=3)
    for look in (plan_data, lambda section: load_data(section, seed=0)):
        with pytest.raises(DataError, match="have 2 channels"):
            look(section)
    policy = Data(dataset="npz", path=tmp_path / "a.npz", augment=Augment(autoaugment="cifar10"))
    with pytest.raises(DataError, match="autoaugment"):
        plan_data(policy)


def test_parts_of_other_channels_are_refused(tmp_path: Path) -> None:
    images = np.zeros((4, 8, 8, 3), np.uint8)
    labels = np.arange(4) % 2
    np.savez(
        tmp_path / "a.npz", train_images=images, train_labels=labels, test_images=images[..., 0], test_labels=labels
    )
    with pytest.raises(DataError, match="1 channels, the training images have 3"):
        plan_data(Data(dataset="npz", path=tmp_path / "a.npz"))


def test_digits_and_grey_folders_have_one_channel_where_it_is_asked_for(tmp_path: Path) -> None:
    three, one = (load_data(Data(dataset="digits", channels=number), seed=0) for number in (None, 1))
    assert torch.equal(one.train.images, three.train.images[:, :1])
    assert one.mean == three.mean[:1]
    for part in ("train", "test"):
        for level, name in enumerate(("dark", "light")):
            (tmp_path / part / name).mkdir(parents=True)
            Image.fromarray(np.full((8, 8), 100 * level + 7, np.uint8)).save(tmp_path / part / name / "0.png")
    section = Data(dataset="folder", path=tmp_path, image_size=8)
    assert "data.channels=1" in plan_data(section).notes[0]
    grey = section.model_copy(update={"channels": 1})
    assert plan_data(grey).notes == ()
    assert load_data(grey, seed=0).train.images[:, 0, 0, 0].tolist() == [7, 107]
    mapped = load_data(grey, seed=0, max_memory_gb=1e-12)
    assert mapped.train.images.shape == (2, 1, 8, 8)


def test_a_normalisation_of_three_values_for_one_channel_says_so(tmp_path: Path) -> None:
    pack(tmp_path / "a.npz", 1)
    path = tmp_path / "a.npz"
    for normalise, words in (("imagenet", "normalise=imagenet has 3"), (MeanStd(mean=(0, 0), std=(1, 1)), "has 2")):
        with pytest.raises(UsageError, match=words) as caught:
            plan_data(Data.model_validate({"dataset": "npz", "path": path, "normalise": normalise}))
        assert "{mean: [x], std: [x]}" in str(caught.value.fix)
    half = load_data(Data(dataset="npz", path=path, normalise="half"), seed=0)
    assert (half.mean, half.std) == ((0.5,), (0.5,))
    with pytest.raises(ValueError, match="mean has 1 values and std 3"):
        MeanStd(mean=(0.5,), std=(1, 1, 1))


def test_npz_is_resized_and_cropped_where_a_size_is_asked_for(tmp_path: Path) -> None:
    pack(tmp_path / "a.npz", None, 8, 16)
    section = Data(dataset="npz", path=tmp_path / "a.npz", image_size=16)
    bundle = load_data(section, seed=0)
    assert bundle.image_size == plan_data(section).image_size == (16, 16)
    assert plan_data(section).image_bytes == 16 * 256
    wide = torch.zeros(1, 1, 4, 8, dtype=torch.uint8)
    wide[..., 2:6] = 200
    assert set(with_size(wide, 4).flatten().tolist()) == {200}
    blocks = torch.tensor([[10, 30], [50, 70]], dtype=torch.uint8).repeat_interleave(8, 0).repeat_interleave(8, 1)
    shrunk = with_size(blocks[None, None], 8)[0, 0]
    assert (int(shrunk[0, 0]), int(shrunk[-1, -1])) == (10, 70)


@pytest.mark.parametrize("policy", ["cifar10", "none"])
def test_augmentation_of_grey_is_that_of_three_equal_channels(policy: Literal["none", "cifar10"]) -> None:
    from idsnn_cli.data import apply, draw

    images = load_data(Data(dataset="digits"), seed=0).train.images[:64]
    augment = Augment(crop=2, cutout=4, autoaugment=policy)
    draws = draw(64, augment, torch.Generator().manual_seed(3), (32, 32))
    three, one = apply(images, draws, (0.1,) * 3), apply(images[:, :1], draws, (0.1,))
    assert one.shape == (64, 1, 32, 32)
    assert torch.equal(three, one.expand(-1, 3, -1, -1))
