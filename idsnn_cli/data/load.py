"""From a recipe's data section to images in memory, on the device that trains."""

from __future__ import annotations

from pathlib import Path

import torch

from idsnn_cli.data.bundle import DataBundle, Split, fingerprint
from idsnn_cli.data.cifar import open_cifar, plan_cifar
from idsnn_cli.data.digits import open_digits, plan_digits
from idsnn_cli.data.folder import open_folder, plan_folder
from idsnn_cli.data.normalise import normalisation
from idsnn_cli.data.npz import open_npz, plan_npz
from idsnn_cli.data.source import DataPlan, Say, Source
from idsnn_cli.data.splits import choose_splits
from idsnn_cli.recipe.schema import Data

# The rest of a device's free memory is for the network and its activations.
_SHARE_OF_DEVICE = 0.3


def plan_data(section: Data) -> DataPlan:
    """What :func:`load_data` would read, download and hold, found without reading images.

    Raises :class:`DataError` where a file is missing and may not be downloaded, where one is not what it should be
    (as far as headers, labels and names tell), or where a split asks for more images than there are.
    """
    if section.dataset == "digits":
        return plan_digits(section)
    if section.dataset == "npz":
        return plan_npz(section, _path(section))
    if section.dataset == "folder":
        return plan_folder(section, _path(section))
    return plan_cifar(section)


def load_data(
    section: Data,
    *,
    seed: int,
    max_memory_gb: float = 8.0,
    device: torch.device | str = "cpu",
    say: Say | None = None,
) -> DataBundle:
    """The splits that ``section`` asks for, their classes, normalisation and fingerprint.

    The same section and seed give the same images in the same order on every machine. Images go to ``device`` where
    they fit beside the training, and otherwise stay on the CPU, from where batches move. ``max_memory_gb`` (10^9
    bytes each) is the most that a ``folder`` may take in memory; ``say`` hears one line about each thing worth
    knowing before it is done. Raises :class:`DataError` for data that is missing, malformed or too small.
    """
    source = _open(section, max_memory_gb, say)
    rows = choose_splits(section, source.labels, len(source.classes), seed)
    if section.validation is not None and "validation" in source.labels and say is not None:
        say("data.validation is given: validation images come from the training part, those of the data set are left")
    images = source.read(rows)
    splits = {split: Split(images[split], source.labels[part][index]) for split, (part, index) in rows.items()}
    mean, std = normalisation(section, images["train"])
    mark = fingerprint({name: splits.get(name) for name in ("train", "validation", "test")})
    placed = _place(splits, torch.device(device), say)
    return DataBundle(
        name=source.name,
        train=placed["train"],
        validation=placed.get("validation"),
        test=placed["test"],
        classes=source.classes,
        mean=mean,
        std=std,
        fingerprint=mark,
    )


def _open(section: Data, max_memory_gb: float, say: Say | None) -> Source:
    if section.dataset == "digits":
        return open_digits()
    if section.dataset == "npz":
        return open_npz(section, _path(section))
    if section.dataset == "folder":
        return open_folder(section, _path(section), max_memory_gb, say)
    return open_cifar(section, say)


def _path(section: Data) -> Path:
    assert section.path is not None  # the recipe's own validation asks for it
    return section.path.expanduser()


def _place(splits: dict[str, Split], device: torch.device, say: Say | None) -> dict[str, Split]:
    """The splits on ``device``, or where they are if they would crowd it."""
    if device.type != "cuda":
        return splits
    needed = sum(split.images.nbytes for split in splits.values())
    free, _ = torch.cuda.mem_get_info(device)
    if needed > _SHARE_OF_DEVICE * free:
        if say is not None:
            say(f"images of {needed / 1e9:.3g} GB stay in main memory: {device} has {free / 1e9:.3g} GB free")
        return splits
    return {name: split.to(device) for name, split in splits.items()}
