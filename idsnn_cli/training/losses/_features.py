"""What a student's stages are to have in common with its teacher's: the base of the feature terms.

A feature is the maps (N, C, H, W) behind a stage; a spiking network's are its firing rates, the mean over time of the
stage's last spikes. Each term is summed over stages and over the images of the batch. ``features`` takes one of them by
the name of its file.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from idsnn_cli.training.losses import Loss, Reads, losses

if TYPE_CHECKING:
    from torch import Tensor

    Pairs = Iterable[tuple[Tensor, Tensor]]  # (student's, teacher's), stage by stage


class FeatureLoss(Loss):
    """A term that compares the maps behind the stages; a subclass gives its value."""

    reads: ClassVar[Reads] = "maps"
    off_value: ClassVar[str] = "none"

    features: Annotated[
        str,
        Field(
            description="Distil what stands behind each stage, too: the maps behind a 1x1 alignment (KDSNN), or where "
            "they are active (LaSNN)."
        ),
    ] = "none"
    feature_weight: Annotated[float, Field(gt=0, allow_inf_nan=False, description="Weight of that term.")] = 1.0

    def check(self) -> None:
        if self.feature_weight != 1.0 and self.features == "none":
            choices = " or ".join(loss.name for loss in losses() if isinstance(loss, FeatureLoss))
            raise ValueError(f"feature_weight is for features {choices}, not none")

    def takes_part(self) -> bool:
        return self.features == self.name

    def added(self, total: Tensor, value: Tensor) -> Tensor:
        return total + self.feature_weight * value


def summed(values: Iterable[Tensor]) -> Tensor:
    """The sum over stages."""
    import torch

    return torch.stack(list(values)).sum()
