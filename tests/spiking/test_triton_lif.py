"""The neuron's kernel against the reference: bits, layouts, dtypes, time, edges."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from triton_cases import (
    DTYPES,
    RESETS,
    assert_gradients,
    currents,
    in_a_process_of_their_own,
    inside,
    keeping,
    needs_triton,
    neuron_of,
    nhwc,
    normal,
    outside,
)

from idsnn_cli.architecture import Neuron
from idsnn_cli.registry import names
from idsnn_cli.spiking import lif_reference
from idsnn_cli.spiking.surrogates import surrogate
from idsnn_cli.spiking.triton import launch

pytestmark = needs_triton
SHAPES: list[tuple[int, ...]] = [(7,), (3, 5), (2, 3, 4, 5), (2, 8, 1, 1), (1, 2, 3, 11)]
LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda x: x,
    "channels last": lambda x: nhwc(x) if x.dim() == 5 else x,
    "gaps": lambda x: torch.stack([x, x], -1)[..., 0],
    "gaps in time": lambda x: torch.stack([x, torch.zeros_like(x)], 1)[:, 0],
    "repeated": lambda x: x[0].expand(x.shape),
}


@pytest.mark.slow
@outside
def test_interpreted() -> None:
    in_a_process_of_their_own(__file__)


def run(neuronal: Callable[[Tensor, Neuron], Tensor], x: Tensor, neuron: Neuron, grad: Tensor) -> tuple[Tensor, Tensor]:
    leaf = x.detach().requires_grad_()
    spikes = neuronal(leaf, neuron)
    (by_input,) = torch.autograd.grad(spikes, leaf, grad)
    return spikes.detach(), by_input


def fused(x: Tensor, neuron: Neuron) -> Tensor:
    from idsnn_cli.spiking.triton.neuron import fused_lif

    return fused_lif(x, neuron)


@inside
@settings(deadline=None, derandomize=True, max_examples=40)
@given(
    steps=st.integers(1, 16),
    shape=st.sampled_from(SHAPES),
    name=st.sampled_from(["rectangle", "rectangle", "triangle", "sigmoid", "arctan", "dspike"]),
    scale=st.none() | st.floats(0.1, 5),
    theta=st.sampled_from([0.5, 1.0]) | st.floats(0.05, 3),
    decay=st.sampled_from([0.25, 0.0, 1.0]) | st.floats(0, 1),
    neurons=st.sampled_from(RESETS),
    dtype=st.sampled_from(DTYPES),
    layout=st.sampled_from(sorted(LAYOUTS)),
    layout_of_grad=st.sampled_from(sorted(LAYOUTS)),
    seed=st.integers(0, 2**31),
)
def test_equals_the_reference(
    steps: int,
    shape: tuple[int, ...],
    name: str,
    scale: float | None,
    theta: float,
    decay: float,
    neurons: dict[str, Any],
    dtype: torch.dtype,
    layout: str,
    layout_of_grad: str,
    seed: int,
) -> None:
    """Spikes always in every bit; gradients too for the surrogates that need no exponential."""
    neuron = Neuron(theta, decay, name, scale or surrogate(name).default, **neurons)
    x = LAYOUTS[layout](currents((steps, *shape), neuron, dtype, seed))
    grad = LAYOUTS[layout_of_grad](normal((steps, *shape), dtype, seed + 1))
    spikes, by_input = run(fused, x, neuron, grad)
    wanted_spikes, wanted_by_input = run(lif_reference, x, neuron, grad)
    assert spikes.dtype == x.dtype
    assert torch.equal(spikes, wanted_spikes)
    assert_gradients(by_input, wanted_by_input, exact=name in ("rectangle", "triangle"))
    with torch.no_grad():
        assert torch.equal(fused(x, neuron), wanted_spikes)


@inside
@pytest.mark.parametrize("dtype", DTYPES)
def test_exactly_at_the_threshold_and_at_the_windows_edge(dtype: torch.dtype) -> None:
    """theta 0.5, lens 0.5: the window is 0 < U < 1, both ends out; a spike needs U > 0.5."""
    ulp, tiny = torch.finfo(dtype).eps / 2, 2.0**-20
    values = [0.5, 0.5 + ulp, 0.5 - ulp / 2, 0.0, tiny, -tiny, 1.0, 1.0 - ulp, 1.0 + 2 * ulp]
    x = torch.tensor([values], dtype=dtype, device=normal((1,), dtype, 0).device, requires_grad=True)
    spikes = fused(x, Neuron())
    (by_input,) = torch.autograd.grad(spikes.sum(), x)
    assert spikes.tolist() == [[0, 1, 0, 0, 0, 0, 1, 1, 1]]
    assert by_input.tolist() == [[1, 1, 1, 0, 1, 0, 0, 1, 0]]


@inside
def test_a_fused_multiply_add_would_flip_these_spikes() -> None:
    """U(1) = decay U(0) + X(1), rounded twice, is theta itself or just above; rounded once it is the other one."""
    generator = torch.Generator().manual_seed(0)
    decay, theta = torch.tensor(0.3), torch.tensor(0.55)
    first = torch.rand(200_000, generator=generator) * 0.5
    # Exact in float64: a product of two fp32 numbers has 48 bits.
    product = decay * first
    second = theta - product
    twice = product + second > theta
    once = (decay.double() * first.double() + second.double()).float() > theta
    rows = (twice != once).nonzero().flatten()[:64]
    assert len(rows) == 64
    x = torch.stack([first[rows], second[rows]]).to(normal((1,), torch.float32, 0).device)
    neuron = Neuron(float(theta), float(decay))
    assert torch.equal(fused(x, neuron)[1].cpu(), twice[rows].float())
    assert torch.equal(fused(x, neuron), lif_reference(x, neuron))


@inside
@pytest.mark.parametrize("name", names("idsnn_cli.spiking.surrogates"))
def test_nan_is_silent(name: str) -> None:
    """From the NaN on its neuron neither spikes nor learns; before it and beside it nothing changes."""
    neuron = neuron_of(name)
    x, grad = currents((6, 40), neuron, torch.float32, 2), normal((6, 40), torch.float32, 3)
    clean_spikes, clean_grads = run(fused, x, neuron, grad)
    broken = x.clone()
    broken[2, 17] = torch.nan
    spikes, by_input = run(fused, broken, neuron, grad)
    assert clean_spikes[2:, 17].any()
    assert clean_grads[2:, 17].any()
    assert not spikes[2:, 17].any()
    assert not by_input[2:, 17].any()
    others = torch.arange(40) != 17
    assert torch.equal(spikes[:2], clean_spikes[:2])
    assert torch.equal(spikes[:, others], clean_spikes[:, others])
    assert torch.equal(by_input[:, others], clean_grads[:, others])


@inside
@pytest.mark.parametrize("kind", RESETS, ids=lambda kind: "-".join(kind.values()))
@pytest.mark.parametrize("name", ["rectangle", "triangle", "arctan"])
@pytest.mark.parametrize("steps", [launch.SEGMENT, 2 * launch.SEGMENT, 17, 35])
def test_any_time_by_segments(steps: int, name: str, kind: dict[str, Any]) -> None:
    neuron = replace(neuron_of(name), **kind)
    x, grad = currents((steps, 30), neuron, torch.float32, steps), normal((steps, 30), torch.float32, 5)
    for found, wanted in zip(run(fused, x, neuron, grad), run(lif_reference, x, neuron, grad), strict=True):
        assert_gradients(found, wanted, exact=name != "arctan")


@inside
@pytest.mark.parametrize("name", ["rectangle", "sigmoid"])
def test_more_neurons_than_a_program_takes(name: str) -> None:
    neuron, count = neuron_of(name), 2 * launch.BLOCK + 77
    x, grad = currents((5, count), neuron, torch.float32, 5), normal((5, count), torch.float32, 6)
    found, wanted = run(fused, x, neuron, grad), run(lif_reference, x, neuron, grad)
    assert torch.equal(found[0], wanted[0])
    assert_gradients(found[1], wanted[1], exact=name == "rectangle")


@inside
def test_empty_and_layout() -> None:
    empty = normal((4, 2, 0, 3, 3), torch.float32, 0).requires_grad_()
    (by_input,) = torch.autograd.grad(fused(empty, Neuron()).sum(), empty)
    assert by_input.shape == empty.shape
    x = nhwc(normal((3, 2, 4, 5, 6), torch.float32, 1))
    for each in run(fused, x, Neuron(), torch.ones_like(x)):
        assert each.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)


@inside
def test_what_is_kept() -> None:
    """The rectangle keeps two bits a neuron and step; a smooth surrogate, and a full hard reset, just the input."""
    soft = Neuron(reset="soft", reset_gradient="full")
    for steps, neuron in ((5, Neuron()), (5, soft), (5, neuron_of("sigmoid")), (5, Neuron(reset_gradient="full"))):
        x = normal((steps, 2, 3, 4, 5), torch.bfloat16, 0).requires_grad_()
        with keeping() as kept:
            fused(x, neuron)
        if neuron in (Neuron(), soft):
            assert [(t.dtype, t.shape) for t in kept] == [(torch.uint8, (2, 120))]
        else:
            assert [t.data_ptr() for t in kept] == [x.data_ptr()]
