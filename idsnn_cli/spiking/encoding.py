"""Poisson coding: images as random spikes (Algorithm 1). Direct coding repeats the image and needs no code."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# Draws where nobody seeded the encoder, so that evaluation gives the same figure twice.
DEFAULT_SEED = 0


class PoissonEncoder(nn.Module):
    """Images (N, C, H, W) in 0 to 1 become 0/1 spikes (T, N, C, H, W); each fires with its pixel's probability.

    The draws come from a generator of the encoder's own, on the CPU, so that every device sees the same spikes.
    """

    def __init__(self, timesteps: int) -> None:
        super().__init__()
        self.timesteps = timesteps
        self.generator = torch.Generator().manual_seed(DEFAULT_SEED)

    def seed(self, seed: int) -> None:
        self.generator.manual_seed(seed)

    def forward(self, images: Tensor) -> Tensor:
        draws = torch.rand((self.timesteps, *images.shape), generator=self.generator, dtype=torch.float32)
        return (draws.to(images.device) < images).to(images.dtype)


def seed_encoders(model: nn.Module, seed: int) -> None:
    """Seed every Poisson encoder inside ``model``; a network with direct coding has none and is left alone."""
    for module in model.modules():
        if isinstance(module, PoissonEncoder):
            module.seed(seed)
