"""One encoded image to levels, and to the part of it that is shown: resized and cut as torchvision does."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2 import functional as transforms

from idsnn_cli.data.channels import with_channels
from idsnn_cli.data.image_files import is_plain_jpeg, read_colours
from idsnn_cli.data.source import Crop
from idsnn_cli.seeding import derive_seed


@dataclass(frozen=True)
class View:
    """What an image is shown as: uint8 (channels, size, size); ``short`` is the short side when it is measured."""

    size: int
    short: int
    channels: int

    def show(self, image: Tensor, crop: Crop | None, row: int) -> Tensor:
        """uint8 (channels, size, size) of uint8 (3, H, W), on its device: its middle, or the part drawn for ``row``.

        Resizing is bilinear and averages over what it shrinks; it differs from Pillow's by one level at most.
        """
        size = [self.size, self.size]
        if crop is None:
            short = transforms.resize(image, [self.short], antialias=True)
            shown = transforms.center_crop(short, size)
        else:
            shown = transforms.resized_crop(image, *_drawn(image, crop, row), size, antialias=True)
        return with_channels(shown[None], self.channels)[0]


def _drawn(image: Tensor, crop: Crop, row: int) -> list[int]:
    """Top, left, height and width of the part. torchvision draws from torch's own generator, which is put back."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive_seed(crop.seed, row))
        return list(RandomResizedCrop.get_params(image, list(crop.scale), list(crop.ratio)))


def decode(content: bytes, name: object) -> Tensor:
    """uint8 (3, H, W) on the CPU of an encoded image; ``name`` is what an error calls it.

    Plain JPEGs are decoded by torchvision where it can, to the levels that Pillow finds, in less time; all else by
    Pillow, as :func:`~idsnn_cli.data.image_files.read_colours` says. Raises :class:`DataError` for what is no image.
    """
    if is_plain_jpeg(content):
        try:
            return decode_jpegs([as_bytes(content)], None)[0]
        except RuntimeError:
            pass  # damaged: Pillow says in which way, or reads what is left as it does elsewhere
    return torch.from_numpy(np.array(read_colours(BytesIO(content), name)).transpose(2, 0, 1))


def as_bytes(content: bytes) -> Tensor:
    """uint8 (n,), the encoded image as torchvision takes it."""
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)


def decode_jpegs(encoded: list[Tensor], device: torch.device | None) -> list[Tensor]:
    """uint8 (3, H, W) of each JPEG, uint8 (n,), by torchvision: on the CPU, or by nvJPEG on a CUDA ``device``.

    Raises RuntimeError for what it cannot decode, and where it was built without; newer releases (0.29 is the first to
    say so) may come without any of it.
    """
    try:
        from torchvision.io import ImageReadMode, decode_jpeg
    except ImportError as error:
        raise RuntimeError("this torchvision decodes no JPEGs") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        if device is None:
            return [decode_jpeg(each, mode=ImageReadMode.RGB) for each in encoded]
        found: list[Tensor] = decode_jpeg(encoded, mode=ImageReadMode.RGB, device=device)
        return found
