"""The backward pass of BatchNorm, addition and neuron over one tile, from its last step to its first.

Maps, tiles, steps and segments are those of chain_kernels.py and neuron_kernels.py.
"""

from __future__ import annotations

import triton
import triton.language as tl

from idsnn_cli.spiking.triton.chain_kernels import current
from idsnn_cli.spiking.triton.neuron_kernels import leave, place, retreat, retreat_through_reset, slope


@triton.jit
def finish(x, dx, x_at, there, du, mean, inverse, factor, mean_du, mean_product, APPLY: tl.constexpr):
    """With APPLY store dL/dx of a tile; returns the tile of du (x - mean), of which reduce makes the sum."""
    centred = tl.load(x + x_at, mask=there, other=0.0).to(tl.float32) - mean[None, :]
    if APPLY:
        normal = centred * inverse[None, :]
        found = (du - mean_du[None, :] - normal * mean_product[None, :]) * factor[None, :]
        tl.store(dx + x_at, found.to(dx.dtype.element_ty), mask=there)
    return du * centred


@triton.jit
def chain_backward_segment(
    x,
    residual,
    grad,
    state,
    dx,
    d_residual,
    first,
    here,
    at,
    back_x_at,
    state_at,
    there,
    mean,
    inverse,
    factor,
    bias,
    mean_du,
    mean_product,
    du,
    sum_du,
    sum_product,
    step,
    x_step,
    decay,
    theta,
    scale,
    start,
    peak,
    APPLY: tl.constexpr,
    SURROGATE: tl.constexpr,
    FULL: tl.constexpr,
    SOFT: tl.constexpr,
    RESIDUAL: tl.constexpr,
    REPEAT: tl.constexpr,
    LENGTH: tl.constexpr,
):
    """LENGTH steps of a tile from the last of them to the ``first`` one; sums of dL/dU and dL/dU (x - mean) go on.

    Bits tell the rectangle's gradient; else membranes are computed again, from the beginning of time.
    """
    BITS: tl.constexpr = SURROGATE == "rectangle" and (SOFT or not FULL)
    code = tl.zeros_like(du).to(tl.int32)
    membranes = ()
    if not BITS:
        x_at, forth_at = here, here
        left = tl.zeros_like(du) + start
        for _ in range(first):
            u = left + current(x, residual, x_at, forth_at, there, mean, factor, bias, RESIDUAL)
            left = leave(u, (u > theta).to(tl.float32), decay, theta, SOFT)
            x_at += x_step
            forth_at += step
        for _ in tl.static_range(LENGTH):
            u = left + current(x, residual, x_at, forth_at, there, mean, factor, bias, RESIDUAL)
            left = leave(u, (u > theta).to(tl.float32), decay, theta, SOFT)
            membranes = membranes + (u,)  # noqa: RUF005  # Triton's language has no unpacking
            x_at += x_step
            forth_at += step
    for i in tl.static_range(LENGTH - 1, -1, -1):
        g = tl.load(grad + at, mask=there, other=0.0).to(tl.float32)
        if BITS:
            # A segment begins with a byte, for its length is a multiple of four steps.
            if i == LENGTH - 1 or i % 4 == 3:
                code = tl.load(state + state_at, mask=there, other=0).to(tl.int32)
                state_at -= step
            bits = code >> (2 * (i % 4))
            rise = ((bits >> 1) & 1).to(tl.float32) * peak
            g = retreat_through_reset(g, du, du, decay, theta, FULL, SOFT)
            du = retreat(du, (bits & 1).to(tl.float32), decay, SOFT) + rise * g
        else:
            v = membranes[i]
            g = retreat_through_reset(g, du, v, decay, theta, FULL, SOFT)
            rise = slope(v, theta, scale, peak, SURROGATE)
            du = retreat(du, (v > theta).to(tl.float32), decay, SOFT) + rise * g
        if RESIDUAL and APPLY:
            tl.store(d_residual + at, du.to(d_residual.dtype.element_ty), mask=there)
        sum_du += du
        if not REPEAT:
            sum_product += finish(x, dx, back_x_at, there, du, mean, inverse, factor, mean_du, mean_product, APPLY)
            back_x_at -= x_step
        at -= step
    return at, back_x_at, state_at, du, sum_du, sum_product


@triton.jit
def chain_tile_backward(
    x,
    residual,
    grad,
    state,
    dx,
    d_residual,
    rows,
    columns,
    means,
    inverses,
    weights,
    biases,
    sums,
    total,
    pixels,
    channels,
    inner,
    step,
    last,
    state_last,
    x_step,
    x_last,
    decay,
    theta,
    scale,
    start,
    peak,
    APPLY: tl.constexpr,
    CENTRE: tl.constexpr,
    SURROGATE: tl.constexpr,
    FULL: tl.constexpr,
    SOFT: tl.constexpr,
    RESIDUAL: tl.constexpr,
    REPEAT: tl.constexpr,
    STEPS: tl.constexpr,
    SEGMENT: tl.constexpr,
    NHWC: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
):
    """dL/dU of one tile from its last step to its first; with APPLY dL/dx and dL/dresidual are stored.

    Returns the tile's sums over time of dL/dU and of dL/dU (x - mean).
    """
    in_channels = columns < channels
    there = (rows < pixels)[:, None] & in_channels[None, :]
    here = place(rows, columns, channels, inner, NHWC)
    mean = tl.load(means + columns, mask=in_channels, other=0.0).to(tl.float32)
    inverse = tl.load(inverses + columns, mask=in_channels, other=0.0).to(tl.float32)
    factor = inverse
    bias = mean
    # The weight is read where a membrane or a gradient is computed with it, the bias for membranes only.
    BITS: tl.constexpr = SURROGATE == "rectangle" and (SOFT or not FULL)
    if APPLY or not BITS:
        factor *= tl.load(weights + columns, mask=in_channels, other=0.0).to(tl.float32)
    if not BITS:
        bias = tl.load(biases + columns, mask=in_channels, other=0.0).to(tl.float32)
    mean_du = tl.zeros([BLOCK_COLUMNS], tl.float32)
    mean_product = tl.zeros([BLOCK_COLUMNS], tl.float32)
    if APPLY and CENTRE:
        count = tl.load(total)
        mean_du = tl.load(sums + columns, mask=in_channels, other=0.0) / count
        mean_product = tl.load(sums + channels + columns, mask=in_channels, other=0.0) / count
    at, back_x_at, state_at = here + last, here + x_last, here + state_last
    du = tl.zeros([BLOCK_ROWS, BLOCK_COLUMNS], tl.float32)
    sum_du = tl.zeros([BLOCK_ROWS, BLOCK_COLUMNS], tl.float32)
    sum_product = tl.zeros([BLOCK_ROWS, BLOCK_COLUMNS], tl.float32)
    SEGMENTS: tl.constexpr = STEPS // SEGMENT if STEPS > SEGMENT else 0
    REST: tl.constexpr = STEPS - SEGMENTS * SEGMENT
    if REST > 0:
        at, back_x_at, state_at, du, sum_du, sum_product = chain_backward_segment(
            x,
            residual,
            grad,
            state,
            dx,
            d_residual,
            SEGMENTS * SEGMENT,
            here,
            at,
            back_x_at,
            state_at,
            there,
            mean,
            inverse,
            factor,
            bias,
            mean_du,
            mean_product,
            du,
            sum_du,
            sum_product,
            step,
            x_step,
            decay,
            theta,
            scale,
            start,
            peak,
            APPLY,
            SURROGATE,
            FULL,
            SOFT,
            RESIDUAL,
            REPEAT,
            REST,
        )
    if SEGMENTS > 0:
        for k in range(SEGMENTS):
            at, back_x_at, state_at, du, sum_du, sum_product = chain_backward_segment(
                x,
                residual,
                grad,
                state,
                dx,
                d_residual,
                (SEGMENTS - 1 - k) * SEGMENT,
                here,
                at,
                back_x_at,
                state_at,
                there,
                mean,
                inverse,
                factor,
                bias,
                mean_du,
                mean_product,
                du,
                sum_du,
                sum_product,
                step,
                x_step,
                decay,
                theta,
                scale,
                start,
                peak,
                APPLY,
                SURROGATE,
                FULL,
                SOFT,
                RESIDUAL,
                REPEAT,
                SEGMENT,
            )
    if REPEAT:
        sum_product = finish(x, dx, here, there, sum_du, mean, inverse, factor, mean_du, mean_product, APPLY)
    return sum_du, sum_product * inverse[None, :]
