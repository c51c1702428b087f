"""The backward pass of BatchNorm, addition and neuron: twice over the maps, once to reduce, once to apply.

dL/dU is computed in both passes (chain_tiles.py), rather than written and read again.
"""

from __future__ import annotations

import triton
import triton.language as tl

from idsnn_cli.spiking.triton.chain_tiles import chain_tile_backward


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
    start,
    peak,
    each,
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
            start,
            peak,
            False,
            False,
            SURROGATE,
            FULL,
            SOFT,
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
    start,
    peak,
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
        start,
        peak,
        True,
        CENTRE,
        SURROGATE,
        FULL,
        SOFT,
        RESIDUAL,
        REPEAT,
        STEPS,
        SEGMENT,
        NHWC,
        BLOCK_ROWS,
        BLOCK_COLUMNS,
    )
