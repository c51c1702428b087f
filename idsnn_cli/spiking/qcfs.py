"""QCFS, the ANN activation that a spiking neuron of few steps can copy (Bu et al., ICLR 2022)."""

from __future__ import annotations

from typing import Any

import torch
import torch.fx
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from idsnn_cli.spiking.reference import along_channels, compute_dtype
from idsnn_cli.spiking.traced import is_traced, passed_through, wants_gradient


class _Quantised(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, limit: Tensor, levels: int) -> Tensor:
        wide = x.to(compute_dtype(x.dtype))
        bound = _along_channels(limit, wide)
        step = torch.floor(wide * (levels / bound) + 0.5)
        y = step.clamp(0, levels) * (bound / levels)
        ctx.save_for_backward(x, limit)
        ctx.levels = levels
        return y.to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        stored, limit = ctx.saved_tensors
        # Differences of near values, and sums over whole maps, are not for half precision.
        x = stored.to(compute_dtype(stored.dtype))
        grad, bound = grads[0].to(x.dtype), _along_channels(limit, x)
        step = torch.floor(x * (ctx.levels / bound) + 0.5)
        inside = (step >= 0) & (step <= ctx.levels)
        # floor counts as the identity: y / lambda - x / lambda inside, 1 above, 0 below.
        by_limit = torch.where(inside, step / ctx.levels - x / bound, (step > ctx.levels).to(x.dtype))
        others = [axis for axis in range(x.dim()) if limit.dim() == 0 or axis != 1]
        total = (grad * by_limit).sum(others, dtype=torch.promote_types(x.dtype, limit.dtype))
        return (grad * inside).to(stored.dtype), total.to(limit.dtype), None


def _along_channels(limit: Tensor, x: Tensor) -> Tensor:
    """One lambda for all of ``x``, or one for each of its channels, axis 1."""
    bound = limit.to(x.dtype)
    return bound if bound.dim() == 0 else along_channels(bound, x)


def _quantised_traced(stored: Tensor, limit: Tensor, levels: int) -> Tensor:
    """The same in plain operations, gradients too, for what records or transforms a computation."""
    x = stored.to(compute_dtype(stored.dtype))
    bound = _along_channels(limit, x)
    step = torch.floor(x * (levels / bound) + 0.5)
    y = step.clamp(0, levels) * (bound / levels)
    if wants_gradient(x, limit):
        inside = (step >= 0) & (step <= levels)
        by_limit = torch.where(inside, step / levels - x / bound, (step > levels).to(x.dtype))
        y = inside.to(x.dtype).detach() * (x - x.detach()) + passed_through(y, by_limit, bound)
    return y.to(stored.dtype)


def quantised(x: Tensor, limit: Tensor, levels: int) -> Tensor:
    """What :class:`QCFS` gives for ``x``; one node in the graphs of torch.fx."""
    if is_traced():
        return _quantised_traced(x, limit, levels)
    y: Tensor = _Quantised.apply(x, limit, levels)
    return y


torch.fx.wrap("quantised")


class QCFS(nn.Module):
    """y = lambda * clip(floor(x L / lambda + 1/2) / L, 0, 1) of maps of any shape; lambda, ``limit``, is learnt: one
    number (), or one for each channel (C,) of maps (N, C, ...).

    Backward floor is the identity (straight through): where floor(...) is 0 to L, dy/dx is 1 and dy/dlambda is
    (y - x) / lambda; above, dy/dlambda is 1; all else is 0. That is the authors' first release, whose clip stands
    behind the floor and lets pass what is at its ends (torch's clamp did then): dy/dx is 1 for
    -1 / 2L <= x / lambda < 1 + 1 / 2L. The paper's formula ends it where the highest level begins, at 1 - 1 / 2L, and
    their later code clips first, to 0 and 1.

    An integrate-and-fire neuron that starts at half its threshold and resets softly gives, over T = L steps of the
    constant input x / lambda times its threshold, the spike rate y / lambda, but for ties: where x L / lambda + 1/2 is
    a whole number from 1 to L the membrane only reaches the threshold, which has to be passed, and the neuron gives the
    level below. Inputs that change from step to step are no constant one, and may give other rates.

    ``owner`` is the activation whose lambda this one has, where an identity shortcut carries one's output into the
    other's input: a spike of the converted network stands for lambda, and an identity cannot turn spikes that stand
    for one lambda into spikes that stand for another. So lambda is tied along a residual stream.
    """

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.levels = levels
        self.limit = nn.Parameter(torch.empty(()))
        # In a tuple, so that the other's parameter is not registered here, too.
        self._owner: tuple[QCFS, ...] = ()

    def follow(self, owner: QCFS) -> None:
        """Give up this activation's own lambda for that of ``owner``."""
        del self.limit
        self._owner = (owner,)

    def bound(self) -> Tensor:
        """lambda, its own or its owner's: () or (C,)."""
        return self._owner[0].limit if self._owner else self.limit

    def forward(self, x: Tensor) -> Tensor:
        return quantised(x, self.bound(), self.levels)

    def extra_repr(self) -> str:
        return f"levels={self.levels}" + (", limit of another" if self._owner else "")
