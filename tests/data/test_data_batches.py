"""Order, sharding and resumption of batches."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from idsnn_cli.data import Split, TrainBatches, calibration_batches, drawn_batches, eval_batches, shard
from idsnn_cli.recipe.schema import Augment

NONE = Augment(crop=0, flip=False)
ALL = Augment(autoaugment="cifar10", cutout=4)


def split_of(count: int) -> Split:
    """Image i is i everywhere, and so is its label."""
    levels = torch.arange(count)
    images = levels.to(torch.uint8)[:, None, None, None].expand(-1, 3, 8, 8).contiguous()
    return Split(images, levels)


def noise_of(count: int) -> Split:
    generator = torch.Generator().manual_seed(0)
    return Split(torch.randint(0, 256, (count, 3, 12, 12), dtype=torch.uint8, generator=generator), torch.arange(count))


def batches_of(
    split: Split, size: int, augment: Augment = NONE, seed: int = 0, rank: int = 0, world: int = 1
) -> TrainBatches:
    return TrainBatches(
        split,
        batch_size=size,
        augment=augment,
        seed=seed,
        device="cpu",
        fill=(0.5, 0.5, 0.5),
        rank=rank,
        world=world,
    )


@settings(deadline=None, derandomize=True, max_examples=40)
@given(st.integers(1, 60), st.integers(1, 70))
def test_an_epoch_shows_every_image_once_beside_its_label(count: int, size: int) -> None:
    batches = batches_of(split_of(count), size)
    shown = list(batches.epoch(0))
    assert len(shown) == batches.steps_per_epoch
    assert [batch.index for batch in shown] == list(range(len(shown)))
    assert [batch.global_size for batch in shown[:-1]] == [size] * (len(shown) - 1)
    labels = torch.cat([batch.labels for batch in shown])
    assert sorted(labels.tolist()) == list(range(count))
    for batch in shown:
        assert torch.equal((batch.images[:, 0, 0, 0] * 255).round().long(), batch.labels)


def test_every_epoch_and_seed_has_an_order_of_its_own() -> None:
    split = split_of(50)
    orders = [
        tuple(torch.cat([batch.labels for batch in batches_of(split, 16, seed=seed).epoch(epoch)]).tolist())
        for seed in (0, 1)
        for epoch in (0, 1, 2)
    ]
    assert len(set(orders)) == len(orders)
    again = torch.cat([batch.labels for batch in batches_of(split, 7).epoch(1)])
    assert tuple(again.tolist()) == orders[1]


def test_an_epoch_can_be_taken_up_anywhere() -> None:
    batches = batches_of(noise_of(40), 9, ALL)
    whole = list(batches.epoch(3))
    for start in range(len(whole) + 1):
        rest = list(batches_of(noise_of(40), 9, ALL).epoch(3, start))
        assert [batch.index for batch in rest] == list(range(start, len(whole)))
        for ours, theirs in zip(rest, whole[start:], strict=True):
            assert torch.equal(ours.images, theirs.images)
            assert torch.equal(ours.labels, theirs.labels)


@settings(deadline=None, derandomize=True, max_examples=15)
@given(st.integers(1, 30), st.integers(1, 12), st.integers(1, 5))
def test_processes_together_show_what_one_shows(count: int, size: int, world: int) -> None:
    split = noise_of(count)
    ranks = [list(batches_of(split, size, ALL, rank=rank, world=world).epoch(2)) for rank in range(world)]
    for one, *shares in zip(batches_of(split, size, ALL).epoch(2), *ranks, strict=True):
        assert torch.equal(torch.cat([share.images for share in shares]), one.images)
        assert torch.equal(torch.cat([share.labels for share in shares]), one.labels)
        assert {share.global_size for share in shares} == {len(one.labels)}
        sizes = [len(share.labels) for share in shares]
        assert max(sizes) - min(sizes) <= 1


def test_a_process_without_images_gets_a_batch_of_none() -> None:
    (batch,) = batches_of(noise_of(1), 8, ALL, rank=0, world=3).epoch(0)
    assert batch.images.shape == (0, 3, 12, 12)
    assert batch.labels.shape == (0,)
    assert batch.global_size == 1


@given(st.integers(0, 1000), st.integers(1, 40))
@settings(deadline=None, derandomize=True, max_examples=60)
def test_shards_cover_everything_once(count: int, world: int) -> None:
    shares = [shard(count, rank, world) for rank in range(world)]
    assert shares[0].start == 0
    assert shares[-1].stop == count
    assert all(one.stop == other.start for one, other in itertools.pairwise(shares))


@pytest.mark.parametrize("world", [1, 3])
def test_evaluation_shows_everything_once_in_order(world: int) -> None:
    split = noise_of(23)
    shown = [pair for rank in range(world) for pair in eval_batches(split, 5, "cpu", rank, world)]
    assert all(0 < len(labels) <= 5 for _, labels in shown)
    assert torch.equal(torch.cat([labels for _, labels in shown]), split.labels)
    assert torch.equal(torch.cat([images for images, _ in shown]), split.images.float() / 255)


def test_calibration_batches_are_whole_seeded_and_go_round() -> None:
    split = split_of(20)
    first = list(calibration_batches(split, 6, 7, 0, "cpu"))
    assert [batch.shape for batch in first] == [(6, 3, 8, 8)] * 7
    levels = [(batch[:, 0, 0, 0] * 255).round().int().tolist() for batch in first]
    for start in (0, 3):
        assert len({level for batch in levels[start : start + 3] for level in batch}) == 18
    assert levels[:3] != levels[3:6]
    again = list(calibration_batches(split, 6, 7, 0, "cpu"))
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    other = next(calibration_batches(split, 6, 1, 1, "cpu"))
    assert not torch.equal(other, first[0])
    small = list(calibration_batches(split_of(3), 64, 2, 0, "cpu"))
    assert [len(batch) for batch in small] == [3, 3]


@pytest.mark.parametrize(
    ("count", "batch_size", "sizes"),
    [(12, 6, [6, 6]), (13, 6, [5, 4, 4]), (5, 64, [5]), (20, 6, [5, 5, 5, 5]), (512, 8, [7, 7, 6])],
)
def test_drawn_batches_are_so_many_images_each_once(count: int, batch_size: int, sizes: list[int]) -> None:
    split = split_of(20)
    found = list(drawn_batches(split, count, batch_size, 3, "cpu"))
    assert [len(images) for images, _ in found] == sizes
    images, labels = (torch.cat(each) for each in zip(*found, strict=True))
    # The first of an order in which the batches of whole size come, too.
    order = torch.cat([(batch[:, 0, 0, 0] * 255).round() for batch in calibration_batches(split, 4, 5, 3, "cpu")])
    levels = (images[:, 0, 0, 0] * 255).round()
    assert torch.equal(levels, order[: min(count, 20)])
    assert len(set(levels.tolist())) == len(levels)
    by_level = {float(image[0, 0, 0]): int(label) for image, label in zip(split.images, split.labels, strict=True)}
    assert [by_level[level] for level in levels.tolist()] == labels.tolist()
