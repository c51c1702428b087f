"""Poisson coding: images as random spikes (Algorithm 1). Direct coding repeats the image and needs no code."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from idsnn_cli.errors import UsageError
from idsnn_cli.spiking.traced import is_exported

# Draws where nobody seeded the encoder, so that evaluation gives the same figure twice.
DEFAULT_SEED = 0


class PoissonEncoder(nn.Module):
    """Images (N, C, H, W) in 0 to 1 become 0/1 spikes (T, N, C, H, W); each fires with its pixel's probability.

    The draws come from a generator of the encoder's own, on the CPU, so that every device sees the same spikes. They
    go image by image: what an image gets depends on the seed and on how many images came before it, not on batches.
    """

    # Of step(): the draws of all T steps, and which of them is next.
    draws_NTCHW: Tensor | None = None
    next = 0

    def __init__(self, timesteps: int) -> None:
        super().__init__()
        self.timesteps = timesteps
        self.generator = torch.Generator()
        self.seed(DEFAULT_SEED)

    def seed(self, seed: int, first_image: int = 0) -> None:
        """Start over. ``first_image`` counts the images before the next one, those of other processes' shards."""
        self.generator.manual_seed(seed)
        self.to_skip = first_image

    def forward(self, images: Tensor) -> Tensor:
        """Raises :class:`UsageError` where a graph is made of it, which would hold one draw for all images."""
        if is_exported():
            raise UsageError(
                "Poisson coding draws new spikes for every image, and a graph would hold one draw for all",
                "Export a network of direct coding, or as NIR, which is given the spikes.",
            )
        self._draw(self.to_skip, images)
        self.to_skip = 0
        draws_TNCHW = self._draw(images.shape[0], images).transpose(0, 1)
        return (draws_TNCHW.to(images.device) < images).to(images.dtype)

    def step(self, images: Tensor) -> Tensor:
        """The spikes (N, C, H, W) of one more time step; those of T steps are :meth:`forward`'s where the images stay.

        Draws are taken for T steps at once, image by image. Raises :class:`UsageError` for images of another shape.
        """
        if self.draws_NTCHW is not None and self.draws_NTCHW[:, 0].shape != images.shape:
            raise UsageError(
                f"a step is given images {list(images.shape)}, and the encoder is at "
                f"{list(self.draws_NTCHW[:, 0].shape)}",
                "Call model.reset() before other images.",
            )
        if self.draws_NTCHW is None or self.next == self.timesteps:
            self._draw(self.to_skip, images)
            self.to_skip = 0
            self.draws_NTCHW, self.next = self._draw(images.shape[0], images), 0
        draws_NCHW = self.draws_NTCHW[:, self.next].to(images.device)
        self.next += 1
        return (draws_NCHW < images).to(images.dtype)

    def reset(self) -> None:
        """Let the next :meth:`step` be a first one, with draws of its own."""
        self.draws_NTCHW, self.next = None, 0

    def _draw(self, count: int, images: Tensor) -> Tensor:
        """(count, T, C, H, W) in 0 to 1."""
        return torch.rand((count, self.timesteps, *images.shape[1:]), generator=self.generator, dtype=torch.float32)


def seed_encoders(model: nn.Module, seed: int, first_image: int = 0) -> None:
    """Seed every Poisson encoder inside ``model``; a network with direct coding has none and is left alone.

    ``first_image`` is the place of this process's first image among those of all processes.
    """
    for module in model.modules():
        if isinstance(module, PoissonEncoder):
            module.seed(seed, first_image)
