"""What chance decides about each image, drawn apart from its being carried out.

Draws are made on the CPU for the whole global batch, so the CPU, a GPU and several processes see the same images.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from idsnn_cli.data.policy import POLICIES
from idsnn_cli.recipe.schema import Augment


@dataclass(frozen=True, eq=False)
class Draws:
    """The draws of n images, on the CPU; what is switched off is None.

    ``top``, ``left``: int64 (n,), the corner of the crop in the image padded by ``crop`` on every side. ``flip``:
    bool (n,). ``policy``: int64 (n,), a row of :data:`POLICIES`; ``applied`` and ``negative``: bool (n, 2), whether
    each of its two operations is carried out and has its sign turned. ``centre_y``, ``centre_x``: int64 (n,), the
    middle of the square of side ``cutout``.
    """

    count: int
    crop: int
    cutout: int
    top: Tensor | None = None
    left: Tensor | None = None
    flip: Tensor | None = None
    policy: Tensor | None = None
    applied: Tensor | None = None
    negative: Tensor | None = None
    centre_y: Tensor | None = None
    centre_x: Tensor | None = None

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, rows: slice | Tensor) -> Draws:
        """The draws of some of the images: a slice, or int64 or bool rows."""

        def some(drawn: Tensor | None) -> Tensor | None:
            return None if drawn is None else drawn[rows]

        return Draws(
            count=len(torch.empty(self.count, 0)[rows]),
            crop=self.crop,
            cutout=self.cutout,
            top=some(self.top),
            left=some(self.left),
            flip=some(self.flip),
            policy=some(self.policy),
            applied=some(self.applied),
            negative=some(self.negative),
            centre_y=some(self.centre_y),
            centre_x=some(self.centre_x),
        )


def draw(count: int, augment: Augment, generator: torch.Generator, image_size: tuple[int, int]) -> Draws:
    """The draws of ``count`` images of ``image_size`` (height, width); ``generator`` lives on the CPU."""

    def whole(end: int) -> Tensor:
        return torch.randint(end, (count,), generator=generator)

    def chance(*shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=generator)

    top = left = flip = policy = applied = negative = centre_y = centre_x = None
    if augment.crop:
        top, left = whole(2 * augment.crop + 1), whole(2 * augment.crop + 1)
    if augment.flip:
        flip = chance() < 0.5
    if augment.autoaugment == "cifar10":
        policy = whole(len(POLICIES))
        applied = chance(2) < torch.tensor([[o.probability for o in pair] for pair in POLICIES])[policy]
        negative = chance(2) < 0.5
    if augment.cutout:
        centre_y, centre_x = whole(image_size[0]), whole(image_size[1])
    return Draws(count, augment.crop, augment.cutout, top, left, flip, policy, applied, negative, centre_y, centre_x)
