"""Stopping at the first number that is not finite: a NaN silences spiking neurons and never shows in the loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from idsnn_cli.errors import NonFiniteError

FIX = (
    "The last good state is kept. Lower the learning rate, set clip_norm, or use precision fp32, and start the step "
    "again with --force or in another --run-dir."
)


def first_non_finite(model: nn.Module) -> str | None:
    """The first parameter, gradient or BatchNorm statistic of ``model`` that holds NaN or infinity, in words."""
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            return f"parameter {_shown(name)}"
    for name, buffer in model.named_buffers():
        name = _shown(name)
        if buffer.is_floating_point() and not torch.isfinite(buffer).all():
            return f"BatchNorm statistic {name}" if "running" in name else f"buffer {name}"
    for name, parameter in model.named_parameters():
        if parameter.grad is not None and not torch.isfinite(parameter.grad).all():
            return f"gradient of {_shown(name)}"
    return None


def _shown(name: str) -> str:
    """A tensor of the student's by its canonical name, one of its training's by its own."""
    return name.removeprefix("model.")


def check_model(model: nn.Module, where: str) -> None:
    """Raise :class:`NonFiniteError` naming the tensor where any parameter or statistic is not finite."""
    found = first_non_finite(model)
    if found is not None:
        raise NonFiniteError(f"{found} is not finite {where}", FIX)


def gradient_norm(model: nn.Module) -> Tensor:
    """The Euclidean norm of all gradients together, as a 0-d tensor on the model's device."""
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    norm: Tensor = torch.linalg.vector_norm(torch.stack(list(torch._foreach_norm(gradients))))
    return norm


def non_finite_step(model: nn.Module, loss_is_finite: bool, where: str) -> NonFiniteError:
    """The error for a step whose loss or gradient norm is not finite, naming the first tensor at fault."""
    found = first_non_finite(model)
    if not loss_is_finite:
        what = "the loss is not finite" + (f" (and {found} is not)" if found else "")
    else:
        what = f"{found or 'the gradient norm'} is not finite"
    return NonFiniteError(f"{what} {where}", FIX)
