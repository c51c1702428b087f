"""The splits of a data set: which images each takes, and what the rest of the house gets of them.

The choice is class-balanced and seeded, and each split's is independent of the others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from idsnn_cli.data.source import Crop, FileImages, Part, Rows, shuffled
from idsnn_cli.errors import DataError
from idsnn_cli.recipe.schema import Data
from idsnn_cli.seeding import derive_seed

_CHUNK = 4096


@dataclass(frozen=True, eq=False)
class Split:
    """Images (N, C, H, W) uint8, of recordings (N, T, 2, H, W), and ``labels`` (N,) int64, on one device.

    ``stored`` is the images as a tensor, or as what stays in their files; then labels are on the CPU.
    """

    stored: Tensor | FileImages
    labels: Tensor

    @property
    def images(self) -> Tensor:
        """All images; of those in files every one is decoded now, so that this is for small sets alone."""
        return self.first(len(self))

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the images: (N, C, H, W) or (N, T, 2, H, W)."""
        return tuple(self.stored.shape)

    def first(self, count: int) -> Tensor:
        """The first ``count`` images, uint8."""
        return self.stored if count == len(self) and isinstance(self.stored, Tensor) else self.stored[:count]

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> Split:
        """The same split on ``device``; no copy where it is there already, and images stay in their files."""
        if isinstance(self.stored, FileImages):
            return self
        return replace(self, stored=self.stored.to(device), labels=self.labels.to(device))

    def order(self, seed: int) -> Tensor:
        """int64 (N,), the order of an epoch."""
        if isinstance(self.stored, FileImages):
            return self.stored.order(seed)
        return shuffled(len(self), seed)

    def gather(
        self, wanted: Sequence[Tensor], device: torch.device | str, crop: Crop | None = None
    ) -> Generator[tuple[Tensor, Tensor]]:
        """The images, uint8, and the labels of each int64 (n,) of ``wanted``, on ``device``; ``crop`` is for files.

        Raises :class:`DataError` for a file that cannot be read.
        """
        device = torch.device(device)
        if isinstance(self.stored, FileImages):
            with closing(self.stored.read(wanted, device, crop)) as read:
                for rows, images in zip(wanted, read, strict=True):
                    yield images, self.labels[rows].to(device, non_blocking=True)
            return
        for rows in wanted:
            there = rows.to(self.stored.device, non_blocking=True)
            labels = self.labels.index_select(0, there).to(device, non_blocking=True)
            yield self.stored.index_select(0, there).to(device, non_blocking=True), labels


@dataclass(frozen=True, eq=False)
class DataBundle:
    """A data set as a recipe asked for it.

    ``mean`` and ``std`` are per channel, of images in 0 to 1: what a network built for this data normalises with.
    ``fingerprint`` is the SHA-256 of the images and labels of the three splits, and of images that stay in their files
    that of the files' names and sizes. ``validation`` is None where the recipe and the data set keep no images for it.
    """

    name: str
    train: Split
    validation: Split | None
    test: Split
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def channels(self) -> int:
        """Of an image: 3 are red, green and blue, 1 is grey; of a frame the 2 polarities."""
        return self.train.shape[-3]

    @property
    def frames(self) -> int | None:
        """T of recordings; None of images."""
        return self.train.shape[1] if len(self.train.shape) == 5 else None

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.train.shape[-2], self.train.shape[-1]


def fingerprint(splits: dict[str, Split | None]) -> str:
    """SHA-256 over the name, shape, images and labels of every split that is there, in the order given.

    Of images that stay in their files what is hashed is :meth:`FileImages.identity`.
    """
    digest = hashlib.sha256()
    for name, split in splits.items():
        if split is None:
            continue
        digest.update(f"{name} {split.shape}\n".encode())
        if isinstance(split.stored, FileImages):
            digest.update(split.stored.identity())
        else:
            for images in torch.split(split.stored, _CHUNK):  # in chunks, for a memory map is larger than memory
                digest.update(images.contiguous().numpy().data)
        digest.update(split.labels.contiguous().numpy().astype("<i8").data)
    return digest.hexdigest()


def split_sizes(section: Data, shipped: Mapping[Part, int]) -> dict[Part, int]:
    """How many images each split has, from how many each part ships.

    ``validation`` is a count, or a fraction of the training images that are used (``subset``, or all of them). It is
    taken first and the subset from the rest, so asking for both gives both in full. Raises :class:`DataError` where
    a part is too small.
    """
    train, test = shipped["train"], shipped["test"]
    sizes: dict[Part, int] = {}
    held_out = 0
    if section.validation is None:
        if "validation" in shipped:
            sizes["validation"] = shipped["validation"]
    else:
        wanted = section.validation
        held_out = wanted if isinstance(wanted, int) else max(1, round(wanted * (section.subset or train)))
        sizes["validation"] = held_out
    if held_out >= train:
        raise DataError(
            f"data.validation asks for {held_out:,} images of a training part of {train:,}",
            f"Give data.validation a number below {train}, or a fraction such as 0.1.",
        )
    if section.subset is not None and section.subset > train - held_out:
        left = f"{train:,} training images" + (f", of which validation takes {held_out:,}" if held_out else "")
        raise DataError(
            f"data.subset asks for {section.subset:,} images, but {section.dataset} has {left}",
            f"Set data.subset to {train - held_out} or less.",
        )
    if section.test_subset is not None and section.test_subset > test:
        raise DataError(
            f"data.test_subset asks for {section.test_subset:,} images, but {section.dataset} has {test:,} to test",
            f"Set data.test_subset to {test} or less.",
        )
    if section.select == "validation" and "validation" not in sizes:
        raise DataError(
            "data.select is validation, but the data set ships no validation images and data.validation is not given",
            "Set data.validation to a count or a fraction such as 0.1, or data.select=test.",
        )
    train_size = train - held_out if section.subset is None else section.subset
    return {"train": train_size, **sizes, "test": test if section.test_subset is None else section.test_subset}


def choose_splits(section: Data, labels: Mapping[Part, Tensor], num_classes: int, seed: int) -> dict[Part, Rows]:
    """The rows of every split, in the order of the file.

    ``labels`` holds int64 (N,) of each shipped part. The three draws have seeds of their own: another ``subset`` keeps
    the validation images, and another ``test_subset`` keeps both. Raises :class:`DataError` where a part is too small.
    """
    sizes = split_sizes(section, {part: len(each) for part, each in labels.items()})
    train = labels["train"]
    free = torch.ones(len(train), dtype=torch.bool)
    rows: dict[Part, Rows] = {}
    if section.validation is not None:
        counts = torch.bincount(train, minlength=num_classes)
        held_out = balanced_rows(train, _held_out_counts(counts, sizes["validation"]), _seed(seed, "validation"))
        free[held_out] = False
        rows["validation"] = ("train", held_out)
    elif "validation" in labels:
        rows["validation"] = ("validation", torch.arange(len(labels["validation"])))
    rest = free.nonzero().flatten()
    if section.subset is None:
        rows["train"] = ("train", rest)
    else:
        shares = balanced_counts(torch.bincount(train[rest], minlength=num_classes), section.subset)
        rows["train"] = ("train", balanced_rows(train, shares, _seed(seed, "subset"), free))
    if section.test_subset is None:
        rows["test"] = ("test", torch.arange(len(labels["test"])))
    else:
        shares = balanced_counts(torch.bincount(labels["test"], minlength=num_classes), section.test_subset)
        rows["test"] = ("test", balanced_rows(labels["test"], shares, _seed(seed, "test_subset")))
    return {part: rows[part] for part in ("train", "validation", "test") if part in rows}


def balanced_counts(available: Tensor, total: int) -> Tensor:
    """How many of ``total`` images each class gives: int64 (classes,).

    They differ by at most one, the first classes giving the odd ones, unless a class has too few; then it gives all
    and the others share what is left. ``total`` must not exceed ``available.sum()``.
    """
    counts = torch.zeros_like(available)
    left = total
    while left > 0:
        open_classes = (counts < available).nonzero().flatten()
        if left < len(open_classes):
            counts[open_classes[:left]] += 1
            break
        step = min(left // len(open_classes), int((available - counts)[open_classes].min()))
        counts[open_classes] += step
        left -= step * len(open_classes)
    return counts


def balanced_rows(labels: Tensor, counts: Tensor, seed: int, free: Tensor | None = None) -> Tensor:
    """``counts[c]`` seeded rows of every class c, rising, among those that ``free`` (bool, all where None) allows.

    The order in which a class is drawn is fixed by the seed alone, whatever is free or asked for.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(labels), generator=generator)
    if free is not None:
        order = order[free[order]]
    drawn = labels[order]
    chosen = [order[drawn == c][:count] for c, count in enumerate(counts.tolist())]
    return torch.cat(chosen).sort().values


def _held_out_counts(counts: Tensor, total: int) -> Tensor:
    """As :func:`balanced_counts`, but half of every class stays for training where it can, and one image always."""
    for available in (counts // 2, (counts - 1).clamp(min=0)):
        if total <= int(available.sum()):
            return balanced_counts(available, total)
    raise DataError(
        f"data.validation asks for {total:,} images, which would leave a class without training images",
        f"Set data.validation to {int((counts - 1).clamp(min=0).sum())} or less.",
    )


def _seed(seed: int, purpose: str) -> int:
    return derive_seed(seed, "data", purpose)
