"""What a training step leaves on the device: the sums of its figures, and the first step that was not finite.

The host reads them when it wants to tell something, so that a GPU need not be waited for after every step. Where steps
are watched, a step that is not finite and all after it leave the weights as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from idsnn_cli.training.distributed import sum_over_processes


@dataclass(frozen=True, slots=True)
class Figures:
    """Sums over the steps since the last reading, of all processes.

    ``first_bad`` is the first step (from 0) whose loss or gradient was not finite, None where all were;
    ``loss_was_finite`` says of that step whether it was the gradient alone.
    """

    loss_sum: float
    correct: int
    first_bad: int | None
    loss_was_finite: bool


class Watch:
    """Tensors of fixed addresses on ``device``, as a captured step needs them; ``stopped`` is 1.0 after a bad step.

    ``stopped`` is what a fused optimiser takes as ``found_inf``: it then writes nothing.
    """

    def __init__(self, device: torch.device) -> None:
        self.sums = torch.zeros(2, dtype=torch.float64, device=device)
        self.step = torch.zeros((), dtype=torch.int64, device=device)
        self.first_bad = torch.full((), -1, dtype=torch.int64, device=device)
        self.loss_was_finite = torch.ones((), dtype=torch.bool, device=device)
        self.stopped = torch.zeros((), dtype=torch.float32, device=device)

    def begin(self, step: int) -> None:
        """The next step has the number ``step``."""
        self.step.fill_(step)

    @torch.no_grad()
    def add(self, loss: Tensor, correct: Tensor, global_size: int) -> None:
        """Count a step in: this process's share of the loss (a mean over ``global_size`` images) and its hits."""
        self.sums.add_(torch.stack([loss.detach().double() * global_size, correct.double()]))

    @torch.no_grad()
    def judge(self, loss: Tensor, norm: Tensor) -> None:
        """Set ``stopped`` where the loss or the gradients' ``norm`` is not finite in any process, here or before."""
        finite = torch.isfinite(loss)
        bad = sum_over_processes((~(finite & torch.isfinite(norm))).to(torch.float32)) > 0
        fresh = bad & (self.first_bad < 0)
        self.loss_was_finite.copy_(torch.where(fresh, finite, self.loss_was_finite))
        self.first_bad.copy_(torch.where(fresh, self.step, self.first_bad))
        self.stopped.copy_(self.first_bad >= 0)
        self.step.add_(1)

    def read(self) -> Figures:
        """What has been counted since the last reading; waits for the device once."""
        sums = sum_over_processes(self.sums.clone())
        flags = torch.stack([self.first_bad.double(), self.loss_was_finite.double()])
        self.sums.zero_()
        loss_sum, correct, first_bad, finite = torch.cat([sums, flags]).tolist()
        return Figures(loss_sum, int(correct), None if first_bad < 0 else int(first_bad), bool(finite))
