"""From a recipe's data section to images in memory, on the device that trains, and what networks normalise with."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from idsnn_cli.data.channels import CONSTANTS, PerChannel, normalisation_of, require_convertible, with_channels
from idsnn_cli.data.source import DataPlan, DataSet, FileImages, Say
from idsnn_cli.data.splits import DataBundle, Split, choose_splits, fingerprint
from idsnn_cli.errors import DataError
from idsnn_cli.recipe.data_section import DATA_SETS
from idsnn_cli.recipe.schema import Data
from idsnn_cli.registry import find

_CHUNK = 4096
# The rest of a device's free memory is for the network and its activations.
_SHARE_OF_DEVICE = 0.3


def plan_data(section: Data) -> DataPlan:
    """What :func:`load_data` would read, download and hold, found without reading images.

    Raises :class:`DataError` where a file is missing and may not be downloaded, where one is not what it should be
    (as far as headers, labels and names tell), or where a split asks for more images than there are.
    """
    plan = find(DATA_SETS, section.dataset, DataSet).plan(section)
    require_convertible(plan.channels, section.channels, section.dataset)
    channels = section.channels or plan.channels
    _require_policy(section, channels)
    if section.normalise != "auto":
        normalisation_of(section.normalise, channels, section.dataset, "data.normalise")
    return replace(plan, channels=channels, image_bytes=plan.image_bytes // plan.channels * channels)


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
    bytes each) is the most that decoded images may take in memory; ``say`` hears one line about each thing worth
    knowing before it is done. Raises :class:`DataError` for data that is missing, malformed or too small.
    """
    source = find(DATA_SETS, section.dataset, DataSet).open(section, max_memory_gb=max_memory_gb, say=say)
    rows = choose_splits(section, source.labels, len(source.classes), seed)
    if section.validation is not None and "validation" in source.labels and say is not None:
        say("data.validation is given: validation images come from the training part, those of the data set are left")
    images: dict[str, Tensor | FileImages] = {}
    for split, each in source.read(rows).items():
        require_convertible(each.shape[-3], section.channels, section.dataset)
        # Files are shown in so many channels by who decodes them.
        images[split] = each if isinstance(each, FileImages) else with_channels(each, section.channels)
    _require_policy(section, images["train"].shape[-3])
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


def _place(splits: dict[str, Split], device: torch.device, say: Say | None) -> dict[str, Split]:
    """The splits on ``device``, or where they are if they would crowd it."""
    if device.type != "cuda":
        return splits
    needed = sum(split.stored.nbytes for split in splits.values() if isinstance(split.stored, Tensor))
    free, _ = torch.cuda.mem_get_info(device)
    if needed > _SHARE_OF_DEVICE * free:
        if say is not None:
            say(f"images of {needed / 1e9:.3g} GB stay in main memory: {device} has {free / 1e9:.3g} GB free")
        return splits
    return {name: split.to(device) for name, split in splits.items()}


def normalisation(section: Data, train_images: Tensor | FileImages) -> tuple[PerChannel, PerChannel]:
    """Mean and standard deviation of images in 0 to 1, as ``data.normalise`` asks.

    ``auto`` takes the data set's published constants, and measures ``train_images`` (uint8 (N, C, H, W), on the CPU)
    where it has none for their channels. Of frames (N, T, C, H, W) the mean is 0, so that no event stays 0, and the
    deviation the root of the mean square. Raises :class:`UsageError` for values of another number of channels.
    """
    choice, channels = section.normalise, train_images.shape[-3]
    if choice == "auto" and train_images.dim() == 5:
        means, deviations = measure(train_images)
        return (0.0,) * channels, tuple((m * m + d * d) ** 0.5 for m, d in zip(means, deviations, strict=True))
    if choice == "auto":
        known = CONSTANTS.get(section.dataset) if channels == 3 else None
        return known or measure(train_images)
    return normalisation_of(choice, channels, section.dataset, "data.normalise")


def _require_policy(section: Data, channels: int) -> None:
    if section.augment.autoaugment != "none" and channels not in (1, 3):
        raise DataError(
            f"data.augment.autoaugment is for images of one or three channels, and those here have {channels}",
            "Set data.augment.autoaugment=none.",
        )


def measure(images: Tensor | FileImages) -> tuple[PerChannel, PerChannel]:
    """Mean and standard deviation of each channel, of images or frames, exact up to the last rounding: sums are of
    whole numbers.

    Of images that stay in their files up to 4,096, evenly spread, are looked at.

    A channel that never changes gets the standard deviation 1, so that normalising it divides by nothing small.
    """
    if isinstance(images, FileImages):
        images = images[:: -(-len(images) // _CHUNK)]
    histogram = torch.zeros(images.shape[-3], 256, dtype=torch.int64)
    for chunk in torch.split(images, _CHUNK):
        for channel in range(images.shape[-3]):
            histogram[channel] += torch.bincount(chunk[..., channel, :, :].flatten(), minlength=256)
    levels = torch.arange(256)
    pixels = int(histogram[0].sum())
    means, deviations = [], []
    for counts in histogram:
        total, squares = int((counts * levels).sum()), int((counts * levels * levels).sum())
        variance = (squares * pixels - total * total) / pixels**2
        means.append(total / pixels / 255)
        deviations.append(variance**0.5 / 255 if variance > 0 else 1.0)
    return tuple(means), tuple(deviations)
