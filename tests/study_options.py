"""What the tests of studies run them with: noise for CIFAR-10, a random public ResNet-20, and words of options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from foreign_networks import save_torchvision

from idsnn_cli.architecture import build_description


def study_options(folder: Path, networks: tuple[str, ...], **traits: Any) -> list[str]:
    """Options for 40 images of noise and seed 3, every option of ``networks`` the same random ResNet-20."""
    drawn = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for part in ("train", "test"):
        arrays[f"{part}_images"] = drawn.integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
        arrays[f"{part}_labels"] = np.arange(40, dtype=np.int64) % 10
    np.savez(folder / "cifar10.npz", **arrays)
    # A foreign file does not say how its images were normalised.
    public = folder / "public.pth"
    save_torchvision(public, build_description("resnet20", 10, **traits))
    given = {"data-root": folder, "seeds": 3, "work": folder / "work", "json": folder / "found.json"}
    given |= dict.fromkeys(networks, public)
    return [word for key, value in given.items() for word in (f"--{key}", str(value))]
