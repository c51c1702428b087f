"""Cross-entropy with the labels, on the time-mean logits or on every step's (eq. 6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from idsnn_cli.training.losses import In, Loss, LossOn, Seen

if TYPE_CHECKING:
    from torch import Tensor


class CrossEntropy(Loss):
    """CE(softmax(q_s), y), with which every loss begins."""

    order: ClassVar[int] = 0
    always: ClassVar[bool] = True

    label_smoothing: Annotated[
        float,
        Field(ge=0, lt=1, description="Of the cross-entropy."),
        In(("teacher", "pretrain", "distill")),
    ] = 0.0
    loss_on: LossOn = "mean"

    def takes_part(self) -> bool:
        return True

    def value(self, seen: Seen, modules: Any) -> Tensor:
        every_step = self.loss_on == "steps"
        return cross_entropy(seen.logits_TNK, seen.labels_N, smoothing=self.label_smoothing, every_step=every_step)


def cross_entropy(logits_TNK: Tensor, labels_N: Tensor, *, smoothing: float, every_step: bool) -> Tensor:
    """Cross-entropy summed over the batch: of the time mean, or its average over the steps' own logits."""
    from torch.nn import functional as F

    if not every_step:
        return F.cross_entropy(logits_TNK.mean(0), labels_N, reduction="sum", label_smoothing=smoothing)
    steps = logits_TNK.shape[0]
    labels = labels_N.repeat(steps)
    return F.cross_entropy(logits_TNK.flatten(0, 1), labels, reduction="sum", label_smoothing=smoothing) / steps


CROSS_ENTROPY = CrossEntropy()
