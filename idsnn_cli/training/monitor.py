"""What a training step leaves on the device, and stopping at the first number that is not finite.

A NaN silences spiking neurons and never shows in the loss. The host reads the sums of the figures, and which step was
not finite, when it wants to tell something, so that a GPU need not be waited for after every step. Where steps are
watched, a step that is not finite and all after it leave the weights as they are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from idsnn_cli.errors import NonFiniteError
from idsnn_cli.spiking.precision import has_float64, in_float64
from idsnn_cli.training.processes import sum_over_processes

FIX = (
    "The last good state is kept. Lower the learning rate, set clip_norm, or use precision fp32, and start the step "
    "again with --force or in another --run-dir."
)


@dataclass(frozen=True, slots=True)
class Figures:
    """Sums over the steps since the last reading, of all processes.

    ``first_bad`` is the first step (from 0) whose loss or gradient was not finite, None where all were;
    ``loss_was_finite`` says of that step whether it was the gradient alone, and ``bad_gradient`` which of this
    process's gradients was the first at fault, by its place among the parameters that have one; None where none was.
    """

    loss_sum: float
    correct: int
    first_bad: int | None
    loss_was_finite: bool
    bad_gradient: int | None = None


class Watch:
    """Tensors of fixed addresses on ``device``, as a captured step needs them; ``stopped`` is 1.0 after a bad step.

    ``stopped`` is what a fused optimiser takes as ``found_inf``: it then writes nothing.
    """

    def __init__(self, device: torch.device) -> None:
        self.sums = torch.zeros(2, dtype=torch.float64, device=device if has_float64(device) else "cpu")
        self.step = torch.zeros((), dtype=torch.int64, device=device)
        self.first_bad = torch.full((), -1, dtype=torch.int64, device=device)
        self.loss_was_finite = torch.ones((), dtype=torch.bool, device=device)
        self.bad_gradient = torch.full((), -1, dtype=torch.int64, device=device)
        self.stopped = torch.zeros((), dtype=torch.float32, device=device)

    def begin(self, step: int) -> None:
        """The next step has the number ``step``."""
        self.step.fill_(step)

    @torch.no_grad()
    def add(self, loss: Tensor, correct: Tensor, global_size: int) -> None:
        """Count a step in: this process's share of the loss (a mean over ``global_size`` images) and its hits."""
        self.sums.add_(torch.stack([in_float64(loss.detach()) * global_size, in_float64(correct)]))

    @torch.no_grad()
    def judge(self, loss: Tensor, norm: Tensor, norms: Tensor) -> None:
        """Set ``stopped`` where the loss or the gradients' ``norm`` is not finite in any process, here or before.

        ``norms`` are those of each gradient: later steps make new gradients, so which was at fault is noted here.
        """
        finite, wrong = torch.isfinite(loss), ~torch.isfinite(norms)
        bad = sum_over_processes((~(finite & torch.isfinite(norm))).to(torch.float32)) > 0
        fresh = bad & (self.first_bad < 0)
        self.loss_was_finite.copy_(torch.where(fresh, finite, self.loss_was_finite))
        place = wrong.to(torch.int8).argmax().masked_fill(~wrong.any(), -1)
        self.bad_gradient.copy_(torch.where(fresh, place, self.bad_gradient))
        self.first_bad.copy_(torch.where(fresh, self.step, self.first_bad))
        self.stopped.copy_(self.first_bad >= 0)
        self.step.add_(1)

    def read(self) -> Figures:
        """What has been counted since the last reading; waits for the device once."""
        sums = sum_over_processes(self.sums.clone())
        flags = torch.stack([in_float64(each) for each in (self.first_bad, self.loss_was_finite, self.bad_gradient)])
        self.sums.zero_()
        loss_sum, correct, first_bad, finite, place = torch.cat([sums, flags]).tolist()
        return Figures(
            loss_sum,
            int(correct),
            None if first_bad < 0 else int(first_bad),
            bool(finite),
            None if place < 0 else int(place),
        )


def first_non_finite(model: nn.Module) -> str | None:
    """The first parameter, BatchNorm statistic or gradient of ``model`` that holds NaN or infinity, in words."""
    return _bad_parameter(model) or _bad_buffer(model) or _bad_gradient(model)


def _bad_parameter(model: nn.Module) -> str | None:
    found = (name for name, parameter in model.named_parameters() if not torch.isfinite(parameter).all())
    return next((f"parameter {_shown(name)}" for name in found), None)


def _bad_buffer(model: nn.Module) -> str | None:
    for name, buffer in model.named_buffers():
        name = _shown(name)
        if buffer.is_floating_point() and not torch.isfinite(buffer).all():
            return f"BatchNorm statistic {name}" if "running" in name else f"buffer {name}"
    return None


def _bad_gradient(model: nn.Module) -> str | None:
    for name, parameter in model.named_parameters():
        if parameter.grad is not None and not torch.isfinite(parameter.grad).all():
            return f"gradient of {_shown(name)}"
    return None


def _shown(name: str) -> str:
    """A tensor of the student's by its canonical name, one of its training's by its own."""
    return re.sub(r"^(model|losses\.[^.]+)\.", "", name)


def check_model(model: nn.Module, where: str) -> None:
    """Raise :class:`NonFiniteError` naming the tensor where any parameter or statistic is not finite."""
    found = first_non_finite(model)
    if found is not None:
        raise NonFiniteError(f"{found} is not finite {where}", FIX)


def gradient_norms(model: nn.Module) -> tuple[Tensor, Tensor]:
    """The Euclidean norm of all gradients together (0-d), and that of each (P,), on the model's device."""
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    norms = torch.stack(list(torch._foreach_norm(gradients)))
    norm: Tensor = torch.linalg.vector_norm(norms)
    return norm, norms


def non_finite_step(model: nn.Module, loss_is_finite: bool, where: str) -> NonFiniteError:
    """The error for the last step, whose loss or gradient norm is not finite, naming the first tensor at fault."""
    return _non_finite(first_non_finite(model), loss_is_finite, where)


def non_finite_before(model: nn.Module, figures: Figures, where: str) -> NonFiniteError:
    """The same for a watched step that others may have followed: their gradients are not its gradients.

    Weights have stood still since, so a parameter that is not finite was not then.
    """
    found = _bad_parameter(model)
    if found is None and figures.bad_gradient is not None:
        names = [name for name, parameter in model.named_parameters() if parameter.grad is not None]
        found = f"gradient of {_shown(names[figures.bad_gradient])}"
    return _non_finite(found or _bad_buffer(model), figures.loss_was_finite, where)


def _non_finite(found: str | None, loss_is_finite: bool, where: str) -> NonFiniteError:
    if not loss_is_finite:
        what = "the loss is not finite" + (f" (and {found} is not)" if found else "")
    else:
        what = f"{found or 'the gradient norm'} is not finite"
    return NonFiniteError(f"{what} {where}", FIX)
