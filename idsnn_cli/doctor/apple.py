"""Apple's GPUs (mps): whether torch can use one, and whether it computes there what the CPU computes.

None has been seen by this code yet; that a backend was silently wrong before is why it is compared with the CPU first.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

# Of float32 sums of some hundred products, in another order.
CLOSE = 1e-3


def mps_usable() -> bool:
    """Whether torch finds an Apple GPU that it can use."""
    import torch

    return torch.backends.mps.is_built() and torch.backends.mps.is_available()


@cache
def mps_disagreement() -> str | None:
    """What the GPU computes otherwise than the CPU, in words, of the layers that networks here are made of; else None.

    Outputs and gradients are compared. Asked only where :func:`mps_usable` says that there is one.
    """
    import torch

    for name, make, shape in _layers():
        try:
            there, here = (_computed(make, shape, torch.device(kind)) for kind in ("mps", "cpu"))
        except RuntimeError as error:
            return f"{name} fails there: {next(iter(str(error).splitlines()), type(error).__name__)}"
        far = max(_distance(ours, theirs) for ours, theirs in zip(there, here, strict=True))
        if not far <= CLOSE:  # nor for NaN
            return f"{name} is off by {far:.2g} of its largest value"
    return None


def _layers() -> list[tuple[str, Callable[[], nn.Module], tuple[int, ...]]]:
    from torch import nn

    maps = (4, 8, 10, 10)
    return [
        ("a 3x3 convolution", lambda: nn.Conv2d(8, 16, 3, padding=1, bias=False), maps),
        ("a 3x3 convolution of stride 2", lambda: nn.Conv2d(8, 16, 3, stride=2, padding=1, bias=False), maps),
        ("a 1x1 convolution of stride 2", lambda: nn.Conv2d(8, 16, 1, stride=2, bias=False), maps),
        ("a convolution in groups", lambda: nn.Conv2d(8, 16, 3, padding=1, groups=4, bias=False), maps),
        ("BatchNorm", lambda: nn.BatchNorm2d(8), maps),
        ("a max-pool", lambda: nn.MaxPool2d(3, 2, 1), maps),
        ("a mean over pixels", lambda: nn.AdaptiveAvgPool2d(1), maps),
        ("a linear layer", lambda: nn.Linear(40, 12), (4, 40)),
    ]


def _computed(make: Callable[[], nn.Module], shape: tuple[int, ...], device: torch.device) -> list[Tensor]:
    """A layer's output on ``device``, and the gradients of its input and parameters, on the CPU."""
    import torch

    generator = torch.Generator().manual_seed(0)
    layer = make()
    with torch.no_grad():
        for values in layer.parameters():
            values.normal_(generator=generator)
    images = torch.randn(shape, generator=generator).to(device).requires_grad_()
    layer = layer.to(device)
    out = layer(images)
    weights = torch.randn(out.shape, generator=generator).to(device)
    torch.autograd.backward((out * weights).sum())
    gradients = [images.grad, *(values.grad for values in layer.parameters())]
    return [out.detach().cpu(), *(each.cpu() for each in gradients if each is not None)]


def _distance(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1e-6))
