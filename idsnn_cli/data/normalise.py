"""The mean and standard deviation that a network of this data normalises its input with."""

from __future__ import annotations

import torch
from torch import Tensor

from idsnn_cli.recipe.schema import Data, MeanStd

Triple = tuple[float, float, float]

CONSTANTS: dict[str, tuple[Triple, Triple]] = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    # Many CIFAR-10 repositories divide by the mean of each image's own deviation instead of that of all pixels.
    "cifar10-std0.2": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
}
_CHUNK = 4096


def normalisation(section: Data, train_images: Tensor) -> tuple[Triple, Triple]:
    """Mean and standard deviation of images in 0 to 1, as ``data.normalise`` asks.

    ``auto`` takes the data set's published constants, and measures ``train_images`` (uint8 (N, 3, H, W), on the CPU)
    where it has none.
    """
    choice = section.normalise
    if isinstance(choice, MeanStd):
        return choice.mean, choice.std
    if choice == "auto":
        return CONSTANTS.get(section.dataset) or measure(train_images)
    return CONSTANTS[choice]


def measure(images: Tensor) -> tuple[Triple, Triple]:
    """Mean and standard deviation of each channel, exact up to the last rounding: sums are of whole numbers.

    A channel that never changes gets the standard deviation 1, so that normalising it divides by nothing small.
    """
    histogram = torch.zeros(3, 256, dtype=torch.int64)
    for chunk in torch.split(images, _CHUNK):
        for channel in range(3):
            histogram[channel] += torch.bincount(chunk[:, channel].flatten(), minlength=256)
    levels = torch.arange(256)
    pixels = int(histogram[0].sum())
    means, deviations = [], []
    for counts in histogram:
        total, squares = int((counts * levels).sum()), int((counts * levels * levels).sum())
        variance = (squares * pixels - total * total) / pixels**2
        means.append(total / pixels / 255)
        deviations.append(variance**0.5 / 255 if variance > 0 else 1.0)
    return (means[0], means[1], means[2]), (deviations[0], deviations[1], deviations[2])
