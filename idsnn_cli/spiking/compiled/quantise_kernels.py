"""BatchNorm, addition and QCFS as loops that numba compiles, as those of :mod:`kernels` are."""

from __future__ import annotations

import numpy as np

from idsnn_cli.spiking.compiled.numbers import (
    add,
    by_channel,
    compiled,
    normalise,
    runs_each,
    stored,
    sum_up,
    sum_up_onto,
    wide,
)


@compiled
def _levels(current, upper, to_steps, to_values, out):
    for k in range(out.shape[0]):
        step = np.floor(current[k] * to_steps[k] + np.float32(0.5))
        out[k] = stored(out[k], min(max(step, np.float32(0)), upper) * to_values[k])


@compiled
def quantise(x, residual, scale, shift, to_steps, to_values, upper, out, first, last):
    """lambda clip(floor(y L / lambda + 1/2), 0, L) / L of y = scale x + shift + residual, all flat (size,).

    ``to_steps`` is L / lambda, ``to_values`` lambda / L, tiled, ``upper`` L; ``residual`` (0,) for none.
    """
    run = scale.shape[0]
    current = np.empty(run, np.float32)
    for number in range(first, last):
        low = number * run
        high = min(low + run, out.shape[0])
        now = current[: high - low]
        normalise(x[low:high], scale, shift, now)
        if residual.shape[0] > 0:
            add(residual[low:high], now)
        _levels(now, upper, to_steps, to_values, out[low:high])


@compiled
def _quantise_back(grad, current, upper, to_steps, inside, by_limit):
    zero = np.float32(0)
    for k in range(grad.shape[0]):
        given = wide(grad[k])
        place = current[k] * to_steps[k]
        step = np.floor(place + np.float32(0.5))
        below, above = step < zero, step > upper
        inside[k] = zero if below or above else given
        by_limit[k] += given * (upper if above else (zero if below else step - place))


@compiled
def quantise_back(grad, x, residual, scale, shift, to_steps, upper, factor, around, out, sums, first, last):
    """Gradients of y in the blocks ``first`` to ``last``, as :func:`quantise` names things; ``out`` times ``factor``.

    ``around`` (size,), or (0,) for none, is added to ``out``, the gradient of ``x`` by other ways.

    ``sums`` (blocks, 3, C) float64 gets, by channel, their sums, those of their products with ``x``, and L times
    lambda's gradient, with the floor taken for the identity.
    """
    run, size = scale.shape[0], out.shape[0]
    runs, each = runs_each(size, run, sums.shape[0])
    current, inside = np.empty(run, np.float32), np.empty(run, np.float32)
    by_shift, by_scale, by_limit = np.empty(run, np.float32), np.empty(run, np.float32), np.empty(run, np.float32)
    for block in range(first, last):
        by_shift[:] = 0
        by_scale[:] = 0
        by_limit[:] = 0
        for number in range(block * each, min((block + 1) * each, runs)):
            low = number * run
            high = min(low + run, size)
            now, passed = current[: high - low], inside[: high - low]
            normalise(x[low:high], scale, shift, now)
            if residual.shape[0] > 0:
                add(residual[low:high], now)
            _quantise_back(grad[low:high], now, upper, to_steps, passed, by_limit)
            if around.shape[0] > 0:
                sum_up_onto(passed, x[low:high], factor, around[low:high], out[low:high], by_shift, by_scale)
            else:
                sum_up(passed, x[low:high], factor, out[low:high], by_shift, by_scale)
        by_channel(by_shift, sums[block, 0])
        by_channel(by_scale, sums[block, 1])
        by_channel(by_limit, sums[block, 2])
