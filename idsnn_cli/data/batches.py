"""Batches for training, evaluation and BatchNorm re-estimation, in orders that depend on the seed and position only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from idsnn_cli.data.augmentation import Fill, apply, draw, to_unit
from idsnn_cli.data.splits import Split
from idsnn_cli.recipe.schema import Augment
from idsnn_cli.seeding import derive_seed


@dataclass(frozen=True, eq=False)
class Batch:
    """One process's share of a global batch.

    ``images`` float32 (n, C, H, W) in 0 to 1, of recordings (n, T, 2, H, W), and ``labels`` int64 (n,), n from 0;
    ``global_size`` images over all processes; ``index`` is the batch's place in its epoch, from 0.
    """

    images: Tensor
    labels: Tensor
    global_size: int
    index: int


class TrainBatches:
    """Augmented training batches: a new order every epoch, the last and smaller batch kept.

    ``batch_size`` is the global one. Each of ``world`` processes gets its contiguous share, near equal and perhaps
    empty, of the same global batches: put together by rank they are the batches of one process, image by image.
    Order and draws come from ``seed``, the epoch and the batch's index, so any position can be taken up again
    without saved state. ``fill`` (per channel, 0 to 1) is what Cutout leaves.
    """

    def __init__(
        self,
        split: Split,
        *,
        batch_size: int,
        augment: Augment,
        seed: int,
        device: torch.device | str,
        fill: Fill,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.split = split
        self.batch_size = batch_size
        self.augment = augment
        self.seed = seed
        self.device = torch.device(device)
        self.fill = fill
        self.rank = rank
        self.world = world

    @property
    def steps_per_epoch(self) -> int:
        return -(-len(self.split) // self.batch_size)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of ``epoch`` (from 0), beginning with the one of index ``start``."""
        order = _permutation(len(self.split), derive_seed(self.seed, "order", epoch))
        for index in range(start, self.steps_per_epoch):
            rows = order[index * self.batch_size : (index + 1) * self.batch_size]
            yield self._batch(rows, epoch, index)

    def _batch(self, rows: Tensor, epoch: int, index: int) -> Batch:
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "augment", epoch, index))
        size = (self.split.images.shape[-2], self.split.images.shape[-1])
        mine = shard(len(rows), self.rank, self.world)
        draws = draw(len(rows), self.augment, generator, size)[mine]
        images, labels = _rows(self.split, rows[mine], self.device)
        return Batch(apply(images, draws, self.fill), labels, len(rows), index)


def eval_batches(
    split: Split, batch_size: int, device: torch.device | str, rank: int = 0, world: int = 1
) -> Iterator[tuple[Tensor, Tensor]]:
    """Every image once and in order: float32 (n, C, H, W) in 0 to 1 and int64 (n,), n from 1 to ``batch_size``.

    With several processes each gets one contiguous share of the split, in batches of ``batch_size`` of its own.
    """
    mine = shard(len(split), rank, world)
    for start in range(mine.start, mine.stop, batch_size):
        rows = slice(start, min(start + batch_size, mine.stop))
        images, labels = split.images[rows].to(device), split.labels[rows].to(device)
        yield to_unit(images), labels


def calibration_batches(
    split: Split, batch_size: int, count: int, seed: int, device: torch.device | str
) -> Iterator[Tensor]:
    """``count`` batches of training images without augmentation, float32 (batch_size, C, H, W) in 0 to 1.

    All have one size (that of the split where it is smaller), so that a mean over batches is a mean over images.
    Where one pass over the split is not enough, the next has an order of its own.
    """
    size = min(batch_size, len(split))
    per_pass = len(split) // size
    for index in range(count):
        turn, place = divmod(index, per_pass)
        if place == 0:
            order = _shuffled(split, seed, turn)
        images, _ = _rows(split, order[place * size : (place + 1) * size], torch.device(device))
        yield to_unit(images)


def drawn_batches(
    split: Split, count: int, batch_size: int, seed: int, device: torch.device | str
) -> Iterator[tuple[Tensor, Tensor]]:
    """``count`` images (the whole split where it has fewer), each once and without augmentation, and their labels.

    As :func:`calibration_batches` gives them, float32 (n, C, H, W) in 0 to 1 and int64 (n,), n at most ``batch_size``;
    the sizes of batches differ by one at most, so that none is so small that its mean says nothing.
    """
    order = _shuffled(split, seed, 0)[:count]
    for rows in order.tensor_split(-(-len(order) // batch_size)):
        images, labels = _rows(split, rows, torch.device(device))
        yield to_unit(images), labels


def _shuffled(split: Split, seed: int, turn: int) -> Tensor:
    return _permutation(len(split), derive_seed(seed, "calibration", turn))


def shard(count: int, rank: int, world: int) -> slice:
    """The contiguous share of ``rank``: the shares of all ranks cover 0 to ``count`` and differ by at most one."""
    return slice(count * rank // world, count * (rank + 1) // world)


def _permutation(count: int, seed: int) -> Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))


def _rows(split: Split, rows: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """Some images, still uint8, and labels, gathered where the split is and moved to ``device``."""
    there = rows.to(split.images.device, non_blocking=True)
    images = split.images.index_select(0, there)
    return images.to(device, non_blocking=True), split.labels.index_select(0, there).to(device, non_blocking=True)
