"""Image files to uint8 tensors, once, before training: the only place that uses Pillow."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from idsnn_cli.errors import DataError

_CHUNK = 256


def decode_all(files: Sequence[Path], size: int) -> Tensor:
    """uint8 (N, 3, size, size) in memory. Raises :class:`DataError` naming a file that is not an image."""
    images = torch.empty(len(files), 3, size, size, dtype=torch.uint8)
    start = 0
    for chunk in decode_chunks(files, size):
        images[start : start + len(chunk)] = torch.from_numpy(chunk)
        start += len(chunk)
    return images


def decode_chunks(files: Sequence[Path], size: int) -> Iterator[np.ndarray[Any, Any]]:
    """The images in order, as uint8 arrays (up to 256, 3, size, size); Pillow decodes in threads of its own."""
    with ThreadPoolExecutor(max_workers=min(16, os.cpu_count() or 1)) as pool:
        for start in range(0, len(files), _CHUNK):
            part = files[start : start + _CHUNK]
            yield np.stack(list(pool.map(decode_image, part, [size] * len(part))))


def decode_image(path: Path, size: int) -> np.ndarray[Any, Any]:
    """One image, its short side resized to ``size`` and its centre cropped: uint8 (3, size, size).

    Resizing is Pillow's bilinear filter, which averages over what it shrinks.
    """
    try:
        with Image.open(path) as image:
            # A palette with transparent entries goes through RGBA, for Pillow warns of the direct way.
            opened = image.convert("RGBA") if image.mode == "P" and "transparency" in image.info else image
            colour = opened.convert("RGB")
    except Exception as error:  # Pillow's decoders raise whatever a broken file makes them trip over
        raise DataError(
            f"{path} cannot be read as an image: {error}", "Remove the file, or replace it with a whole one."
        ) from error
    width, height = colour.size
    short = min(width, height)
    wide, high = max(size, size * width // short), max(size, size * height // short)
    resized = colour.resize((wide, high), Image.Resampling.BILINEAR)
    left, top = round((wide - size) / 2), round((high - size) / 2)
    return np.asarray(resized.crop((left, top, left + size, top + size))).transpose(2, 0, 1)
