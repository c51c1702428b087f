"""The UCI optical digits, embedded: 1,797 real handwritten digits, so that a fresh machine needs no download."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from idsnn_cli.data.source import DataPlan, DataSet, Part, Rows, Say, Source, take
from idsnn_cli.recipe.data_section import Data

if TYPE_CHECKING:
    from torch import Tensor


ATTRIBUTION = (
    "E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998, "
    "https://doi.org/10.24432/C50P49, licensed CC BY 4.0"
)
CLASSES = tuple(map(str, range(10)))
HELD_OUT = 36
"""Test images of each class, a fifth of them."""
_ENLARGE = 4
_SIZE = (8 * _ENLARGE, 8 * _ENLARGE)


class Digits(DataSet):
    """The digits as uint8 (N, 3, 32, 32), black ink shown bright on black as in the original; nothing can be missing.

    Counts of 0 to 16 become levels of 0 to 255, rounded. Every pixel is repeated 4x4: the original counted the ink of
    one 4x4 block of a 32x32 bitmap for each, so a repeated pixel stands exactly where it was counted, and nothing is
    made up in between.
    """

    def plan(self, section: Data) -> DataPlan:
        from idsnn_cli.data.splits import split_sizes

        _, labels = raw_digits()
        counts = split_sizes(section, {part: len(rows) for part, rows in held_out_split(labels).items()})
        return DataPlan(
            name="digits",
            files=(),
            counts=counts,
            image_bytes=sum(counts.values()) * 3 * _SIZE[0] * _SIZE[1],
            num_classes=len(CLASSES),
            image_size=_SIZE,
        )

    def open(self, section: Data, *, max_memory_gb: float, say: Say | None) -> Source:
        import torch

        counts, labels = raw_digits()
        levels = ((counts.to(torch.int64) * 255 + 8) // 16).to(torch.uint8)
        enlarged = levels.repeat_interleave(_ENLARGE, 1).repeat_interleave(_ENLARGE, 2)
        images = enlarged[:, None].expand(-1, 3, -1, -1)
        parts = held_out_split(labels)
        arrays = {part: images[rows].contiguous() for part, rows in parts.items()}

        def read(rows: Mapping[Part, Rows]) -> dict[Part, Tensor]:
            return take(arrays, rows)

        return Source("digits", CLASSES, {part: labels[rows] for part, rows in parts.items()}, _SIZE, read)


DIGITS = Digits()


@cache
def raw_digits() -> tuple[Tensor, Tensor]:
    """Ink counts uint8 (1797, 8, 8) in 0 to 16, and labels int64 (1797,), in the order of the original file."""
    import numpy as np
    import torch

    with resources.files("idsnn_cli.data").joinpath("digits.npz").open("rb") as file, np.load(file) as archive:
        return torch.from_numpy(archive["images"]), torch.from_numpy(archive["labels"].astype(np.int64))


def held_out_split(labels: Tensor) -> dict[Part, Tensor]:
    """The rows of the two parts: the last 36 of every class in file order test, the others train.

    The file goes from writer to writer, so the writers of the test images are mostly not those of the training images.
    """
    import torch

    test = torch.cat([(labels == c).nonzero().flatten()[-HELD_OUT:] for c in range(len(CLASSES))]).sort().values
    train = torch.ones(len(labels), dtype=torch.bool)
    train[test] = False
    return {"train": train.nonzero().flatten(), "test": test}
