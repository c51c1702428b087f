"""Folders of JPEGs of many sizes, made up: each class has a colour and stripes of its own, under noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def photograph(label: int, generator: np.random.Generator, least: int, most: tuple[int, int]) -> Image.Image:
    """RGB, its sides drawn from ``least`` to ``most`` (width, height)."""
    width, height = (int(generator.integers(least, end + 1)) for end in most)
    coarse = generator.integers(0, 120, (8, 8, 3))
    coarse[:, :, label % 3] += 90
    coarse[:: 2 + label % 4] += 40
    return Image.fromarray(coarse.clip(0, 255).astype(np.uint8)).resize((width, height), Image.Resampling.BILINEAR)


def write_photographs(
    folder: Path, *, count: int, classes: int, seed: int, least: int = 256, most: tuple[int, int] = (500, 400)
) -> None:
    """``count`` files ``folder``/CLASS/NUMBER.jpg, class by class in turn."""
    generator = np.random.default_rng(seed)
    for number in range(count):
        label = number % classes
        home = folder / f"class{label}"
        home.mkdir(parents=True, exist_ok=True)
        photograph(label, generator, least, most).save(home / f"{number:05}.jpg", quality=85)
