"""How high activations rise on images: for the rule ``threshold``."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from idsnn_cli.initializer.activations import run_watched
from idsnn_cli.initializer.spaces import channel_spaces
from idsnn_cli.models import ResNet
from idsnn_cli.rules import PERCENTILE

# Bins between 2^-16 and 2^16: 2^11 for each octave, which a float32's own bits number.
_LOWEST, _HIGHEST, _MANTISSA = -16, 16, 11
_BINS = (_HIGHEST - _LOWEST) << _MANTISSA


class Histogram:
    """Counts of one layer's activations in 65,536 bins, 2^-11 of its lower edge wide at most; the largest exactly."""

    def __init__(self, device: torch.device) -> None:
        self.counts = torch.zeros(_BINS, dtype=torch.int64, device=device)
        self.total = 0
        self.largest = 0.0

    def add(self, maps: Tensor) -> None:
        values = maps.float().flatten()
        self.total += values.numel()
        values = values[values >= 2.0**_LOWEST]
        if not values.numel():
            return
        self.largest = max(self.largest, float(maps.max()))
        first = (_LOWEST + 127) << _MANTISSA
        bins = (values.contiguous().view(torch.int32) >> (23 - _MANTISSA)) - first
        self.counts += torch.bincount(bins.clamp(max=_BINS - 1), minlength=_BINS)

    def percentile(self, percentile: float) -> float:
        """The least value that ``percentile`` percent of all activations do not exceed; 0 where nothing fired."""
        if not self.largest:
            return 0.0
        # Counted from the top: how many values may lie above it.
        above = self.total - math.ceil(self.total * percentile / 100)
        if not above:
            return self.largest
        reached = self.counts.flip(0).cumsum(0)
        if int(reached[-1]) <= above:
            # So few fire that the percentile is 0: the largest is all that is known of them.
            return self.largest
        place = _BINS - 1 - int((reached > above).int().argmax())
        if place == _BINS - 1:
            return self.largest
        octave, part = divmod(place, 1 << _MANTISSA)
        middle = math.ldexp(1 + (part + 0.5) / (1 << _MANTISSA), octave + _LOWEST)
        return min(middle, self.largest)


def thresholds(model: ResNet, batches: Iterable[Tensor], percentile: float = PERCENTILE) -> dict[str, float]:
    """Lambda of each channel space: the ``percentile`` of all of a layer's activations, zeros included.

    That is the robust form of threshold balancing: what most images never exceed becomes one spike a step. It is the
    smallest value that ``percentile`` percent of the activations do not exceed, to a relative 2^-12, in one pass and
    bounded memory; where so few fire that it would be zero, it is the largest one. ``batches`` are images (N, C, H, W)
    in 0 to 1 on the model's device. A residual stream takes the largest of all places where it is seen, and streams
    that option-A shortcuts join share theirs, for an identity cannot rescale. A space that never fires (activations
    below 2^-16) has no entry.
    """
    seen: dict[tuple[str, str], Histogram] = {}

    def see(space: str, where: str, maps: Tensor) -> None:
        if (space, where) not in seen:
            seen[space, where] = Histogram(maps.device)
        seen[space, where].add(maps)

    run_watched(model, batches, see)
    spaces = channel_spaces(model.architecture)
    largest: dict[str, float] = {}
    for (space, _), histogram in seen.items():
        root = spaces.linked(space)
        largest[root] = max(largest.get(root, 0.0), histogram.percentile(percentile))
    found = {space: largest[spaces.linked(space)] for space, _ in seen}
    return {space: value for space, value in found.items() if value > 0}
