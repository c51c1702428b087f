"""The reference neuron against eq. 1-4 written for one neuron in plain Python, forward and backward."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from idsnn_cli.architecture import Neuron, ResetGradient, Start
from idsnn_cli.spiking import lif_reference
from idsnn_cli.spiking.surrogates import surrogate


def slope(v: float, neuron: Neuron) -> float:
    """dF/dU at v = U - theta (eq. 4 and its rivals)."""
    scale = neuron.surrogate_scale
    if neuron.surrogate == "rectangle":
        return 1 / (2 * scale) if abs(v) < scale else 0.0
    if neuron.surrogate == "triangle":
        return max(0.0, scale - abs(v)) / scale**2
    if neuron.surrogate == "sigmoid":
        s = 1 / (1 + math.exp(-scale * v))
        return scale * s * (1 - s)
    if neuron.surrogate == "arctan":
        return (scale / 2) / (1 + (math.pi * scale * v / 2) ** 2)
    return scale / math.cosh(scale * v) ** 2 / (2 * math.tanh(scale / 2)) if abs(v) <= 0.5 else 0.0


def one_neuron(current: list[float], spike_grads: list[float], neuron: Neuron) -> tuple[list[float], list[float]]:
    """Spikes F(t) and dL/dX(t) of one neuron; what a reset takes passes a gradient if that is full."""
    membranes: list[float] = []
    spikes: list[float] = []
    before, fired = (neuron.v_threshold / 2 if neuron.start == "half" else 0.0), 0.0
    for x in current:
        left = before - neuron.v_threshold * fired if neuron.reset == "soft" else before * (1 - fired)
        membranes.append(neuron.decay * left + x)
        before, fired = membranes[-1], 1.0 if membranes[-1] > neuron.v_threshold else 0.0
        spikes.append(1.0 if membranes[-1] > neuron.v_threshold else 0.0)
    grads = [0.0] * len(current)
    after = 0.0
    for t in reversed(range(len(current))):
        through_leak = after * neuron.decay * (1.0 if neuron.reset == "soft" else 1 - spikes[t])
        through_reset = 0.0
        if neuron.reset_gradient == "full":
            through_reset = after * neuron.decay * (neuron.v_threshold if neuron.reset == "soft" else membranes[t])
        after = (spike_grads[t] - through_reset) * slope(membranes[t] - neuron.v_threshold, neuron) + through_leak
        grads[t] = after
    return spikes, grads


surrogates: st.SearchStrategy[str] = st.sampled_from(["rectangle", "triangle", "sigmoid", "arctan", "dspike"])


starts: st.SearchStrategy[Start] = st.sampled_from(["zero", "half"])


@st.composite
def neurons(draw: st.DrawFn) -> Neuron:
    name = draw(surrogates)
    scale = surrogate(name).default * draw(st.sampled_from([0.5, 1.0, 1.0, 1.75]))
    theta = draw(st.sampled_from([0.5, 1.0, 0.25, 0.3]))
    decay = draw(st.sampled_from([0.25, 0.5, 0.0, 1.0, 0.36787944]))
    gradients: st.SearchStrategy[ResetGradient] = st.sampled_from(["detached", "full"])
    return Neuron(theta, decay, name, scale, draw(st.sampled_from(["hard", "soft"])), draw(starts), draw(gradients))


@settings(deadline=None, derandomize=True, max_examples=200)
@given(
    neuron=neurons(),
    steps=st.lists(
        # Sixteenths meet thresholds and window edges exactly.
        st.tuples(st.integers(-32, 48).map(lambda i: i / 16) | st.floats(-2, 3), st.floats(-2, 2)),
        min_size=1,
        max_size=16,
    ),
)
def test_equals_the_equations(neuron: Neuron, steps: list[tuple[float, float]]) -> None:
    current, spike_grads = [list(values) for values in zip(*steps, strict=True)]
    x = torch.tensor(current, dtype=torch.float64).view(-1, 1).requires_grad_()
    spikes = lif_reference(x, neuron)
    (by_input,) = torch.autograd.grad(spikes, x, torch.tensor(spike_grads, dtype=torch.float64).view(-1, 1))
    wanted_spikes, wanted_grads = one_neuron(current, spike_grads, neuron)
    assert spikes.flatten().tolist() == wanted_spikes
    assert by_input.flatten().tolist() == pytest.approx(wanted_grads, rel=1e-11, abs=1e-13)


def test_the_threshold_is_strict() -> None:
    x = torch.tensor([[0.5, math.nextafter(0.5, 1), math.nextafter(0.5, 0)]], dtype=torch.float64)
    assert lif_reference(x, Neuron(v_threshold=0.5)).tolist() == [[0, 1, 0]]


def test_a_spike_resets_hard_and_silence_leaks() -> None:
    """By hand, theta 0.5, decay 0.25: U = 0.6 (fires), 0.4, 0.25 * 0.4 + 0.4 = 0.5 (not above), 0.125 + 0.4 (fires)."""
    x = torch.tensor([0.6, 0.4, 0.4, 0.4], dtype=torch.float64).view(4, 1)
    assert lif_reference(x, Neuron(0.5, 0.25)).flatten().tolist() == [1, 0, 0, 1]


def test_a_soft_reset_keeps_what_is_above_the_threshold() -> None:
    """By hand, theta 0.5, decay 1: U = 0.875 (fires), 0.375 + 0.25 = 0.625 (fires), 0.125 + 0.25, 0.375 + 0.25."""
    x = torch.tensor([0.875, 0.25, 0.25, 0.25], dtype=torch.float64).view(4, 1)
    assert lif_reference(x, Neuron(0.5, 1.0, reset="soft")).flatten().tolist() == [1, 1, 0, 1]
    assert lif_reference(x, Neuron(0.5, 1.0)).flatten().tolist() == [1, 0, 0, 1]


def test_a_start_at_half_leaks_before_the_first_step() -> None:
    """theta 0.5: U(-1) = 0.25 leaves decay * 0.25 in U(0); the second neuron gets too little at decay 0.5 alone."""
    x = torch.tensor([[0.4375, 0.3125]], dtype=torch.float64)
    assert lif_reference(x, Neuron(0.5, 1.0, start="half")).tolist() == [[1, 1]]
    assert lif_reference(x, Neuron(0.5, 0.5, start="half")).tolist() == [[1, 0]]
    assert lif_reference(x, Neuron(0.5, 0.5)).tolist() == [[0, 0]]


def test_no_gradient_flows_through_the_reset() -> None:
    """With decay 1 and a spike at step 0, step 1 must not know what step 0 got."""
    x = torch.tensor([[0.9], [0.3]], dtype=torch.float64, requires_grad=True)
    (by_input,) = torch.autograd.grad(lif_reference(x, Neuron(0.5, 1.0))[1].sum(), x)
    assert by_input.flatten().tolist() == [0.0, 1.0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_keeps_the_membrane_in_fp32(dtype: torch.dtype) -> None:
    """256 steps of 1/512 sum to exactly 0.5 in fp32; in bf16 the sum would stall far below and never fire."""
    steps = 257
    x = torch.full((steps, 1), 1 / 512, dtype=dtype)
    spikes = lif_reference(x, Neuron(0.5, 1.0))
    assert spikes.dtype == dtype
    assert spikes.flatten().tolist() == [0.0] * 256 + [1.0]
