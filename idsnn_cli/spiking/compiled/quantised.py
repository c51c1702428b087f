"""BatchNorm, addition and QCFS as one differentiable operation over the compiled loops."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from idsnn_cli.spiking.compiled.chain import ByChannel
from idsnn_cli.spiking.compiled.maps import BLOCKS, Affine, flat, run_of, share, tiled, whole
from idsnn_cli.spiking.norm import BatchNorm


def _loops() -> Any:
    return import_module("idsnn_cli.spiking.compiled.quantise_kernels")


class _Quantise(torch.autograd.Function):
    """Where it ``passes``, without BatchNorm, ``x`` is handed on as neurons over the loops do."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        residual: Tensor | None,
        limit: Tensor,
        affine: ByChannel,
        levels: int,
        passes: bool,
    ) -> Tensor | tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        out = torch.empty_like(x)
        read, written = flat(x)[0], flat(out)[0]
        added = read[:0] if residual is None else flat(residual)[0]
        bound = limit.detach().double().expand(x.shape[1])
        factors = [tiled(each) for each in (affine.scale, affine.shift, levels / bound, bound / levels)]
        share(
            -(-len(read) // run_of(x.shape[1])),
            lambda first, last: _loops().quantise(read, added, *factors, np.float32(levels), written, first, last),
        )
        ctx.save_for_backward(x, limit, *([] if residual is None else [residual]))
        ctx.affine, ctx.levels, ctx.weight_dtype = affine, levels, weight.dtype
        return (out, x) if passes else out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        x, limit, *added = ctx.saved_tensors
        of_values, of_around = whole(grads, x.shape, x)
        affine: ByChannel = ctx.affine
        sums, current = np.zeros((BLOCKS, 3, x.shape[1])), torch.empty_like(x)
        read, written = flat(x)[0], flat(current)[0]
        given = flat(of_values)[0]
        around = read[:0] if of_around is None else flat(of_around)[0]
        other = flat(added[0])[0] if added else read[:0]
        bound = limit.double().expand(x.shape[1])
        factors = [tiled(each) for each in (affine.scale, affine.shift, ctx.levels / bound)]
        upper, onward = np.float32(ctx.levels), tiled(affine.onward)
        share(
            BLOCKS,
            lambda first, last: _loops().quantise_back(
                given, read, other, *factors, upper, onward, around, written, sums, first, last
            ),
        )
        total = sums.sum(0)
        of_x, *of_parameters = affine.gradients(x, current, total, keep=bool(added))
        of_limit = torch.from_numpy(total[2]) / ctx.levels
        of_limit = (of_limit if limit.dim() else of_limit.sum()).to(limit.dtype)
        own = (each.to(ctx.weight_dtype) for each in of_parameters)
        return of_x, *own, current if added else None, of_limit, None, None, None


def compiled_quantise(norm: BatchNorm, limit: Tensor, levels: int, x: Tensor, residual: Tensor | None) -> Tensor:
    """QCFS of ``norm(x) + residual`` (N, C, H, W), with ``limit`` () or (C,), for what ``takes_loops`` allows.

    Raises :class:`DataError` for a single value per channel in training.
    """
    affine = Affine.of(norm, x, 1)
    quantised: Tensor = _Quantise.apply(x, norm.weight, norm.bias, residual, limit, affine, levels, False)
    return quantised


def quantise_affine(
    affine: ByChannel, weight: Tensor, bias: Tensor, limit: Tensor, levels: int, x: Tensor
) -> tuple[Tensor, Tensor]:
    """QCFS of ``affine`` of ``x`` (N, C, H, W), which came from ``weight`` and ``bias`` (C,), without BatchNorm; and
    ``x`` for who else reads it."""
    both: tuple[Tensor, Tensor] = _Quantise.apply(x, weight, bias, None, limit, affine, levels, True)
    return both
