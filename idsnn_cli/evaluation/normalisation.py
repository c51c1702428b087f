"""Which input normalisation a network was trained with, found from images without labels.

A stem's BatchNorm remembers the mean and variance that its convolution gave in training. Under the right normalisation
the same kind of images gives them again; accuracy cannot tell near ones apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from idsnn_cli.data.channels import CONSTANTS, PerChannel
from idsnn_cli.errors import CheckpointError, DataError, UsageError
from idsnn_cli.models import Network, floating
from idsnn_cli.models.channels import shown as shown_to

# Clear is a nearest of at most MOST with the next CLEAR_RATIO times further. On 512 images of CIFAR-10 public ResNets
# (ImageNet's values) gave 0.0001 to 0.001 with ratios of 12 to 29; stems re-estimated with each candidate, plain or
# cropped, at most 0.0013 with ratios above 3.2; and wrong ones, by Cutout, AutoAugment or unlisted values, from 0.0024.
CLEAR_RATIO = 2.5
MOST = 0.002
# A next one far beyond the distances between unlisted values (0.5 and 0.45 as a deviation: 0.011 with ratios to 18)
# lets the nearest be further away, up to FAR.
FAR_RATIO, FAR = 50.0, 0.008
# Augmentation moves a stem's statistics by as much as AGREED. Of public networks' 16 channels all then have the same
# nearest where that is right, and 10 to 12 where the images are those of another set (ratios to 2.8).
AGREED, AGREED_RATIO, MANY = 0.0075, 2.9, 16
# Of 512 images the sample alone moves a divergence by so much: ratios below it mean nothing.
NOISE = 0.0005
_PIXELS = 2**20
_TIE = 1e-6  # channels without weights tell nothing
_EPS = 1e-5  # BatchNorm's own, so that dead channels weigh nothing

Candidates = Mapping[str, tuple[PerChannel, PerChannel]]


@dataclass(frozen=True, slots=True)
class NormalisationVerdict:
    """``divergences`` is candidate -> divergence in nats, the nearest first; ``padded`` says that black borders, as
    random crops leave them, came nearer than the plain images; ``images`` were looked at. In ``agreeing`` of the norm's
    ``channels`` the nearest candidate is no further than the next.
    """

    mean: PerChannel
    std: PerChannel
    divergences: Mapping[str, float]
    padded: bool
    images: int
    channels: int = 0
    agreeing: int = 0

    @property
    def name(self) -> str:
        return next(iter(self.divergences))

    @property
    def ratio(self) -> float:
        """How many times further away the next candidate is."""
        first, second = list(self.divergences.values())[:2]
        return second / max(first, NOISE)

    @property
    def clear(self) -> bool:
        """Whether it is sure: near with the next some times further, or less near with the next much further, or with
        all of many channels saying the same.
        """
        least = round(self.divergences[self.name], 4)
        if least <= MOST and self.ratio >= CLEAR_RATIO:
            return True
        if least <= min(MOST * self.ratio / FAR_RATIO, FAR):
            return True
        agreed = self.agreeing == self.channels >= MANY
        return agreed and least <= AGREED and self.ratio >= AGREED_RATIO

    def words(self) -> str:
        """``imagenet: divergence 0.0003 from the stem's statistics, the next (cifar10) 0.0091, on 512 images``."""
        (first, least), (second, more) = list(self.divergences.items())[:2]
        return (
            f"{first}: divergence {least:.4f} from the stem's statistics, the next ({second}) {more:.4f}, "
            f"on {self.images} images, nearest in {self.agreeing} of {self.channels} channels"
        )

    def to_dict(self) -> dict[str, Any]:
        """For provenance: ``name``, ``divergences``, ``ratio``, ``padded`` and ``images``."""
        rounded = {name: round(value, 6) for name, value in self.divergences.items()}
        return {
            "name": self.name,
            "divergences": rounded,
            "ratio": round(self.ratio, 2),
            "padded": self.padded,
            "images": self.images,
            "channels": self.channels,
            "agreeing": self.agreeing,
        }

    def _named(self) -> str:
        if self.name in CONSTANTS:
            return f"teacher.normalise={self.name} or another (--normalise {self.name})"
        mean, std = (", ".join(f"{value:.4g}" for value in values) for values in (self.mean, self.std))
        return f"teacher.normalise={{mean: [{mean}], std: [{std}]}}"

    def require_clear(self, what: object) -> NormalisationVerdict:
        """This verdict on ``what``; :class:`UsageError` with every divergence where it is not clear."""
        if self.clear:
            return self
        listed = ", ".join(f"{name} {value:.4f}" for name, value in self.divergences.items())
        raise UsageError(
            f"{what} does not show clearly how its images were normalised; divergences of its stem's statistics on "
            f"{self.images} images:\n{listed}\n(clear is at most {MOST} with the next {CLEAR_RATIO:g} times further, "
            f"or {AGREED} and {AGREED_RATIO:g} times in all of {MANY} channels or more; here in {self.agreeing} of "
            f"{self.channels})",
            f"Name it: {self._named()}, or give mean and std.",
        )


@torch.no_grad()
def find_normalisation(
    network: Network, batches: Iterable[Tensor], candidates: Candidates = CONSTANTS, where: object = "the network"
) -> NormalisationVerdict:
    """The candidate under which images give the statistics that the first BatchNorm behind the stem's convolution has.

    ``batches`` are training images without augmentation, float32 (N, C, H, W) in 0 to 1; a few hundred are enough. Each
    is seen twice, as it is and as a random crop shows it (shifted within a black border of an eighth of its height),
    for most networks were trained on such crops, and the nearer of the two counts. A candidate's divergence is the mean
    over channels of :func:`divergences`. Plain, deep and pre-activation stems are known; before
    pre-activation blocks the norm is the first block's, behind the pool where there is one.
    Raises :class:`CheckpointError` where the network cannot tell: its statistics are those of a new network or not
    finite; :class:`DataError` where there are no images.
    """
    first = _read_stem(network, where)
    views: dict[bool, Callable[[Tensor, int], Tensor]] = {False: lambda images, _: images, True: _shifted}
    keys = [(name, padded) for name in candidates for padded in views]
    moments = {key: torch.zeros(2, len(first.mean), dtype=torch.float64) for key in keys}
    numbers = dict.fromkeys(keys, 0)
    seen = 0
    reads = network.architecture.in_channels
    for images in (shown_to(chunk, reads) for batch in batches for chunk in _chunks(batch)):
        shown = {padded: view(images, seen) for padded, view in views.items()}
        for name, padded in keys:
            mean, std = (images.new_tensor(values).view(1, -1, 1, 1) for values in candidates[name])
            maps = first.run((shown[padded] - mean) / std)
            variance, mean = (value.cpu().double() for value in torch.var_mean(maps, (0, 2, 3), correction=0))
            number = maps.numel() // maps.shape[1]
            moments[name, padded] += number * torch.stack([mean, variance + mean.square()])
            numbers[name, padded] += number
        seen += len(images)
    if not seen:
        raise DataError("there are no images to find the input normalisation with", "Name it: teacher.normalise=NAME.")
    seen_by = {key: moments[key] / numbers[key] for key in keys}
    apart = {key: divergences(each[0], each[1], first.mean, first.variance) for key, each in seen_by.items()}
    found = {key: float(each.mean()) for key, each in apart.items()}
    least = {name: min(found[name, padded] for padded in views) for name in candidates}
    ordered = dict(sorted(least.items(), key=lambda item: item[1]))
    name, following = list(ordered)[:2]
    own, others = (
        apart[min(((each, padded) for padded in views), key=found.__getitem__)] for each in (name, following)
    )
    padded = found[name, True] < found[name, False]
    agreeing = int((own <= others + _TIE).sum())
    return NormalisationVerdict(*candidates[name], ordered, padded, seen, len(own), agreeing)


@dataclass(frozen=True, slots=True)
class _FirstNorm:
    """The stem's first convolution, the pool where one stands before the norm, and the norm's running statistics."""

    weight: Tensor
    stride: int
    padding: int
    pools: bool
    mean: Tensor
    variance: Tensor

    def run(self, images: Tensor) -> Tensor:
        maps = F.conv2d(images, self.weight.to(images), stride=self.stride, padding=self.padding)
        return F.max_pool2d(maps, 3, 2, 1) if self.pools else maps


def divergences(mean: Tensor, square: Tensor, running_mean: Tensor, running_var: Tensor) -> Tensor:
    """How far what a BatchNorm sees is from what it remembers: nats (C,), from the mean and mean square (C,) of its
    input, in float64.

    That of a channel with measured mean and variance (m, v) and running ones (M, V) is the mean of both
    Kullback-Leibler divergences between these Gaussians,

        ((v + d) / V + (V + d) / v - 2) / 4,   d = (m - M)^2,

    with BatchNorm's epsilon in both variances.
    """
    measured, stored = (square - mean.square()).clamp_min(0) + _EPS, running_var + _EPS
    offset = (mean - running_mean).square()
    return ((measured + offset) / stored + (stored + offset) / measured - 2) / 4


def _read_stem(network: Network, where: object) -> _FirstNorm:
    architecture = network.architecture
    conv = architecture.stem_convolution()
    norm, pools = architecture.first_norm()

    def read(name: str) -> Tensor:
        key = network.names[name]
        return floating(f"{where}: {key}", network.read(key)).detach().to("cpu", torch.float64)

    fix = "Name its normalisation: teacher.normalise=imagenet (--normalise imagenet) or another."
    weight = read(f"{conv.name}.weight").to(torch.float32).reshape(conv.shape)
    mean, variance = (read(f"{norm}.{name}").flatten() for name in ("running_mean", "running_var"))
    if not all(torch.isfinite(values).all() for values in (weight, mean, variance)) or (variance < 0).any():
        raise CheckpointError(f"{where}: its stem or {norm} holds NaN, infinite or impossible values", "Use another.")
    if not mean.any() and bool((variance == 1).all()):
        raise CheckpointError(
            f"{where}: the statistics of {norm} are those of a network that was never trained, and tell nothing", fix
        )
    return _FirstNorm(weight, conv.stride, conv.padding, pools, mean, variance)


def _chunks(images: Tensor) -> tuple[Tensor, ...]:
    """``images`` in parts whose maps are small."""
    height, width = images.shape[-2:]
    return torch.split(images, max(_PIXELS // (height * width), 1))


def _shifted(images: Tensor, first: int) -> Tensor:
    """``images``, each shifted within a black border; the shifts go through all places in turn, ``first`` on."""
    height, width = images.shape[-2:]
    border = max(height // 8, 1)
    places = 2 * border + 1
    padded = F.pad(images, (border,) * 4)
    shifts = [((first + i) % places, (first + i) // places % places) for i in range(len(images))]
    crops = [padded[i, :, y : y + height, x : x + width] for i, (x, y) in enumerate(shifts)]
    return torch.stack(crops)
