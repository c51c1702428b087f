"""What the loops that numba compiles share: how numbers are stored, sums by channel, and the least loops.

Maps are NHWC, flattened: (T, M) of float32, or of bf16 as the uint16 that numba can hold. All arithmetic is float32.
A loop writes to no array that it also reads by another name: what may overlap is not vectorised. Numba's cache does not
see that a function of another file has changed: delete ``__pycache__/*.nb*`` beside this file after a change here.
"""

from __future__ import annotations

from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

_WORD, _HALF = ir.IntType(32), ir.IntType(16)


def compiled(function: Any) -> Any:
    """``function`` compiled without Python, and kept on disk where numba finds a place that can be written."""
    try:
        return numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # no folder for the cache
        return numba.njit(nogil=True)(function)


@intrinsic
def wide(context: Any, value: Any) -> Any:
    """A stored number as float32: bf16 is its upper half."""
    if value == types.float32:
        return types.float32(value), lambda _c, _b, _s, args: args[0]

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        word = builder.shl(builder.zext(args[0], _WORD), ir.Constant(_WORD, 16))
        return builder.bitcast(word, ir.FloatType())

    return types.float32(types.uint16), generate


@intrinsic
def stored(context: Any, like: Any, value: Any) -> Any:
    """float32 ``value`` as what ``like`` is stored as: bf16 rounds to nearest, ties to even."""
    if like == types.float32:
        return types.float32(like, value), lambda _c, _b, _s, args: args[1]

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        word = builder.bitcast(args[1], _WORD)
        odd = builder.and_(builder.lshr(word, ir.Constant(_WORD, 16)), ir.Constant(_WORD, 1))
        rounded = builder.add(builder.add(word, ir.Constant(_WORD, 0x7FFF)), odd)
        return builder.trunc(builder.lshr(rounded, ir.Constant(_WORD, 16)), _HALF)

    return types.uint16(like, value), generate


@compiled
def by_channel(tile, sums):
    """Add the sums of a run to those of its channels (C,)."""
    channels = sums.shape[0]
    for start in range(0, tile.shape[0], channels):
        for channel in range(channels):  # no division in the loop: it would take longer than a small map's passes
            sums[channel] += tile[start + channel]


@compiled
def runs_each(size, run, blocks):
    """How many runs ``size`` values have, and how many of them each of so many blocks."""
    runs = (size + run - 1) // run
    return runs, (runs + blocks - 1) // blocks


@compiled
def normalise(x, scale, shift, current):
    for k in range(x.shape[0]):
        current[k] = wide(x[k]) * scale[k] + shift[k]


@compiled
def add(residual, current):
    for k in range(residual.shape[0]):
        current[k] += wide(residual[k])


@compiled
def sum_up(membrane, x, factor, out, by_shift, by_scale):
    for k in range(x.shape[0]):
        value = membrane[k]
        by_shift[k] += value
        by_scale[k] += value * wide(x[k])
        out[k] = stored(out[k], value * factor[k])


@compiled
def sum_up_onto(membrane, x, factor, around, out, by_shift, by_scale):
    """:func:`sum_up`, with ``around`` added to what ``out`` gets."""
    for k in range(x.shape[0]):
        value = membrane[k]
        by_shift[k] += value
        by_scale[k] += value * wide(x[k])
        out[k] = stored(out[k], value * factor[k] + wide(around[k]))
