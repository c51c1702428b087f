"""Temporal efficient training (Deng et al. 2022): every step's logits are drawn to one value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from idsnn_cli.training.losses import Loss, LossOn, Seen

if TYPE_CHECKING:
    from torch import Tensor


class Tet(Loss):
    """(1 - lambda) * CE + lambda * MSE(O(t), phi), whose cross-entropy is that of every step."""

    order: ClassVar[int] = 10

    tet_weight: Annotated[
        float,
        Field(
            ge=0,
            lt=1,
            description="TET's lambda: this share of the loss is the squared distance of the logits from `tet_mean`, "
            "the rest cross-entropy; for `loss_on: steps`.",
        ),
    ] = 0.0
    tet_mean: Annotated[float, Field(allow_inf_nan=False, description="TET's phi; with `tet_weight`.")] = 1.0
    loss_on: LossOn = "mean"

    def check(self) -> None:
        if self.tet_weight and self.loss_on == "mean":
            raise ValueError("tet_weight weighs the losses of single steps; it is for loss_on steps, not mean")
        if self.tet_mean != 1.0 and not self.tet_weight:
            raise ValueError("tet_mean is for a tet_weight above 0")

    def takes_part(self) -> bool:
        return self.tet_weight > 0

    def value(self, seen: Seen, modules: Any) -> Tensor:
        return regularisation(seen.logits_TNK, self.tet_mean)

    def added(self, total: Tensor, value: Tensor) -> Tensor:
        return (1 - self.tet_weight) * total + self.tet_weight * value


def regularisation(logits_TNK: Tensor, mean: float) -> Tensor:
    """MSE(O(t), phi), the mean over classes and steps of the squared distance to ``mean``, summed over the batch."""
    return (logits_TNK - mean).square().mean((0, 2)).sum()


TET = Tet()
