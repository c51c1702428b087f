"""Accuracy on worse images: noise, blur and low contrast at five strengths each, on images (N, C, H, W) in 0 to 1.

All are deterministic: noise comes from the seed and an image's number, whatever the batches and the device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor
from torch.nn import functional as F

from idsnn_cli.evaluation.accuracy import MeasuredNetwork, evaluate
from idsnn_cli.evaluation.measure import RunningMeasure, Shown, Work, legend_of
from idsnn_cli.figures import LineChart, Plot, ResultTable, Series
from idsnn_cli.results import Result
from idsnn_cli.seeding import derive_seed

# Standard deviation of the noise; of the blur, in pixels of an image whose shorter side is 32; factor of the contrast.
STRENGTHS: dict[str, tuple[float, ...]] = {
    "noise": (0.04, 0.08, 0.12, 0.16, 0.2),
    "blur": (0.5, 0.75, 1.0, 1.5, 2.0),
    "contrast": (0.75, 0.5, 0.4, 0.3, 0.15),
}


def add_noise(images: Tensor, deviation: float, seed: int, first_image: int) -> Tensor:
    """clamp(x + deviation * n, 0, 1), n standard normal for each value, drawn from ``seed`` and the image's number.

    ``first_image`` is the number of ``images[0]``. An image gets the same n at every deviation.
    """
    noise = torch.empty(images.shape, dtype=torch.float32)
    for number, own in enumerate(noise, first_image):
        own.normal_(generator=torch.Generator().manual_seed(derive_seed(seed, "noise", number)))
    return (images + deviation * noise.to(images.device, images.dtype)).clamp_(0, 1)


def blur(images: Tensor, deviation: float) -> Tensor:
    """Every channel convolved with a Gaussian: g(i, j) = exp(-(i^2 + j^2) / (2 s^2)), of sum 1 and radius ceil(3 s).

    s = ``deviation`` * min(H, W) / 32, so that a strength means the same on images of any size; border pixels are
    repeated outwards.
    """
    s = deviation * min(images.shape[-2:]) / 32
    radius = math.ceil(3 * s)
    offsets = torch.arange(-radius, radius + 1, dtype=images.dtype, device=images.device)
    line = torch.exp(-(offsets**2) / (2 * s * s))
    line = line / line.sum()
    channels = images.shape[1]
    padded = F.pad(images, (radius,) * 4, mode="replicate")
    rows = F.conv2d(padded, line.view(1, 1, -1, 1).repeat(channels, 1, 1, 1), groups=channels)
    return F.conv2d(rows, line.view(1, 1, 1, -1).repeat(channels, 1, 1, 1), groups=channels)


def lower_contrast(images: Tensor, factor: float) -> Tensor:
    """m + factor * (x - m) with m the mean of the image's own values; ``factor`` in 0 to 1 keeps them in 0 to 1."""
    means = images.mean((1, 2, 3), keepdim=True)
    return means + factor * (images - means)


def corruption(name: str, strength: float, seed: int) -> Callable[[Tensor, int], Tensor]:
    """The function (images, number of the first image) -> images for a name of ``STRENGTHS``."""
    made: dict[str, Callable[[Tensor, int], Tensor]] = {
        "noise": lambda images, first: add_noise(images, strength, seed, first),
        "blur": lambda images, first: blur(images, strength),
        "contrast": lambda images, first: lower_contrast(images, strength),
    }
    return made[name]


MEANT = {
    "noise": "standard deviation",
    "blur": "standard deviation in 32nds of the shorter side",
    "contrast": "what is left of it",
}


@dataclass(frozen=True, slots=True)
class Corrupted(Result):
    """Accuracy on images of one corruption at one strength."""

    strength: Annotated[float, "what it means depends on the corruption"]
    top1: Annotated[float, "percent"]


Corruptions = dict[str, list[Corrupted]]


class Robustness(RunningMeasure[Corruptions]):
    """For each corruption above, weakest first; every strength is one pass."""

    words = "accuracy under noise, blur and low contrast, five strengths each: fifteen more passes"
    of_images = True
    found = Annotated[Corruptions, "by the corruption's name: `noise`, `blur`, `contrast`; the weakest first"]

    def run(self, work: Work) -> Corruptions:
        """The noise and Poisson spikes are fixed by the seed."""
        found: Corruptions = {}
        for name, strengths in STRENGTHS.items():
            work.say(f"robustness to {name}")
            found[name] = [
                Corrupted(
                    strength,
                    evaluate(work.model, _corrupted(work.batches(), name, strength, work.seed), seed=work.seed).top1,
                )
                for strength in strengths
            ]
        return found

    def table(self, found: Corruptions, network: MeasuredNetwork, classes: Sequence[str]) -> ResultTable:
        # A document that was read back has its keys sorted.
        ordered = dict(sorted(found.items()))
        strengths = {name: ", ".join(f"{each.strength:g}" for each in values) for name, values in ordered.items()}
        return ResultTable(
            "robustness",
            "top-1 % on worse images, weakest first",
            ("images with", *(str(number) for number in range(1, 1 + max(map(len, ordered.values()))))),
            tuple((name, *(each.top1 for each in values)) for name, values in ordered.items()),
            (
                *(f"{name} {strengths[name]}: {MEANT[name]}" for name in ordered),
                f"the images as they are: {network.figures.top1:.2f} %",
            ),
        )

    def plots(self, shown: Sequence[Shown[Corruptions]], classes: Sequence[str]) -> Iterator[Plot]:
        charts = []
        every = [each.top1 for one in shown for values in one.found.values() for each in values]
        # One scale, so that what hurts little looks so.
        low = min([*every, *(one.network.figures.top1 for one in shown)])
        high = max([*every, *(one.network.figures.top1 for one in shown)])
        for kind in sorted(shown[0].found):
            # 0 is the image as it is.
            curves = tuple(
                Series(
                    one.network.name,
                    one.number,
                    tuple(enumerate([one.network.figures.top1, *(each.top1 for each in one.found[kind])])),
                    marked=True,
                )
                for one in shown
            )
            names = ("none", *(f"{each.strength:g}" for each in shown[0].found[kind]))
            words = f"{kind}: {MEANT[kind]}"
            charts.append(
                LineChart(
                    kind, f"With {kind}", words, "top-1, %", curves, x_names=names, y_range=(low, max(high, low + 1))
                )
            )
        yield Plot("robustness", "Accuracy on worse images", tuple(charts), legend_of(shown))


def _corrupted(
    batches: Iterable[tuple[Tensor, Tensor]], name: str, strength: float, seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    change, first = corruption(name, strength, seed), 0
    for images, labels in batches:
        yield change(images, first), labels
        first += len(labels)


MEASURE = Robustness()
