"""The neuron in Triton: what it does in one step, in fp32, and its kernels over all time steps.

Every kernel is made of the functions at the top, those of the chain too. In the kernels T values of each neuron pass
through registers once. There are ``size`` neurons; a step of ``x`` is ``x_step`` elements further (0 where the input is
repeated), one of every other tensor ``size`` further. ``*_last`` is the offset of the last step, given so that it may
need 64 bits.

Rounding: all kernels are launched with ``enable_fp_fusion=False`` (``OPTIONS`` in launch.py), which Triton hands to
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
    """The smooth surrogates' dF/dU, 0 for NaN; ``scale`` and ``peak`` are those of the surrogate's kernel form."""
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


@triton.jit
def lif_forward(
    x, spikes, state, size, x_step, decay, theta, scale, STEPS: tl.constexpr, KEEP: tl.constexpr, BLOCK: tl.constexpr
):
    """Spikes of ``x``, and with KEEP the two bits of each step."""
    here = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    there = here < size
    x_at, out_at, state_at = here, here, here
    u = tl.zeros([BLOCK], tl.float32)
    fired = tl.zeros([BLOCK], tl.float32)
    code = tl.zeros([BLOCK], tl.int32)
    for t in tl.static_range(STEPS):
        current = tl.load(x + x_at, mask=there, other=0.0).to(tl.float32)
        u = current if t == 0 else advance(u, fired, current, decay)
        fired = (u > theta).to(tl.float32)
        tl.store(spikes + out_at, fired.to(spikes.dtype.element_ty), mask=there)
        if KEEP:
            code |= two_bits(u, fired, theta, scale) << (2 * (t % 4))
            if t % 4 == 3 or t == STEPS - 1:
                tl.store(state + state_at, code.to(tl.uint8), mask=there)
                state_at += size
                code = tl.zeros([BLOCK], tl.int32)
        x_at += x_step
        out_at += size


@triton.jit
def lif_backward_bits(grad, state, dx, size, last, state_last, decay, peak, STEPS: tl.constexpr, BLOCK: tl.constexpr):
    """dL/dX(t) = dL/dU(t) of the rectangle, from the two bits."""
    here = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    there = here < size
    at, state_at = here + last, here + state_last
    du = tl.zeros([BLOCK], tl.float32)
    code = tl.zeros([BLOCK], tl.int32)
    for t in tl.static_range(STEPS - 1, -1, -1):
        if t == STEPS - 1 or t % 4 == 3:
            code = tl.load(state + state_at, mask=there, other=0).to(tl.int32)
            state_at -= size
        bits = code >> (2 * (t % 4))
        g = tl.load(grad + at, mask=there, other=0.0).to(tl.float32)
        du = retreat(du, (bits & 1).to(tl.float32), decay) + (((bits >> 1) & 1).to(tl.float32) * peak) * g
        tl.store(dx + at, du.to(dx.dtype.element_ty), mask=there)
        at -= size


@triton.jit
def lif_backward_smooth(
    x,
    grad,
    dx,
    size,
    last,
    x_step,
    decay,
    theta,
    scale,
    peak,
    SURROGATE: tl.constexpr,
    STEPS: tl.constexpr,
    SEGMENT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The same of a smooth surrogate: membranes are computed again from ``x``, a segment at a time from the last."""
    here = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    there = here < size
    at = here + last
    du = tl.zeros([BLOCK], tl.float32)
    for first in tl.static_range((STEPS - 1) // SEGMENT * SEGMENT, -1, -SEGMENT):
        x_at = here
        u = tl.zeros([BLOCK], tl.float32)
        fired = tl.zeros([BLOCK], tl.float32)
        for _ in range(first):
            u = advance(u, fired, tl.load(x + x_at, mask=there, other=0.0).to(tl.float32), decay)
            fired = (u > theta).to(tl.float32)
            x_at += x_step
        membranes = ()
        for i in tl.static_range(SEGMENT):
            if first + i < STEPS:
                u = advance(u, fired, tl.load(x + x_at, mask=there, other=0.0).to(tl.float32), decay)
                fired = (u > theta).to(tl.float32)
                membranes = membranes + (u,)  # noqa: RUF005  # Triton's language has no unpacking
                x_at += x_step
        for i in tl.static_range(SEGMENT - 1, -1, -1):
            if first + i < STEPS:
                u = membranes[i]
                g = tl.load(grad + at, mask=there, other=0.0).to(tl.float32)
                du = retreat(du, (u > theta).to(tl.float32), decay) + slope(u, theta, scale, peak, SURROGATE) * g
                tl.store(dx + at, du.to(dx.dtype.element_ty), mask=there)
                at -= size
