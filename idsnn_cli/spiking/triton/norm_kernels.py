"""BatchNorm's statistics: one pass over the maps, and the combination of partial ones (Chan et al.)."""

from __future__ import annotations

import triton
import triton.language as tl

from idsnn_cli.spiking.triton.neuron_kernels import place


@triton.jit
def partial_statistics(
    x,
    partials,
    pixels,
    channels,
    inner,
    each,
    NHWC: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
):
    """Mean and centred sum of squares of ``each`` tiles of pixels: row p of ``partials`` is means, sums, count.

    Every lane runs Welford's update over its own pixels, in fp32; lanes are combined at the end, by Chan's formula.
    """
    columns = tl.program_id(1) * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)
    lanes = tl.arange(0, BLOCK_ROWS)
    in_channels = columns < channels
    mean = tl.zeros([BLOCK_ROWS, BLOCK_COLUMNS], tl.float32)
    scatter = tl.zeros([BLOCK_ROWS, BLOCK_COLUMNS], tl.float32)
    count = tl.zeros([BLOCK_ROWS], tl.float32)
    for i in range(each):
        rows = (tl.program_id(0) * each + i).to(tl.int64) * BLOCK_ROWS + lanes
        seen = rows < pixels
        there = seen[:, None] & in_channels[None, :]
        value = tl.load(x + place(rows, columns, channels, inner, NHWC), mask=there, other=0.0).to(tl.float32)
        count += seen.to(tl.float32)
        delta = tl.where(there, value - mean, 0.0)
        # Only the last tile leaves lanes out, so the lanes that see a value have all seen i before.
        mean += delta * (1.0 / (i + 1.0))
        scatter += delta * tl.where(there, value - mean, 0.0)
    total = tl.sum(count, 0)
    weight = count / tl.maximum(total, 1.0)
    middle = tl.sum(mean * weight[:, None], 0)
    offset = mean - middle[None, :]
    spread = tl.sum(scatter + count[:, None] * offset * offset, 0)
    row = partials + tl.program_id(0).to(tl.int64) * (2 * channels + 1)
    tl.store(row + columns, middle, mask=in_channels)
    tl.store(row + channels + columns, spread, mask=in_channels)
    if tl.program_id(1) == 0:
        tl.store(row + 2 * channels, total)


@triton.jit
def combine_statistics(
    partials,
    parts,
    combined,
    inverse,
    running_mean,
    running_var,
    counted,
    channels,
    eps,
    momentum,
    repeat,
    FINAL: tl.constexpr,
    AVERAGE: tl.constexpr,
    BLOCK_PARTS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
):
    """One row of means, sums and count out of ``parts`` rows, whether of programs or of processes.

    With FINAL also 1 / sqrt(variance + eps), and the running statistics: of weight ``momentum``, or with AVERAGE 1 /
    ``counted``; the running variance is the unbiased one of ``repeat`` equal copies. The second look at the rows finds
    them in a cache.
    """
    columns = tl.program_id(0) * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)
    in_channels = columns < channels
    width = 2 * channels + 1
    total = 0.0
    weighted = tl.zeros([BLOCK_PARTS, BLOCK_COLUMNS], tl.float32)
    for start in range(0, parts, BLOCK_PARTS):
        rows = start + tl.arange(0, BLOCK_PARTS)
        at = rows[:, None] * width + columns[None, :]
        there = (rows < parts)[:, None] & in_channels[None, :]
        count = tl.load(partials + rows * width + 2 * channels, mask=rows < parts, other=0.0)
        weighted += tl.load(partials + at, mask=there, other=0.0) * count[:, None]
        total += tl.sum(count, 0)
    mean = tl.sum(weighted, 0) / tl.maximum(total, 1.0)
    squares = tl.zeros([BLOCK_PARTS, BLOCK_COLUMNS], tl.float32)
    for start in range(0, parts, BLOCK_PARTS):
        rows = start + tl.arange(0, BLOCK_PARTS)
        at = rows[:, None] * width + columns[None, :]
        there = (rows < parts)[:, None] & in_channels[None, :]
        count = tl.load(partials + rows * width + 2 * channels, mask=rows < parts, other=0.0)
        offset = tl.where(there, tl.load(partials + at, mask=there, other=0.0) - mean[None, :], 0.0)
        squares += tl.load(partials + at + channels, mask=there, other=0.0) + count[:, None] * offset * offset
    scatter = tl.sum(squares, 0)
    tl.store(combined + columns, mean, mask=in_channels)
    tl.store(combined + channels + columns, scatter, mask=in_channels)
    if tl.program_id(0) == 0:
        tl.store(combined + 2 * channels, total)
    if FINAL:
        variance = scatter / tl.maximum(total, 1.0)
        tl.store(inverse + columns, tl.div_rn(1.0, tl.sqrt_rn(variance + eps)), mask=in_channels)
        weight = momentum
        if AVERAGE:
            weight = 1.0 / tl.load(counted).to(tl.float32)
        copies = total * repeat
        unbiased = scatter / tl.maximum(total, 1.0) * (copies / tl.maximum(copies - 1.0, 1.0))
        old_mean = tl.load(running_mean + columns, mask=in_channels, other=0.0).to(tl.float32)
        old_var = tl.load(running_var + columns, mask=in_channels, other=0.0).to(tl.float32)
        new_mean = old_mean + weight * (mean - old_mean)
        new_var = old_var + weight * (unbiased - old_var)
        tl.store(running_mean + columns, new_mean.to(running_mean.dtype.element_ty), mask=in_channels)
        tl.store(running_var + columns, new_var.to(running_var.dtype.element_ty), mask=in_channels)
