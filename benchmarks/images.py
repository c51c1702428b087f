"""How fast photographs become training batches, beside torchvision's ImageFolder in torch's DataLoader.

    python benchmarks/images.py                       # one core: images per second of it
    python benchmarks/images.py --folder DIR --workers 8

Both read the same JPEGs in the same number of processes, cut them by RandomResizedCrop to --size pixels and mirror
half; a batch ends as float32, ours in 0 to 1 and theirs normalised, as each is given to a network. Without
``--folder`` 500 JPEGs of 256 to 500 by 256 to 400 pixels are made up. The two take turns in one process, so that what
else the machine does meets both; its load is in the result.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ending import to_the_end
from measuring import interleaved
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from idsnn_cli.data import TrainBatches, eval_batches, load_data
from idsnn_cli.data.channels import CONSTANTS
from idsnn_cli.recipe.schema import Data

BATCH = 50
SCALE = (0.08, 1.0)


def make_up(folder: Path, count: int) -> None:
    """``count`` JPEGs to train on and a fifth as many to test on, of ten classes and some 45 kB each."""
    generator = np.random.default_rng(0)
    for part, number in (("train", count), ("val", max(count // 5, 10))):
        for each in range(number):
            home = folder / part / f"class{each % 10}"
            home.mkdir(parents=True, exist_ok=True)
            width, height = int(generator.integers(256, 501)), int(generator.integers(256, 401))
            coarse = Image.fromarray(generator.integers(0, 256, (12, 12, 3), dtype=np.uint8))
            levels = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(np.int16)
            noisy = (levels + generator.integers(-12, 13, levels.shape)).clip(0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(home / f"{each:05}.jpg", quality=90)


def ours(folder: Path, size: int, short: int, workers: int) -> dict[str, Callable[[], Any]]:
    section = Data.model_validate(
        {
            "dataset": "folder",
            "path": folder,
            "image_size": size,
            "resize": short,
            "workers": workers,
            "normalise": "imagenet",
            "augment": {"scale": SCALE, "flip": True},
        }
    )
    data = load_data(section, seed=0)
    batches = TrainBatches(
        data.train, batch_size=BATCH, augment=section.augment, seed=0, device="cpu", fill=(0.0, 0.0, 0.0)
    )
    return {
        "train": lambda: exhaust(batches.epoch(0)),
        "test": lambda: exhaust(eval_batches(data.test, BATCH, "cpu")),
    }


def theirs(folder: Path, size: int, short: int, workers: int) -> dict[str, Callable[[], Any]]:
    mean, std = CONSTANTS["imagenet"]
    end = [transforms.ToTensor(), transforms.Normalize(mean, std)]
    drawn = [transforms.RandomResizedCrop(size, SCALE), transforms.RandomHorizontalFlip()]
    fixed = [transforms.Resize(short), transforms.CenterCrop(size)]
    loaders = {
        name: DataLoader(
            ImageFolder(str(folder / part), transforms.Compose([*first, *end])),
            batch_size=BATCH,
            shuffle=name == "train",
            num_workers=workers,
        )
        for name, part, first in (("train", "train", drawn), ("test", "val", fixed))
    }
    return {name: partial(exhaust, loader) for name, loader in loaders.items()}


def exhaust(batches: Any) -> None:
    for _ in batches:
        pass


def measure(folder: Path, *, size: int, short: int, workers: int, rounds: int) -> dict[str, Any]:
    """Images per second of both, and ours / theirs, for training and for testing."""
    kinds = {"ours": ours(folder, size, short, workers), "torchvision": theirs(folder, size, short, workers)}
    found: dict[str, Any] = {"workers": workers, "size": size, "rounds": rounds, "load": os.getloadavg()[0]}
    for part, name in (("train", "train"), ("val", "test")):
        count = sum(1 for path in (folder / part).rglob("*") if path.is_file())
        seconds = interleaved({kind: works[name] for kind, works in kinds.items()}, rounds)
        rates = {kind: count / each / max(workers, 1) for kind, each in seconds.items()}
        found[name] = {
            "images": count,
            "images_per_second_and_core": {kind: round(rate, 1) for kind, rate in rates.items()},
            "ratio": round(rates["ours"] / rates["torchvision"], 3),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="train/CLASS/* and val/CLASS/*")
    parser.add_argument("--images", type=int, default=500, help="how many are made up (%(default)s)")
    parser.add_argument("--size", type=int, default=224, help="pixels of a side as networks get them (%(default)s)")
    parser.add_argument("--short", type=int, default=256, help="the short side of what is measured (%(default)s)")
    parser.add_argument("--workers", type=int, default=0, help="processes; 0 reads in this one")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is timed (%(default)s)")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with ExitStack() as stack:
        folder = given.folder
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            make_up(folder, given.images)
        found = measure(folder, size=given.size, short=given.short, workers=given.workers, rounds=given.rounds)
    print(json.dumps(found, indent=2))  # noqa: T201  # a benchmark's result


if __name__ == "__main__":
    to_the_end(main)
