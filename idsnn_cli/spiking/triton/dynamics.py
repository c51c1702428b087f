"""What a neuron does in one step, forward and backward, in fp32: the functions that every kernel is made of.

Rounding: all kernels are launched with ``enable_fp_fusion=False`` (``OPTIONS`` in constants.py), which Triton hands to
LLVM (no contraction) and to ptxas (``--fmad=false``). A multiply-add then stays a rounded product and a rounded sum, as
in the reference; a fused one could carry a spike across the threshold. This is Triton's own switch; it holds for a
whole kernel, and libdevice's ``__fmul_rn`` would not run in the interpreter.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def advance(u, fired, current, decay):
    """U(t) of U(t-1), F(t-1) as 0.0 or 1.0, and X(t) (eq. 1, 2): three roundings."""
    return (decay * u) * (1.0 - fired) + current


@triton.jit
def retreat(du, fired, decay):
    """What dL/dU(t+1) adds to dL/dU(t); the reset factor is a constant."""
    return (du * (1.0 - fired)) * decay


@triton.jit
def two_bits(u, fired, theta, scale):
    """Bit 0: spiked. Bit 1: inside the rectangle's window."""
    inside = tl.abs(u - theta) < scale
    return fired.to(tl.int32) | (inside.to(tl.int32) << 1)


@triton.jit
def slope(u, theta, scale, peak, SURROGATE: tl.constexpr):
    """The smooth surrogates' dF/dU, 0 for NaN; ``scale`` and ``peak`` are those of ``surrogate_constants``."""
    v = tl.abs(u - theta)
    if SURROGATE == "triangle":
        found = tl.maximum(scale - v, 0.0) * peak
    elif SURROGATE == "arctan":
        z = v * scale
        found = peak / (z * z + 1.0)
    else:
        # sigmoid: s (1 - s); dspike: sech^2 / 4. The same function, of an argument that cannot overflow.
        e = tl.exp(-(v * scale))
        found = peak * e / ((1.0 + e) * (1.0 + e))
        if SURROGATE == "dspike":
            found = tl.where(v <= 0.5, found, 0.0)
    return tl.where(u == u, found, 0.0)


@triton.jit
def place(rows, columns, channels, inner, NHWC: tl.constexpr):
    """Where in one step's block pixel ``rows`` (over N * H * W) of channel ``columns`` lies; ``inner`` is H * W."""
    if NHWC:
        return rows[:, None] * channels + columns[None, :]
    return ((rows // inner) * inner * channels + rows % inner)[:, None] + columns[None, :] * inner
