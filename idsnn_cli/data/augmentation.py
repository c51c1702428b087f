"""What chance decides about each training image, and its being carried out: crop, flip, AutoAugment, Cutout, EventDrop.

Draws are made on the CPU for the whole global batch, so the CPU, a GPU and several processes see the same images.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from idsnn_cli.data.autoaugment import POLICIES, autoaugment
from idsnn_cli.data.event_drop import EventDraws, draw_drops, drop_events
from idsnn_cli.recipe.schema import Augment

Fill = tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Draws:
    """The draws of n images, on the CPU; what is switched off is None.

    ``top``, ``left``: int64 (n,), the corner of the crop in the image padded by ``crop`` on every side. ``flip``:
    bool (n,). ``policy``: int64 (n,), a row of :data:`POLICIES`; ``applied`` and ``negative``: bool (n, 2), whether
    each of its two operations is carried out and has its sign turned. ``centre_y``, ``centre_x``: int64 (n,), the
    middle of the square of side ``cutout``. ``drops`` are those of EventDrop.
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
    drops: EventDraws | None = None

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
            drops=None if self.drops is None else self.drops[rows],
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
    drops = draw_drops(count, generator) if augment.eventdrop else None
    places = (top, left, flip, policy, applied, negative, centre_y, centre_x)
    return Draws(count, augment.crop, augment.cutout, *places, drops)


def apply(images: Tensor, draws: Draws, fill: Fill = (0.0,)) -> Tensor:
    """float32 (n, C, H, W) in 0 to 1 from uint8 ``images`` of that shape, on their device: draws carried out.

    The crop's padding is black, as where images are padded before they are normalised. Cutout comes last and fills
    its squares with ``fill``, per channel in 0 to 1: give the data's mean for squares that a network reads as 0.
    Frames (n, T, C, H, W) keep that shape: what a recording drew is done to all of its frames.
    """
    if images.dim() == 5:
        dropped = images if draws.drops is None else drop_events(images, draws.drops)
        still = replace(draws, drops=None)
        of_each = fill * images.shape[1] if len(fill) > 1 else fill
        return apply(dropped.flatten(1, 2), still, of_each).view(images.shape)
    if draws.top is not None and draws.left is not None:
        images = _crop(images, draws.top, draws.left, draws.crop)
    if draws.flip is not None:
        images = torch.where(_there(draws.flip, images)[:, None, None, None], images.flip(3), images)
    if draws.policy is not None and draws.applied is not None and draws.negative is not None:
        images = autoaugment(images, draws.policy, draws.applied, draws.negative)
    floats = to_unit(images)
    if draws.centre_y is not None and draws.centre_x is not None:
        floats = _cutout(floats, draws.centre_y, draws.centre_x, draws.cutout, fill)
    return floats


def to_unit(images: Tensor) -> Tensor:
    """uint8 levels as float32 in 0 to 1."""
    return images.to(torch.float32).div_(255)


def _crop(images: Tensor, top: Tensor, left: Tensor, padding: int) -> Tensor:
    height, width = images.shape[-2:]
    padded = F.pad(images, (padding,) * 4)
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # (n, C, 2p+1, 2p+1, H, W), a view
    rows = torch.arange(len(images), device=images.device)
    return windows[rows, :, _there(top, images), _there(left, images)]


def _cutout(images: Tensor, centre_y: Tensor, centre_x: Tensor, side: int, fill: Fill) -> Tensor:
    height, width = images.shape[-2:]
    y = torch.arange(height, device=images.device) - (_there(centre_y, images) - side // 2)[:, None]
    x = torch.arange(width, device=images.device) - (_there(centre_x, images) - side // 2)[:, None]
    inside = ((y >= 0) & (y < side))[:, None, :, None] & ((x >= 0) & (x < side))[:, None, None, :]
    return torch.where(inside, _there(torch.tensor(fill), images)[:, None, None], images)


def _there(drawn: Tensor, images: Tensor) -> Tensor:
    return drawn.to(images.device, non_blocking=True)
