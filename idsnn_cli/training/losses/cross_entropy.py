"""Cross-entropy with the labels, on the time-mean logits or on every step's (eq. 6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from idsnn_cli.training.losses import In, Loss, LossOn, Seen

if TYPE_CHECKING:
    from torch import Tensor


class CrossEntropy(Loss):
    """w_y CE(softmax(q_s), y), with which every loss begins; w is 1 unless classes are weighed."""

    order: ClassVar[int] = 0
    always: ClassVar[bool] = True

    label_smoothing: Annotated[
        float,
        Field(ge=0, lt=1, description="Of the cross-entropy."),
        In(("teacher", "pretrain", "distill")),
    ] = 0.0
    class_weights: Annotated[
        Literal["none", "balanced"],
        Field(
            description="What an image's cross-entropy counts: 1, or `balanced` N / (K n) for a class with n of the N "
            "training images of K classes, so that each class counts alike."
        ),
        In(("teacher", "pretrain", "distill")),
    ] = "none"
    loss_on: LossOn = "mean"

    def takes_part(self) -> bool:
        return True

    def value(self, seen: Seen, modules: Any) -> Tensor:
        smoothing, every_step = self.label_smoothing, self.loss_on == "steps"
        if self.class_weights == "none":
            return cross_entropy(seen.logits_TNK, seen.labels_N, smoothing=smoothing, every_step=every_step)
        assert seen.weights_K is not None
        return weighted_cross_entropy(
            seen.logits_TNK, seen.labels_N, seen.weights_K, smoothing=smoothing, every_step=every_step
        )


def balanced_weights(labels_N: Tensor, num_classes: int) -> Tensor:
    """N / (K n_c) for each of K classes, float32 (K,), of mean 1 over the images; 0 for a class without images."""
    import torch

    counts = torch.bincount(labels_N.cpu(), minlength=num_classes).double()
    return torch.where(counts > 0, len(labels_N) / (num_classes * counts), 0.0).float()


def weighted_cross_entropy(
    logits_TNK: Tensor, labels_N: Tensor, weights_K: Tensor, *, smoothing: float, every_step: bool
) -> Tensor:
    """:func:`cross_entropy` with each image's summand times the weight of its own class, smoothed or not."""
    from torch.nn import functional as F

    steps = logits_TNK if every_step else logits_TNK.mean(0, keepdim=True)
    labels = labels_N.repeat(steps.shape[0])
    summands = F.cross_entropy(steps.flatten(0, 1), labels, reduction="none", label_smoothing=smoothing)
    weighted: Tensor = (summands * weights_K.to(summands.dtype)[labels]).sum() / steps.shape[0]
    return weighted


def cross_entropy(logits_TNK: Tensor, labels_N: Tensor, *, smoothing: float, every_step: bool) -> Tensor:
    """Cross-entropy summed over the batch: of the time mean, or its average over the steps' own logits."""
    from torch.nn import functional as F

    if not every_step:
        return F.cross_entropy(logits_TNK.mean(0), labels_N, reduction="sum", label_smoothing=smoothing)
    steps = logits_TNK.shape[0]
    labels = labels_N.repeat(steps)
    return F.cross_entropy(logits_TNK.flatten(0, 1), labels, reduction="sum", label_smoothing=smoothing) / steps


CROSS_ENTROPY = CrossEntropy()
