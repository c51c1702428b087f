"""BatchNorm's affine map, an addition and the neuron in one pass.

Maps are (T, N, C, H, W), gap-free in NCHW or NHWC order, tiled as :class:`~idsnn_cli.spiking.triton.launch.Tiles`
says. A step is ``step`` elements; that of ``x`` is ``x_step``, 0 where one map stands for all steps (REPEAT).
z = (x - mean) * (inverse * weight) + bias [+ residual], each operation rounded to fp32. Time is cut into segments as
in neuron_kernels.py.
"""

from __future__ import annotations

import triton
import triton.language as tl

from idsnn_cli.spiking.triton.neuron_kernels import leave, place, two_bits


@triton.jit
def current(x, residual, x_at, at, there, mean, factor, bias, RESIDUAL: tl.constexpr):
    """X(t) of a tile."""
    value = tl.load(x + x_at, mask=there, other=0.0).to(tl.float32)
    z = (value - mean[None, :]) * factor[None, :] + bias[None, :]
    if RESIDUAL:
        z += tl.load(residual + at, mask=there, other=0.0).to(tl.float32)
    return z


@triton.jit
def chain_forward_segment(
    x,
    residual,
    spikes,
    state,
    x_at,
    at,
    state_at,
    there,
    z,
    left,
    mean,
    factor,
    bias,
    step,
    x_step,
    decay,
    theta,
    scale,
    KEEP: tl.constexpr,
    SOFT: tl.constexpr,
    RESIDUAL: tl.constexpr,
    REPEAT: tl.constexpr,
    LENGTH: tl.constexpr,
):
    """LENGTH steps of a tile; a byte of bits is stored behind every fourth and the last. With REPEAT ``z`` is X."""
    code = tl.zeros_like(left).to(tl.int32)
    for i in tl.static_range(LENGTH):
        if not REPEAT:
            z = current(x, residual, x_at, at, there, mean, factor, bias, RESIDUAL)
        u = left + z
        fired = (u > theta).to(tl.float32)
        left = leave(u, fired, decay, theta, SOFT)
        tl.store(spikes + at, fired.to(spikes.dtype.element_ty), mask=there)
        if KEEP:
            code |= two_bits(u, fired, theta, scale) << (2 * (i % 4))
            if i % 4 == 3 or i == LENGTH - 1:
                tl.store(state + state_at, code.to(tl.uint8), mask=there)
                state_at += step
                code = tl.zeros_like(code)
        at += step
        x_at += x_step
    return x_at, at, state_at, left


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
    start,
    STEPS: tl.constexpr,
    SEGMENT: tl.constexpr,
    KEEP: tl.constexpr,
    SOFT: tl.constexpr,
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
    left = tl.zeros([BLOCK_ROWS, BLOCK_COLUMNS], tl.float32) + start
    z = left
    if REPEAT:
        z = current(x, residual, x_at, at, there, mean, factor, bias, RESIDUAL)
    if STEPS > SEGMENT:
        for _ in range(STEPS // SEGMENT):
            x_at, at, state_at, left = chain_forward_segment(
                x,
                residual,
                spikes,
                state,
                x_at,
                at,
                state_at,
                there,
                z,
                left,
                mean,
                factor,
                bias,
                step,
                x_step,
                decay,
                theta,
                scale,
                KEEP,
                SOFT,
                RESIDUAL,
                REPEAT,
                SEGMENT,
            )
    REST: tl.constexpr = STEPS % SEGMENT if STEPS > SEGMENT else STEPS
    if REST > 0:
        chain_forward_segment(
            x,
            residual,
            spikes,
            state,
            x_at,
            at,
            state_at,
            there,
            z,
            left,
            mean,
            factor,
            bias,
            step,
            x_step,
            decay,
            theta,
            scale,
            KEEP,
            SOFT,
            RESIDUAL,
            REPEAT,
            REST,
        )
