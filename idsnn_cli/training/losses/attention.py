"""Where the stages' maps are active (LaSNN)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from idsnn_cli.training.losses import Seen, wide
from idsnn_cli.training.losses._features import FeatureLoss, summed

if TYPE_CHECKING:
    from torch import Tensor

    from idsnn_cli.training.losses._features import Pairs


class Attention(FeatureLoss):
    """|| Q_s / |Q_s| - Q_t / |Q_t| ||, Q the sum over channels of F^2 as a vector for each image (Hong et al. 2023)."""

    order: ClassVar[int] = 40

    def value(self, seen: Seen, modules: Any) -> Tensor:
        return attention_distance(zip(seen.maps, seen.teacher_maps, strict=True))


def attention_distance(pairs: Pairs) -> Tensor:
    """|| Q_s / |Q_s| - Q_t / |Q_t| ||, Q the sum over channels of F^2 as a vector for each image (Hong et al. 2023).

    A map that is zero everywhere has no direction: it stands as zeros, at a distance of 1 from any other, and sends no
    gradient back.
    """
    import torch

    return summed(torch.linalg.vector_norm(attention(ours) - attention(theirs), dim=1).sum() for ours, theirs in pairs)


def attention(maps: Tensor) -> Tensor:
    """Q / |Q| of maps (N, C, H, W), as (N, H * W); zeros where Q is zero."""
    import torch

    squares = wide(maps).square().sum(1).flatten(1)
    norms = torch.linalg.vector_norm(squares, dim=1, keepdim=True)
    return squares / torch.where(norms > 0, norms, torch.ones_like(norms))


ATTENTION = Attention()
