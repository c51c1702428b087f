"""What the rest of the house gets: the images and labels of each split, and the numbers that describe them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import torch
from torch import Tensor

_CHUNK = 4096


@dataclass(frozen=True, eq=False)
class Split:
    """``images`` (N, 3, H, W) uint8 and ``labels`` (N,) int64, on one device."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> Split:
        """The same split on ``device``; no copy where it is there already."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))


@dataclass(frozen=True, eq=False)
class DataBundle:
    """A data set as a recipe asked for it.

    ``mean`` and ``std`` are per channel, of images in 0 to 1: what a network built for this data normalises with.
    ``fingerprint`` is the SHA-256 of the images and labels of the three splits. ``validation`` is None where the
    recipe and the data set keep no images for it.
    """

    name: str
    train: Split
    validation: Split | None
    test: Split
    classes: tuple[str, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    fingerprint: str

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.train.images.shape[-2], self.train.images.shape[-1]


def fingerprint(splits: dict[str, Split | None]) -> str:
    """SHA-256 over the name, shape, images and labels of every split that is there, in the order given."""
    digest = hashlib.sha256()
    for name, split in splits.items():
        if split is None:
            continue
        digest.update(f"{name} {tuple(split.images.shape)}\n".encode())
        for images in torch.split(split.images, _CHUNK):  # in chunks, for a memory map is larger than memory
            digest.update(images.contiguous().numpy().data)
        digest.update(split.labels.contiguous().numpy().astype("<i8").data)
    return digest.hexdigest()
