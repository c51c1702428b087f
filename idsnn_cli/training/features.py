"""What a student's stages are to have in common with its teacher's: the feature terms of KDSNN and LaSNN.

A feature is the maps (N, C, H, W) behind a stage; a spiking network's are its firing rates, the mean over time of the
stage's last spikes. Each term is summed over stages and over the images of the batch.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

Pairs = Iterable[tuple[Tensor, Tensor]]  # (student's, teacher's), stage by stage


def feature_mse(pairs: Pairs) -> Tensor:
    """The mean of (F_s - F_t)^2 over (C, H, W), of features that were aligned already (Xu et al. 2023)."""
    return _added((wide(ours) - wide(theirs)).square().mean((1, 2, 3)).sum() for ours, theirs in pairs)


def attention_distance(pairs: Pairs) -> Tensor:
    """|| Q_s / |Q_s| - Q_t / |Q_t| ||, Q the sum over channels of F^2 as a vector for each image (Hong et al. 2023).

    A map that is zero everywhere has no direction: it stands as zeros, at a distance of 1 from any other, and sends no
    gradient back.
    """
    return _added(torch.linalg.vector_norm(attention(ours) - attention(theirs), dim=1).sum() for ours, theirs in pairs)


def attention(maps: Tensor) -> Tensor:
    """Q / |Q| of maps (N, C, H, W), as (N, H * W); zeros where Q is zero."""
    squares = wide(maps).square().sum(1).flatten(1)
    norms = torch.linalg.vector_norm(squares, dim=1, keepdim=True)
    return squares / torch.where(norms > 0, norms, torch.ones_like(norms))


def wide(values: Tensor) -> Tensor:
    """``values`` in float32 at least: exponentials, squares and sums are not for half precision."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _added(terms: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(terms)).sum()
