"""The losses: cross-entropy and response distillation, on the time-mean logits or on every step's (eq. 6-8)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from idsnn_cli.models import per_step


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


@dataclass(frozen=True, slots=True)
class Objective:
    """L = CE + alpha * tau^2 * KL (eq. 8). Without a teacher it is the cross-entropy alone."""

    label_smoothing: float = 0.0
    every_step: bool = False
    alpha: float = 0.0
    temperature: float = 4.0
    teacher: nn.Module | None = None

    @torch.no_grad()
    def teach(self, images: Tensor) -> Tensor | None:
        """The teacher's logits (N, K) for the same augmented images, without a graph."""
        if self.teacher is None:
            return None
        return per_step(self.teacher(images)).float().mean(0)

    def __call__(self, logits_TNK: Tensor, labels_N: Tensor, teacher_NK: Tensor | None, global_size: int) -> Tensor:
        """This process's share of the loss: the sum over its images divided by the global batch's size."""
        wide = logits_TNK.float() if logits_TNK.dtype in (torch.bfloat16, torch.float16) else logits_TNK
        loss = cross_entropy(wide, labels_N, smoothing=self.label_smoothing, every_step=self.every_step)
        if teacher_NK is not None:
            soft = distillation(
                wide, teacher_NK.to(wide.dtype), temperature=self.temperature, every_step=self.every_step
            )
            loss = loss + self.alpha * soft
        return loss / global_size
