"""The neuron in plain operations: the spikes and gradients of the fast form and of the reference, in every bit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from idsnn_cli.architecture import Neuron
from idsnn_cli.errors import UsageError
from idsnn_cli.registry import names
from idsnn_cli.spiking import PoissonEncoder, lif, lif_reference
from idsnn_cli.spiking.traced import is_traced, lif_traced

jit_trace: Any = torch.jit.trace
# torch.jit and the tools around it say that they are old, and what they take for constants.
pytestmark = [
    pytest.mark.filterwarnings(f"ignore::{each}")
    for each in ("FutureWarning", "DeprecationWarning", "torch.jit.TracerWarning")
]
SURROGATES = names("idsnn_cli.spiking.surrogates")
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def current(steps: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    return torch.randn((steps, 3, 4, 5), generator=torch.Generator().manual_seed(seed)).to(dtype)


def wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(DTYPES),
    st.integers(1, 6),
    st.floats(0, 1),
    st.floats(0.1, 2),
    st.sampled_from(["hard", "soft"]),
    st.sampled_from(["zero", "half"]),
    st.sampled_from(["detached", "full"]),
    st.sampled_from(SURROGATES),
)
def test_spikes_and_gradients_are_the_references(
    dtype: torch.dtype, steps: int, decay: float, theta: float, reset: Any, start: Any, passes: Any, name: str
) -> None:
    neuron = Neuron(theta, decay, name, 0.8, reset, start, passes)
    first, second = (current(steps, dtype).requires_grad_() for _ in range(2))
    expected, found = lif_reference(first, neuron), lif_traced(second, neuron, wide(dtype))
    assert torch.equal(found, expected)
    assert torch.equal(lif_traced(first.detach(), neuron, wide(dtype)), lif(first.detach(), neuron))
    weights = current(steps, dtype, 1)
    (by_reference,) = torch.autograd.grad((expected * weights).sum(), first)
    (by_plain,) = torch.autograd.grad((found * weights).sum(), second)
    torch.testing.assert_close(by_plain, by_reference, rtol=1e-12 if dtype == torch.float64 else 1e-2, atol=1e-6)


def test_without_a_gradient_there_are_only_spikes_in_it() -> None:
    neuron = Neuron()
    with torch.no_grad():
        graph = jit_trace(lambda x: lif(x, neuron), current(3, torch.float32)).graph
    kinds = {node.kind() for node in graph.nodes()}
    assert "aten::gt" in kinds
    assert not any(word in kind for kind in kinds for word in ("abs", "lt", "detach", "PythonOp"))


def test_eager_calls_are_not_traced() -> None:
    seen = []

    def look(x: Tensor) -> Tensor:
        seen.append(is_traced())
        return x * 2

    look(torch.ones(2))
    torch.func.vmap(look)(torch.ones(2))
    jit_trace(look, torch.ones(2), check_trace=False)
    assert seen == [False, True, True]


def test_per_sample_gradients_are_those_of_each_sample() -> None:
    x = current(4, torch.float64)
    neuron = replace(Neuron(), surrogate="arctan", surrogate_scale=2.0)

    def loss(sample: Tensor) -> Tensor:
        return (lif(sample, neuron) * torch.arange(4.0).view(4, 1, 1)).sum()

    found = torch.func.vmap(torch.func.grad(loss), in_dims=1)(x)
    for i in range(3):
        sample = x[:, i].clone().requires_grad_()
        (expected,) = torch.autograd.grad(loss(sample), sample)
        torch.testing.assert_close(found[i], expected, rtol=1e-12, atol=1e-15)


def test_forward_mode_gives_the_same_derivatives() -> None:
    """jacfwd against jacrev, and against what autograd does without torch.func."""
    x, neuron = current(3, torch.float64)[:, :1, :2, 0], Neuron(surrogate="sigmoid", surrogate_scale=3.0)
    forward, backward = (torch.func.jacfwd(lambda x: lif(x, neuron))(x), torch.func.jacrev(lambda x: lif(x, neuron))(x))
    torch.testing.assert_close(forward, backward, rtol=1e-12, atol=1e-15)
    own = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(lif(own, neuron)[2, 0, 1], own)
    torch.testing.assert_close(forward[2, 0, 1], expected, rtol=1e-12, atol=1e-15)
    assert float(expected.abs().max()) > 0


def test_second_derivatives_are_refused() -> None:
    """By torch.func as by autograd, which would be without the surrogate's own."""
    x, neuron = current(2, torch.float64), Neuron(surrogate="arctan")
    with pytest.raises(UsageError, match="a gradient of a gradient"):
        torch.func.hessian(lambda x: lif(x, neuron).sum())(x)
    own = x.clone().requires_grad_()
    (first,) = torch.autograd.grad(lif(own, neuron).square().sum(), own, create_graph=True)
    with pytest.raises(RuntimeError):
        torch.autograd.grad(first.sum(), own)


def test_random_spikes_are_kept_out_of_graphs() -> None:
    encoder = PoissonEncoder(2)
    with pytest.raises(Exception, match="a graph would hold one draw for all"):
        jit_trace(encoder, torch.rand(2, 3, 4, 4))
    with pytest.raises(Exception, match="a graph would hold one draw for all"):
        torch.export.export(encoder, (torch.rand(2, 3, 4, 4),))
