"""The loops that numba compiles: over runs of neurons that stay in the first cache for all T steps.

Maps are stored as :mod:`numbers` says. A run is a multiple of the channels, so that what belongs to a channel (scale,
shift, sums) is tiled once to the run's length and every inner loop is a plain vector loop. Nothing here starts threads:
a caller gives each its own rows.
"""

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

# As literals they would be of 64 bits, and the loops over bytes half as fast.
_NONE = np.uint8(0)


@compiled
def _add_moments(x, shift, total, square):
    for k in range(x.shape[0]):
        value = wide(x[k]) - shift[k]
        total[k] += value
        square[k] += value * value


@compiled
def moments(x, shift, first, last, sums):
    """Add up x - shift and its square over the blocks ``first`` to ``last`` of the flat maps ``x`` (size,).

    ``shift`` (run,) is about the mean, tiled; ``sums`` (blocks, 2, C) float64 gets each block's own.
    """
    run, channels = shift.shape[0], sums.shape[2]
    rows = x.shape[0] // channels
    each = (rows + sums.shape[0] - 1) // sums.shape[0] * channels
    total, square = np.empty(run, np.float32), np.empty(run, np.float32)
    for block in range(first, last):
        total[:] = 0
        square[:] = 0
        end = min((block + 1) * each, x.shape[0])
        for start in range(block * each, end, run):
            _add_moments(x[start : min(start + run, end)], shift, total, square)
        by_channel(total, sums[block, 0])
        by_channel(square, sums[block, 1])


@compiled
def _integrate(current, membrane, threshold, decay, kept, taken):
    for k in range(current.shape[0]):
        before = membrane[k]
        after = before * kept - taken if before > threshold else before
        membrane[k] = decay * after + current[k]


@compiled
def _fire(membrane, threshold, spikes):
    for k in range(spikes.shape[0]):
        spikes[k] = stored(spikes[k], np.float32(1) if membrane[k] > threshold else np.float32(0))


@compiled
def _mark_inside(membrane, threshold, half_width, bit, inside):
    for k in range(inside.shape[0]):
        inside[k] |= bit if abs(membrane[k] - threshold) < half_width else _NONE


@compiled
def _mark_fired(membrane, threshold, bit, fired):
    for k in range(fired.shape[0]):
        fired[k] |= bit if membrane[k] > threshold else _NONE


@compiled
def forward(x, residual, scale, shift, begin, spikes, inside, fired, first, last, neuron):
    """Fire the runs ``first`` to ``last``: spikes (T, M) of scale x + shift + residual.

    ``x`` is (T, M), or (1, M) where every step gets the same; ``residual`` (T, M), or (0, M) for none. ``begin``,
    tiled, or (0,) for none, is added to the currents of the first step. ``inside`` and ``fired`` (planes, M) uint8 get
    a bit a step, eight steps a plane; (0, M) where they are not kept. ``neuron`` is
    (threshold, decay, the share and the amount of the membrane that a spike leaves and takes, the first potential,
    half the surrogate's width).
    """
    threshold, decay, kept, taken, start, half_width = neuron
    steps, size, run = spikes.shape[0], spikes.shape[1], scale.shape[0]
    membrane, current = np.empty(run, np.float32), np.empty(run, np.float32)
    for number in range(first, last):
        low = number * run
        high = min(low + run, size)
        u, now = membrane[: high - low], current[: high - low]
        inside[:, low:high] = 0
        fired[:, low:high] = 0
        for t in range(steps):
            if t == 0 or x.shape[0] > 1:
                normalise(x[t, low:high], scale, shift, now)
            if residual.shape[0] > 0:
                add(residual[t, low:high], now)
            if t == 0:
                u[:] = now + start
                if begin.shape[0] > 0:
                    add(begin[: high - low], u)
            else:
                _integrate(now, u, threshold, decay, kept, taken)
            _fire(u, threshold, spikes[t, low:high])
            bit = np.uint8(1 << (t & 7))
            if inside.shape[0] > 0:
                _mark_inside(u, threshold, half_width, bit, inside[t >> 3, low:high])
            if fired.shape[0] > 0:
                _mark_fired(u, threshold, bit, fired[t >> 3, low:high])


@compiled
def _back(grad, inside, bit, membrane, decay, taken, height):
    for k in range(grad.shape[0]):
        passed = membrane[k] * decay
        given = (wide(grad[k]) - passed * taken) * height
        membrane[k] = passed + (given if inside[k] & bit else np.float32(0))


@compiled
def _forget(fired, bit, membrane):
    for k in range(fired.shape[0]):
        membrane[k] = np.float32(0) if fired[k] & bit else membrane[k]


@compiled
def _add_up(membrane, total):
    for k in range(membrane.shape[0]):
        total[k] += membrane[k]


@compiled
def backward(grad, x, inside, fired, factor, around, out, sums, first, last, neuron):
    """Gradients of the currents in the blocks ``first`` to ``last``, as :func:`forward` names things.

    ``grad`` (T, M) is that of the spikes, ``out`` gets that of the currents times ``factor``, tiled, (T, M), or (1, M)
    for an ``x`` that every step got, whose gradients are added. ``around`` (T, M) is added to it, the gradient of ``x``
    by other ways; (0, M) for none. ``sums`` (blocks, 2, C) float64 gets, by channel, the currents' sums and those of
    their products with ``x``, and, where it has a third row, the sums at the first step alone. ``neuron`` is (decay,
    what the reset passes of theta, the surrogate's height).
    """
    decay, taken, height = neuron
    steps, size, run = grad.shape[0], grad.shape[1], factor.shape[0]
    same = x.shape[0] < steps
    runs, each = runs_each(size, run, sums.shape[0])
    membrane, total = np.empty(run, np.float32), np.empty(run, np.float32)
    by_shift, by_scale = np.empty(run, np.float32), np.empty(run, np.float32)
    by_begin = np.empty(run, np.float32)
    for block in range(first, last):
        by_shift[:] = 0
        by_scale[:] = 0
        by_begin[:] = 0
        for number in range(block * each, min((block + 1) * each, runs)):
            low = number * run
            high = min(low + run, size)
            u, added = membrane[: high - low], total[: high - low]
            u[:] = 0
            added[:] = 0
            for back in range(steps):
                t = steps - 1 - back
                bit = np.uint8(1 << (t & 7))
                if fired.shape[0] > 0:
                    _forget(fired[t >> 3, low:high], bit, u)
                _back(grad[t, low:high], inside[t >> 3, low:high], bit, u, decay, taken, height)
                if same:
                    _add_up(u, added)
                elif around.shape[0] > 0:
                    there = around[t, low:high]
                    sum_up_onto(u, x[t, low:high], factor, there, out[t, low:high], by_shift, by_scale)
                else:
                    sum_up(u, x[t, low:high], factor, out[t, low:high], by_shift, by_scale)
            if sums.shape[1] > 2:
                _add_up(u, by_begin)
            if same:
                sum_up(added, x[0, low:high], factor, out[0, low:high], by_shift, by_scale)
        if sums.shape[1] > 2:
            by_channel(by_begin, sums[block, 2])
        by_channel(by_shift, sums[block, 0])
        by_channel(by_scale, sums[block, 1])


@compiled
def _combined(grad, x, of_grad, of_x, constant, out):
    for k in range(out.shape[0]):
        out[k] = stored(out[k], wide(grad[k]) * of_grad[k] + wide(x[k]) * of_x[k] + constant[k])


@compiled
def combine(grad, x, of_grad, of_x, constant, out, first, last):
    """``of_grad`` grad + ``of_x`` x + ``constant``, tiled by channel, in the runs ``first`` to ``last``."""
    run = of_grad.shape[0]
    for number in range(first, last):
        low = number * run
        high = min(low + run, out.shape[0])
        _combined(grad[low:high], x[low:high], of_grad, of_x, constant, out[low:high])


@compiled
def _combined_onto(x, of_out, of_x, constant, out):
    for k in range(out.shape[0]):
        out[k] = stored(out[k], wide(out[k]) * of_out[k] + wide(x[k]) * of_x[k] + constant[k])


@compiled
def combine_onto(x, of_out, of_x, constant, out, first, last):
    """:func:`combine` of ``out`` itself: two names for one memory would keep its loop from being vectorised."""
    run = of_out.shape[0]
    for number in range(first, last):
        low = number * run
        high = min(low + run, out.shape[0])
        _combined_onto(x[low:high], of_out, of_x, constant, out[low:high])


@compiled
def _multiply_up(grad, x, by_shift, by_scale):
    for k in range(x.shape[0]):
        value = wide(grad[k])
        by_shift[k] += value
        by_scale[k] += value * wide(x[k])


@compiled
def products(grad, x, sums, run, first, last):
    """Add up ``grad`` and its product with ``x``, flat (size,), by channel, over the blocks ``first`` to ``last``.

    ``sums`` (blocks, 2, C) float64 gets each block's own.
    """
    runs, each = runs_each(x.shape[0], run, sums.shape[0])
    by_shift, by_scale = np.empty(run, np.float32), np.empty(run, np.float32)
    for block in range(first, last):
        by_shift[:] = 0
        by_scale[:] = 0
        for number in range(block * each, min((block + 1) * each, runs)):
            low = number * run
            high = min(low + run, x.shape[0])
            _multiply_up(grad[low:high], x[low:high], by_shift, by_scale)
        by_channel(by_shift, sums[block, 0])
        by_channel(by_scale, sums[block, 1])
