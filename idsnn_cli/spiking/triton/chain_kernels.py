"""BatchNorm's affine map, an addition and the neuron in one pass, and their backward pass.

Maps are (T, N, C, H, W), gap-free in NCHW or NHWC order, tiled as :class:`~idsnn_cli.spiking.triton.launch.Tiles`
says. A step is ``step`` elements; that of ``x`` is ``x_step``, 0 where one map stands for all steps (REPEAT).
z = (x - mean) * (inverse * weight) + bias [+ residual], each operation rounded to fp32. The
backward pass runs twice over the maps: once to reduce, once to apply.
"""

from __future__ import annotations

import triton
import triton.language as tl

from idsnn_cli.spiking.triton.neuron_kernels import advance, place, retreat, slope, two_bits


@triton.jit
def current(x, residual, x_at, at, there, mean, factor, bias, RESIDUAL: tl.constexpr):
    """X(t) of a tile."""
    value = tl.load(x + x_at, mask=there, other=0.0).to(tl.float32)
    z = (value - mean[None, :]) * factor[None, :] + bias[None, :]
    if RESIDUAL:
        z += tl.load(residual + at, mask=there, other=0.0).to(tl.float32)
    return z


@triton.jit
def chain_forward(
    x,
    residual,
    spikes,
    state,
    means,
    inverses,
    weights,
    biases,
    pixels,
    channels,
    inner,
    step,
    x_step,
    decay,
    theta,
    scale,
    STEPS: tl.constexpr,
    KEEP: tl.constexpr,
    RESIDUAL: tl.constexpr,
    REPEAT: tl.constexpr,
    NHWC: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
):
    """Spikes, and with KEEP the rectangle's two bits."""
    rows = tl.program_id(0).to(tl.int64) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    columns = tl.program_id(1) * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)
    in_channels = columns < channels
    there = (rows < pixels)[:, None] & in_channels[None, :]
    at = place(rows, columns, channels, inner, NHWC)
    x_at, state_at = at, at
    mean = tl.load(means + columns, mask=in_channels, other=0.0).to(tl.float32)
    bias = tl.load(biases + columns, mask=in_channels, other=0.0).to(tl.float32)
    factor = tl.load(inverses + columns, mask=in_channels, other=0.0).to(tl.float32)
    factor *= tl.load(weights + columns, mask=in_channels, other=0.0).to(tl.float32)
    u = tl.zeros([BLOCK_ROWS, BLOCK_COLUMNS], tl.float32)
    fired = tl.zeros([BLOCK_ROWS, BLOCK_COLUMNS], tl.float32)
    code = tl.zeros([BLOCK_ROWS, BLOCK_COLUMNS], tl.int32)
    for t in tl.static_range(STEPS):
        if t == 0 or not REPEAT:
            z = current(x, residual, x_at, at, there, mean, factor, bias, RESIDUAL)
        u = z if t == 0 else advance(u, fired, z, decay)
        fired = (u > theta).to(tl.float32)
        tl.store(spikes + at, fired.to(spikes.dtype.element_ty), mask=there)
        if KEEP:
            code |= two_bits(u, fired, theta, scale) << (2 * (t % 4))
            if t % 4 == 3 or t == STEPS - 1:
                tl.store(state + state_at, code.to(tl.uint8), mask=there)
                state_at += step
                code = tl.zeros([BLOCK_ROWS, BLOCK_COLUMNS], tl.int32)
        at += step
        x_at += x_step


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
    peak,
    APPLY: tl.constexpr,
    CENTRE: tl.constexpr,
    SURROGATE: tl.constexpr,
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
    if APPLY or SURROGATE != "rectangle":
        factor *= tl.load(weights + columns, mask=in_channels, other=0.0).to(tl.float32)
    if SURROGATE != "rectangle":
        bias = tl.load(biases + columns, mask=in_channels, other=0.0).to(tl.float32)
    mean_du = tl.zeros([BLOCK_COLUMNS], tl.float32)
    mean_product = tl.zeros([BLOCK_COLUMNS], tl.float32)
    if APPLY and CENTRE:
        count = tl.load(total)
        mean_du = tl.load(sums + columns, mask=in_channels, other=0.0) / count
        mean_product = tl.load(sums + channels + columns, mask=in_channels, other=0.0) / count
    at, back_x_at, state_at = here + last, here + x_last, here + state_last
    code = tl.zeros([BLOCK_ROWS, BLOCK_COLUMNS], tl.int32)
    du = tl.zeros([BLOCK_ROWS, BLOCK_COLUMNS], tl.float32)
    sum_du = tl.zeros([BLOCK_ROWS, BLOCK_COLUMNS], tl.float32)
    sum_product = tl.zeros([BLOCK_ROWS, BLOCK_COLUMNS], tl.float32)
    for first in tl.static_range((STEPS - 1) // SEGMENT * SEGMENT, -1, -SEGMENT):
        membranes = ()
        if SURROGATE != "rectangle":
            x_at, forth_at = here, here
            u = tl.zeros([BLOCK_ROWS, BLOCK_COLUMNS], tl.float32)
            fired = tl.zeros([BLOCK_ROWS, BLOCK_COLUMNS], tl.float32)
            for _ in range(first):
                z = current(x, residual, x_at, forth_at, there, mean, factor, bias, RESIDUAL)
                u = advance(u, fired, z, decay)
                fired = (u > theta).to(tl.float32)
                x_at += x_step
                forth_at += step
            for i in tl.static_range(SEGMENT):
                if first + i < STEPS:
                    z = current(x, residual, x_at, forth_at, there, mean, factor, bias, RESIDUAL)
                    u = advance(u, fired, z, decay)
                    fired = (u > theta).to(tl.float32)
                    membranes = membranes + (u,)  # noqa: RUF005  # Triton's language has no unpacking
                    x_at += x_step
                    forth_at += step
        for i in tl.static_range(SEGMENT - 1, -1, -1):
            if first + i < STEPS:
                g = tl.load(grad + at, mask=there, other=0.0).to(tl.float32)
                if SURROGATE == "rectangle":
                    if first + i == STEPS - 1 or (first + i) % 4 == 3:
                        code = tl.load(state + state_at, mask=there, other=0).to(tl.int32)
                        state_at -= step
                    bits = code >> (2 * ((first + i) % 4))
                    rise = ((bits >> 1) & 1).to(tl.float32) * peak
                    du = retreat(du, (bits & 1).to(tl.float32), decay) + rise * g
                else:
                    v = membranes[i]
                    rise = slope(v, theta, scale, peak, SURROGATE)
                    du = retreat(du, (v > theta).to(tl.float32), decay) + rise * g
                if RESIDUAL and APPLY:
                    tl.store(d_residual + at, du.to(d_residual.dtype.element_ty), mask=there)
                sum_du += du
                if not REPEAT:
                    sum_product += finish(
                        x, dx, back_x_at, there, du, mean, inverse, factor, mean_du, mean_product, APPLY
                    )
                    back_x_at -= x_step
                at -= step
    if REPEAT:
        sum_product = finish(x, dx, here, there, sum_du, mean, inverse, factor, mean_du, mean_product, APPLY)
    return sum_du, sum_product * inverse[None, :]


@triton.jit
def chain_reduce(
    x,
    residual,
    grad,
    state,
    partials,
    means,
    inverses,
    weights,
    biases,
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
    peak,
    each,
    SURROGATE: tl.constexpr,
    RESIDUAL: tl.constexpr,
    REPEAT: tl.constexpr,
    STEPS: tl.constexpr,
    SEGMENT: tl.constexpr,
    NHWC: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
):
    """Row p of ``partials``: the sums of dL/dU and of dL/dU times the normalised x over ``each`` tiles."""
    columns = tl.program_id(1) * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)
    by_bias = tl.zeros([BLOCK_ROWS, BLOCK_COLUMNS], tl.float32)
    by_weight = tl.zeros([BLOCK_ROWS, BLOCK_COLUMNS], tl.float32)
    for i in range(each):
        rows = (tl.program_id(0) * each + i).to(tl.int64) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
        one, other = chain_tile_backward(
            x,
            residual,
            grad,
            state,
            x,
            x,
            rows,
            columns,
            means,
            inverses,
            weights,
            biases,
            partials,
            partials,
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
            peak,
            False,
            False,
            SURROGATE,
            RESIDUAL,
            REPEAT,
            STEPS,
            SEGMENT,
            NHWC,
            BLOCK_ROWS,
            BLOCK_COLUMNS,
        )
        by_bias += one
        by_weight += other
    row = partials + tl.program_id(0).to(tl.int64) * (2 * channels)
    tl.store(row + columns, tl.sum(by_bias, 0), mask=columns < channels)
    tl.store(row + channels + columns, tl.sum(by_weight, 0), mask=columns < channels)


@triton.jit
def chain_apply(
    x,
    residual,
    grad,
    state,
    dx,
    d_residual,
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
    peak,
    CENTRE: tl.constexpr,
    SURROGATE: tl.constexpr,
    RESIDUAL: tl.constexpr,
    REPEAT: tl.constexpr,
    STEPS: tl.constexpr,
    SEGMENT: tl.constexpr,
    NHWC: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
):
    """dL/dx, and dL/dresidual, with the sums of reduce. Without CENTRE the statistics were constants."""
    rows = tl.program_id(0).to(tl.int64) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    columns = tl.program_id(1) * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)
    chain_tile_backward(
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
        peak,
        True,
        CENTRE,
        SURROGATE,
        RESIDUAL,
        REPEAT,
        STEPS,
        SEGMENT,
        NHWC,
        BLOCK_ROWS,
        BLOCK_COLUMNS,
    )
