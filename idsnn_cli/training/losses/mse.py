"""The stages' maps themselves, the student's brought to the teacher's channels by 1x1 convolutions (KDSNN)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

from idsnn_cli.seeding import derive_seed
from idsnn_cli.training.losses import Channels, Seen, wide
from idsnn_cli.training.losses._features import FeatureLoss, summed

if TYPE_CHECKING:
    from torch import Tensor, nn

    from idsnn_cli.training.losses._features import Pairs


class Mse(FeatureLoss):
    """The mean of (A F_s - F_t)^2 over (C, H, W), A the stage's alignment (Xu et al. 2023).

    An alignment is trained like any kernel. Its first values are drawn from the seed by its name alone, uniform within
    1 / sqrt(C_in).
    """

    order: ClassVar[int] = 30

    def modules(self, channels: Channels, seed: int) -> nn.Module | None:
        from torch import nn

        pairs = zip(channels.student, channels.teacher, strict=True)
        return nn.ModuleDict(
            {"alignment": nn.ModuleList(_alignment(seed, stage, *each) for stage, each in enumerate(pairs))}
        )

    def value(self, seen: Seen, modules: Any) -> Tensor:
        aligned = [align(each) for align, each in zip(modules["alignment"], seen.maps, strict=True)]
        return feature_mse(zip(aligned, seen.teacher_maps, strict=True))


def feature_mse(pairs: Pairs) -> Tensor:
    """The mean of (F_s - F_t)^2 over (C, H, W), of features that were aligned already (Xu et al. 2023)."""
    return summed((wide(ours) - wide(theirs)).square().mean((1, 2, 3)).sum() for ours, theirs in pairs)


def _alignment(seed: int, stage: int, entry: int, out: int) -> nn.Conv2d:
    import torch
    from torch import nn

    with torch.device("meta"):
        align = nn.Conv2d(entry, out, 1, bias=False)
    generator = torch.Generator().manual_seed(derive_seed(seed, "weights", f"alignment.{stage}.weight"))
    bound = 1.0 / math.sqrt(entry)
    align.weight = nn.Parameter(torch.empty(out, entry, 1, 1).uniform_(-bound, bound, generator=generator))
    return align


MSE = Mse()
