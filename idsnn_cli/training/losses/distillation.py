"""Response distillation: the teacher's softened logits as targets (eq. 7)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from idsnn_cli.training.losses import In, Loss, LossOn, Reads, Seen

if TYPE_CHECKING:
    from torch import Tensor


class Distillation(Loss):
    """alpha * tau^2 * KL(softmax(q_t / tau) || softmax(q_s / tau))."""

    order: ClassVar[int] = 20
    reads: ClassVar[Reads] = "logits"

    alpha: Annotated[
        float,
        Field(
            ge=0,
            allow_inf_nan=False,
            description="Weight of the logits' distillation in CE + alpha tau^2 KL(teacher, student). "
            "With 0 and without `features` the loss needs no teacher.",
        ),
        In(("pretrain", "distill")),
    ] = 0.3
    temperature: Annotated[
        float, Field(gt=0, allow_inf_nan=False, description="tau in that formula."), In(("pretrain", "distill"))
    ] = 4.0
    loss_on: LossOn = "mean"

    def takes_part(self) -> bool:
        return self.alpha > 0

    def value(self, seen: Seen, modules: Any) -> Tensor:
        assert seen.teacher_NK is not None
        teacher_NK = seen.teacher_NK.to(seen.logits_TNK.dtype)
        every_step = self.loss_on == "steps"
        return distillation(seen.logits_TNK, teacher_NK, temperature=self.temperature, every_step=every_step)

    def added(self, total: Tensor, value: Tensor) -> Tensor:
        return total + self.alpha * value


def distillation(logits_TNK: Tensor, teacher_NK: Tensor, *, temperature: float, every_step: bool) -> Tensor:
    """tau^2 * KL(softmax(q_t / tau) || softmax(q_s / tau)), summed over the batch (eq. 7)."""
    from torch.nn import functional as F

    student = logits_TNK if every_step else logits_TNK.mean(0, keepdim=True)
    of_student = F.log_softmax(student / temperature, dim=-1)
    of_teacher = F.log_softmax(teacher_NK / temperature, dim=-1).expand_as(of_student)
    return F.kl_div(of_student, of_teacher, reduction="sum", log_target=True) * temperature**2 / student.shape[0]


DISTILLATION = Distillation()
