"""How alike channels behave on images: for the rule ``merge``."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import torch
from torch import Tensor

from idsnn_cli.initializer.activations import run_watched
from idsnn_cli.models import ResNet

# Values that are held in float64 at a time.
CHUNK = 1 << 22


class _Sums:
    """Streamed sums of one space's channels and of their products, around the means of the first maps."""

    def __init__(self, maps: Tensor) -> None:
        # Around a mean the sums of squares do not cancel, as they would around zero.
        self.around = maps.double().mean((0, 2, 3)).view(1, -1, 1, 1)
        self.count = 0
        self.sums = self.around.new_zeros(maps.shape[1])
        self.products = self.around.new_zeros(maps.shape[1], maps.shape[1])

    def add(self, maps: Tensor) -> None:
        size = max(1, CHUNK // maps[0].numel())
        for first in range(0, len(maps), size):
            values = (maps[first : first + size].double() - self.around).transpose(0, 1).flatten(1)
            self.count += values.shape[1]
            self.sums += values.sum(1)
            self.products.addmm_(values, values.T)

    def correlations(self) -> Tensor:
        means = self.sums / self.count
        covariances = self.products / self.count - means.outer(means)
        deviations = covariances.diagonal().clamp(min=0).sqrt()
        # What remains of a constant channel is rounding.
        varies = deviations > 1e-9 * (means + self.around.flatten()).abs()
        inverse = torch.where(varies, 1 / deviations, torch.zeros_like(deviations))
        result = (covariances * inverse.outer(inverse)).clamp(-1, 1)
        return result.fill_diagonal_(1.0).cpu()


def correlations(model: ResNet, batches: Iterable[Tensor], spaces: Collection[str] | None = None) -> dict[str, Tensor]:
    """Pearson's correlations (C, C), float64, of the channels of each space, over all images and pixels.

    ``batches`` are images (N, C, H, W) in 0 to 1 on the model's device; without ``spaces`` all are looked at. A
    residual stream's are over the outputs of all of its blocks together. A channel that never changes is like no other
    (0). Every pixel counts, and memory is C squared for each space, besides the network's own.
    """
    sums: dict[str, _Sums] = {}

    def see(space: str, _where: str, maps: Tensor) -> None:
        if (spaces is None or space in spaces) and maps.numel():
            if space not in sums:
                sums[space] = _Sums(maps)
            sums[space].add(maps)

    run_watched(model, batches, see)
    return {space: each.correlations() for space, each in sums.items()}
