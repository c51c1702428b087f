"""The losses: cross-entropy and response distillation, on the time-mean logits or on every step's (eq. 6-8)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from idsnn_cli.models import ResNet, per_step
from idsnn_cli.training.features import wide

Features = Literal["none", "mse", "attention"]


class Lesson(NamedTuple):
    """What the teacher makes of a batch: its logits (N, K), and the maps behind its stages where they are asked for."""

    logits_NK: Tensor
    maps: tuple[Tensor, ...] = ()


def cross_entropy(logits_TNK: Tensor, labels_N: Tensor, *, smoothing: float, every_step: bool) -> Tensor:
    """Cross-entropy summed over the batch: of the time mean, or its average over the steps' own logits."""
    if not every_step:
        return F.cross_entropy(logits_TNK.mean(0), labels_N, reduction="sum", label_smoothing=smoothing)
    steps = logits_TNK.shape[0]
    labels = labels_N.repeat(steps)
    return F.cross_entropy(logits_TNK.flatten(0, 1), labels, reduction="sum", label_smoothing=smoothing) / steps


def distillation(logits_TNK: Tensor, teacher_NK: Tensor, *, temperature: float, every_step: bool) -> Tensor:
    """tau^2 * KL(softmax(q_t / tau) || softmax(q_s / tau)), summed over the batch (eq. 7)."""
    student = logits_TNK if every_step else logits_TNK.mean(0, keepdim=True)
    of_student = F.log_softmax(student / temperature, dim=-1)
    of_teacher = F.log_softmax(teacher_NK / temperature, dim=-1).expand_as(of_student)
    return F.kl_div(of_student, of_teacher, reduction="sum", log_target=True) * temperature**2 / student.shape[0]


def regularisation(logits_TNK: Tensor, mean: float) -> Tensor:
    """MSE(O(t), phi), the mean over classes and steps of the squared distance to ``mean``, summed over the batch."""
    return (logits_TNK - mean).square().mean((0, 2)).sum()


@dataclass(frozen=True, slots=True)
class Objective:
    """L = (1 - tet_weight) * CE + tet_weight * MSE + alpha * tau^2 * KL + feature_weight * features.

    Without its options this is eq. 8, and without a teacher the cross-entropy alone. ``tet_weight`` and ``tet_mean``
    are lambda and phi of temporal efficient training (Deng et al. 2022), whose cross-entropy is that of every step.
    """

    label_smoothing: float = 0.0
    every_step: bool = False
    alpha: float = 0.0
    temperature: float = 4.0
    teacher: nn.Module | None = None
    tet_weight: float = 0.0
    tet_mean: float = 1.0
    features: Features = "none"
    feature_weight: float = 1.0

    @torch.no_grad()
    def teach(self, images: Tensor) -> Lesson | None:
        """The teacher's lesson on the same augmented images: one forward pass, without a graph."""
        if self.teacher is None:
            return None
        if self.features == "none":
            return Lesson(per_step(self.teacher(images)).float().mean(0))
        assert isinstance(self.teacher, ResNet)
        logits, maps = self.teacher.with_features(images)
        return Lesson(per_step(logits).float().mean(0), maps)

    def __call__(
        self,
        logits_TNK: Tensor,
        labels_N: Tensor,
        lesson: Lesson | None,
        global_size: int,
        features: Tensor | None = None,
    ) -> Tensor:
        """This process's share of the loss: the sum over its images divided by the global batch's size.

        ``features`` is the feature term, summed over this process's images.
        """
        logits_TNK = wide(logits_TNK)
        loss = cross_entropy(logits_TNK, labels_N, smoothing=self.label_smoothing, every_step=self.every_step)
        if self.tet_weight:
            loss = (1 - self.tet_weight) * loss + self.tet_weight * regularisation(logits_TNK, self.tet_mean)
        if lesson is not None and self.alpha:
            teacher_NK = lesson.logits_NK.to(logits_TNK.dtype)
            soft = distillation(logits_TNK, teacher_NK, temperature=self.temperature, every_step=self.every_step)
            loss = loss + self.alpha * soft
        if features is not None:
            loss = loss + self.feature_weight * features
        return loss / global_size
