"""The neuron in Triton: what it does in one step, in fp32, and its kernels over all time steps.

Every kernel is made of the functions at the top, those of the chain too. In the kernels T values of each neuron pass
through registers once. There are ``size`` neurons; a step of ``x`` is ``x_step`` elements further (0 where the input is
repeated), one of every other tensor ``size`` further. ``*_last`` is the offset of the last step, given so that it may
need 64 bits.

Time: up to SEGMENT steps are written out one after another; of more, whole segments are a loop and the rest is written
out behind it, so that the machine code does not grow with T. SEGMENT is a multiple of the four steps of a byte.

Rounding: all kernels are launched with ``enable_fp_fusion=False`` (``OPTIONS`` in launch.py), which Triton hands to
LLVM (no contraction) and to ptxas (``--fmad=false``). A multiply-add then stays a rounded product and a rounded sum, as
in the reference; a fused one could carry a spike across the threshold. This is Triton's own switch; it holds for a
whole kernel, and libdevice's ``__fmul_rn`` would not run in the interpreter.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def leave(u, fired, decay, theta, SOFT: tl.constexpr):
    """What U(t) with F(t), 0.0 or 1.0, leaves to U(t+1), to which X(t+1) is added: two roundings (theta F has none)."""
    if SOFT:
        return decay * (u - theta * fired)
    return (decay * u) * (1.0 - fired)


@triton.jit
def retreat(du, fired, decay, SOFT: tl.constexpr):
    """What dL/dU(t+1) adds to dL/dU(t) beside the reset's own gradient: a hard reset's factor, and decay."""
    if SOFT:
        return du * decay
    return (du * (1.0 - fired)) * decay


@triton.jit
def two_bits(u, fired, theta, scale):
    """Bit 0: spiked. Bit 1: inside the rectangle's window."""
    inside = tl.abs(u - theta) < scale
    return fired.to(tl.int32) | (inside.to(tl.int32) << 1)


@triton.jit
def retreat_through_reset(g, du, u, decay, theta, FULL: tl.constexpr, SOFT: tl.constexpr):
    """dL/dF(t), of ``g`` from the next layer: with FULL less what the reset takes from U(t+1), decay times U(t), or
    decay times theta with SOFT."""
    if FULL and SOFT:
        g = g - (du * decay) * theta
    elif FULL:
        g = g - du * (decay * u)
    return g


@triton.jit
def slope(u, theta, scale, peak, SURROGATE: tl.constexpr):
    """The surrogate's dF/dU, 0 for NaN; ``scale`` and ``peak`` are those of the surrogate's kernel form."""
    v = tl.abs(u - theta)
    if SURROGATE == "rectangle":
        found = tl.where(v < scale, peak, 0.0)
    elif SURROGATE == "triangle":
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
def lif_forward_segment(
    x,
    spikes,
    state,
    x_at,
    out_at,
    state_at,
    there,
    left,
    size,
    x_step,
    decay,
    theta,
    scale,
    KEEP: tl.constexpr,
    SOFT: tl.constexpr,
    LENGTH: tl.constexpr,
):
    """LENGTH steps; a byte of bits is stored behind every fourth and the last."""
    code = tl.zeros_like(left).to(tl.int32)
    for i in tl.static_range(LENGTH):
        u = left + tl.load(x + x_at, mask=there, other=0.0).to(tl.float32)
        fired = (u > theta).to(tl.float32)
        left = leave(u, fired, decay, theta, SOFT)
        tl.store(spikes + out_at, fired.to(spikes.dtype.element_ty), mask=there)
        if KEEP:
            code |= two_bits(u, fired, theta, scale) << (2 * (i % 4))
            if i % 4 == 3 or i == LENGTH - 1:
                tl.store(state + state_at, code.to(tl.uint8), mask=there)
                state_at += size
                code = tl.zeros_like(code)
        x_at += x_step
        out_at += size
    return x_at, out_at, state_at, left


@triton.jit
def lif_forward(
    x,
    spikes,
    state,
    size,
    x_step,
    decay,
    theta,
    scale,
    start,
    STEPS: tl.constexpr,
    SEGMENT: tl.constexpr,
    KEEP: tl.constexpr,
    SOFT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Spikes of ``x``, and with KEEP the two bits of each step."""
    here = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    there = here < size
    x_at, out_at, state_at = here, here, here
    left = tl.zeros([BLOCK], tl.float32) + start
    if STEPS > SEGMENT:
        for _ in range(STEPS // SEGMENT):
            x_at, out_at, state_at, left = lif_forward_segment(
                x,
                spikes,
                state,
                x_at,
                out_at,
                state_at,
                there,
                left,
                size,
                x_step,
                decay,
                theta,
                scale,
                KEEP,
                SOFT,
                SEGMENT,
            )
    REST: tl.constexpr = STEPS % SEGMENT if STEPS > SEGMENT else STEPS
    if REST > 0:
        lif_forward_segment(
            x, spikes, state, x_at, out_at, state_at, there, left, size, x_step, decay, theta, scale, KEEP, SOFT, REST
        )


@triton.jit
def lif_backward_bits_segment(
    grad,
    state,
    dx,
    at,
    state_at,
    there,
    du,
    size,
    decay,
    theta,
    peak,
    FULL: tl.constexpr,
    SOFT: tl.constexpr,
    LENGTH: tl.constexpr,
):
    """LENGTH steps from the last of them to the first."""
    code = tl.zeros_like(du).to(tl.int32)
    for i in tl.static_range(LENGTH - 1, -1, -1):
        if i == LENGTH - 1 or i % 4 == 3:
            code = tl.load(state + state_at, mask=there, other=0).to(tl.int32)
            state_at -= size
        bits = code >> (2 * (i % 4))
        g = tl.load(grad + at, mask=there, other=0.0).to(tl.float32)
        g = retreat_through_reset(g, du, du, decay, theta, FULL, SOFT)
        du = retreat(du, (bits & 1).to(tl.float32), decay, SOFT) + (((bits >> 1) & 1).to(tl.float32) * peak) * g
        tl.store(dx + at, du.to(dx.dtype.element_ty), mask=there)
        at -= size
    return at, state_at, du


@triton.jit
def lif_backward_bits(
    grad,
    state,
    dx,
    size,
    last,
    state_last,
    decay,
    theta,
    peak,
    FULL: tl.constexpr,
    SOFT: tl.constexpr,
    STEPS: tl.constexpr,
    SEGMENT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """dL/dX(t) = dL/dU(t) of the rectangle, from the two bits; FULL only with SOFT, for a hard reset takes U(t)."""
    here = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    there = here < size
    at, state_at = here + last, here + state_last
    du = tl.zeros([BLOCK], tl.float32)
    REST: tl.constexpr = STEPS % SEGMENT if STEPS > SEGMENT else STEPS
    if REST > 0:
        at, state_at, du = lif_backward_bits_segment(
            grad, state, dx, at, state_at, there, du, size, decay, theta, peak, FULL, SOFT, REST
        )
    if STEPS > SEGMENT:
        for _ in range(STEPS // SEGMENT):
            at, state_at, du = lif_backward_bits_segment(
                grad, state, dx, at, state_at, there, du, size, decay, theta, peak, FULL, SOFT, SEGMENT
            )


@triton.jit
def lif_backward_membrane_segment(
    x,
    grad,
    dx,
    first,
    here,
    at,
    there,
    du,
    size,
    x_step,
    decay,
    theta,
    scale,
    start,
    peak,
    SURROGATE: tl.constexpr,
    FULL: tl.constexpr,
    SOFT: tl.constexpr,
    LENGTH: tl.constexpr,
):
    """LENGTH steps from the last of them to the ``first`` one; membranes are computed from the beginning of time."""
    x_at = here
    left = tl.zeros_like(du) + start
    for _ in range(first):
        u = left + tl.load(x + x_at, mask=there, other=0.0).to(tl.float32)
        left = leave(u, (u > theta).to(tl.float32), decay, theta, SOFT)
        x_at += x_step
    membranes = ()
    for _ in tl.static_range(LENGTH):
        u = left + tl.load(x + x_at, mask=there, other=0.0).to(tl.float32)
        left = leave(u, (u > theta).to(tl.float32), decay, theta, SOFT)
        membranes = membranes + (u,)  # noqa: RUF005  # Triton's language has no unpacking
        x_at += x_step
    for i in tl.static_range(LENGTH - 1, -1, -1):
        v = membranes[i]
        g = tl.load(grad + at, mask=there, other=0.0).to(tl.float32)
        g = retreat_through_reset(g, du, v, decay, theta, FULL, SOFT)
        du = retreat(du, (v > theta).to(tl.float32), decay, SOFT) + slope(v, theta, scale, peak, SURROGATE) * g
        tl.store(dx + at, du.to(dx.dtype.element_ty), mask=there)
        at -= size
    return at, du


@triton.jit
def lif_backward_membrane(
    x,
    grad,
    dx,
    size,
    last,
    x_step,
    decay,
    theta,
    scale,
    start,
    peak,
    SURROGATE: tl.constexpr,
    FULL: tl.constexpr,
    SOFT: tl.constexpr,
    STEPS: tl.constexpr,
    SEGMENT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The same where bits are not enough, of a smooth surrogate and of the full gradient (FULL) of a hard reset:
    membranes are computed again from ``x``, a segment at a time from the last."""
    here = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    there = here < size
    at = here + last
    du = tl.zeros([BLOCK], tl.float32)
    SEGMENTS: tl.constexpr = STEPS // SEGMENT if STEPS > SEGMENT else 0
    REST: tl.constexpr = STEPS - SEGMENTS * SEGMENT
    if REST > 0:
        at, du = lif_backward_membrane_segment(
            x,
            grad,
            dx,
            SEGMENTS * SEGMENT,
            here,
            at,
            there,
            du,
            size,
            x_step,
            decay,
            theta,
            scale,
            start,
            peak,
            SURROGATE,
            FULL,
            SOFT,
            REST,
        )
    if SEGMENTS > 0:
        for k in range(SEGMENTS):
            at, du = lif_backward_membrane_segment(
                x,
                grad,
                dx,
                (SEGMENTS - 1 - k) * SEGMENT,
                here,
                at,
                there,
                du,
                size,
                x_step,
                decay,
                theta,
                scale,
                start,
                peak,
                SURROGATE,
                FULL,
                SOFT,
                SEGMENT,
            )
