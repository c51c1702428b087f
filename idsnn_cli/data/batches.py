"""Batches for training, evaluation and BatchNorm re-estimation, in orders that depend on the seed and position only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import torch
from torch import Tensor

from idsnn_cli.data.augmentation import Draws, Fill, apply, draw, to_unit
from idsnn_cli.data.source import Crop, shuffled
from idsnn_cli.data.splits import Split
from idsnn_cli.recipe.schema import Augment
from idsnn_cli.seeding import derive_seed
from idsnn_cli.spiking.precision import has_float64


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
    without saved state. ``fill`` (per channel, 0 to 1) is what Cutout leaves. Of images that stay in their files the
    next batches are decoded while one is computed with.
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
        order = self.split.order(derive_seed(self.seed, "order", epoch))
        batches = torch.split(order, self.batch_size)[start:]
        mine = [rows[shard(len(rows), self.rank, self.world)] for rows in batches]
        # Pixels are moved and events thinned in float64, so that every device sees the same images.
        where = self.device if has_float64(self.device) else torch.device("cpu")
        gathered = self.split.gather(mine, where, self._crop(epoch))
        with closing(gathered):
            for index, (rows, (images, labels)) in enumerate(zip(batches, gathered, strict=True), start):
                draws = self._draws(len(rows), epoch, index)
                augmented = apply(images, draws, self.fill)
                yield Batch(augmented.to(self.device), labels.to(self.device), len(rows), index)

    def _draws(self, count: int, epoch: int, index: int) -> Draws:
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "augment", epoch, index))
        size = (self.split.shape[-2], self.split.shape[-1])
        return draw(count, self.augment, generator, size)[shard(count, self.rank, self.world)]

    def _crop(self, epoch: int) -> Crop | None:
        if self.augment.scale is None:
            return None
        return Crop(derive_seed(self.seed, "resized crop", epoch), self.augment.scale, self.augment.ratio)


def eval_batches(
    split: Split, batch_size: int, device: torch.device | str, rank: int = 0, world: int = 1
) -> Iterator[tuple[Tensor, Tensor]]:
    """Every image once and in order: float32 (n, C, H, W) in 0 to 1 and int64 (n,), n from 1 to ``batch_size``.

    With several processes each gets one contiguous share of the split, in batches of ``batch_size`` of its own.
    """
    mine = shard(len(split), rank, world)
    parts = [slice(start, min(start + batch_size, mine.stop)) for start in range(mine.start, mine.stop, batch_size)]
    if isinstance(split.stored, Tensor):
        for rows in parts:  # views: of what is on the device nothing is copied
            yield to_unit(split.stored[rows].to(device)), split.labels[rows].to(device)
        return
    with closing(split.gather([torch.arange(rows.start, rows.stop) for rows in parts], device)) as gathered:
        for images, labels in gathered:
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
    wanted: list[Tensor] = []
    for turn in range(-(-count // per_pass)):
        wanted += torch.split(_shuffled(split, seed, turn), size)[:per_pass]
    with closing(split.gather(wanted[:count], device)) as gathered:
        for images, _ in gathered:
            yield to_unit(images)


def drawn_batches(
    split: Split, count: int, batch_size: int, seed: int, device: torch.device | str
) -> Iterator[tuple[Tensor, Tensor]]:
    """``count`` images (the whole split where it has fewer), each once and without augmentation, and their labels.

    As :func:`calibration_batches` gives them, float32 (n, C, H, W) in 0 to 1 and int64 (n,), n at most ``batch_size``;
    the sizes of batches differ by one at most, so that none is so small that its mean says nothing.
    """
    order = _shuffled(split, seed, 0)[:count]
    with closing(split.gather(order.tensor_split(-(-len(order) // batch_size)), device)) as gathered:
        for images, labels in gathered:
            yield to_unit(images), labels


def _shuffled(split: Split, seed: int, turn: int) -> Tensor:
    return shuffled(len(split), derive_seed(seed, "calibration", turn))


def shard(count: int, rank: int, world: int) -> slice:
    """The contiguous share of ``rank``: the shares of all ranks cover 0 to ``count`` and differ by at most one."""
    return slice(count * rank // world, count * (rank + 1) // world)
