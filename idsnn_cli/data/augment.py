"""Draws carried out on a batch: crop, flip, AutoAugment, then to 0 to 1, then Cutout."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from idsnn_cli.data.autoaugment import autoaugment
from idsnn_cli.data.draws import Draws

Fill = tuple[float, float, float]


def apply(images: Tensor, draws: Draws, fill: Fill = (0.0, 0.0, 0.0)) -> Tensor:
    """float32 (n, 3, H, W) in 0 to 1 from uint8 ``images`` of that shape, on their device.

    The crop's padding is black, as where images are padded before they are normalised. Cutout comes last and fills
    its squares with ``fill``, per channel in 0 to 1: give the data's mean for squares that a network reads as 0.
    """
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
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # (n, 3, 2p+1, 2p+1, H, W), a view
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
