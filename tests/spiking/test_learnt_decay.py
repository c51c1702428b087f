"""A learnt decay: the reference by hand and against SpikingJelly, the fast form against that, and no kernel."""

from __future__ import annotations

import importlib
import itertools
import math
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn

from idsnn_cli.architecture import Neuron
from idsnn_cli.errors import UsageError
from idsnn_cli.registry import names
from idsnn_cli.spiking import LIF, BatchNorm, decay_of, fire, first_logit, kernels, lif, lif_reference
from idsnn_cli.spiking.fused import is_compiled, is_fused
from idsnn_cli.spiking.surrogates import surrogate
from idsnn_cli.spiking.traced import lif_traced
from idsnn_cli.training import make_optimiser

lif_module = importlib.import_module("idsnn_cli.spiking.neuron")
SURROGATES = names("idsnn_cli.spiking.surrogates")
FORMS = [
    Neuron(0.5, 0.3, name, surrogate(name).default, reset, start, gradient)  # type: ignore[arg-type]  # of a product
    for name, reset, start, gradient in itertools.product(
        SURROGATES, ("hard", "soft"), ("zero", "half"), ("detached", "full")
    )
]


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def run(neuronal: Any, x: Tensor, neuron: Neuron, decay: float, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Spikes, dL/dx and dL/d decay."""
    leaf = x.detach().requires_grad_()
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    learnt = torch.tensor(decay, dtype=wide, requires_grad=True)
    spikes = neuronal(leaf, neuron, learnt)
    by_input, by_decay = torch.autograd.grad(spikes, (leaf, learnt), grad)
    return spikes.detach(), by_input, by_decay


def test_by_hand_where_nothing_fires() -> None:
    """U(t) = sum of decay^k x(t - k), so dU(t)/d decay = sum of k decay^(k - 1) x(t - k)."""
    neuron, decay, steps = Neuron(9.0, 0.5, "sigmoid", 0.7), 0.6, 6
    x, grad = drawn(steps, 40), drawn(steps, 40, seed=1)
    found = run(lif_reference, x, neuron, decay, grad)
    assert not found[0].any()
    wanted = 0.0
    for t in range(steps):
        u = sum(decay**k * x[t - k] for k in range(t + 1))
        by_decay = sum(k * decay ** (k - 1) * x[t - k] for k in range(1, t + 1))
        slope = surrogate("sigmoid").derivative(torch.as_tensor(u - 9.0), 0.7)
        wanted += float((grad[t] * slope * by_decay).sum())
    assert abs(wanted) > 1e-3
    assert float(found[2]) == pytest.approx(wanted, rel=1e-10)


def test_the_decay_of_the_description_is_not_read() -> None:
    x = drawn(5, 60)
    for neuronal in (lif, lif_reference):
        given = [run(neuronal, x, Neuron(0.5, other), 0.7, torch.ones_like(x)) for other in (0.0, 0.3, 1.0)]
        constant = neuronal(x, Neuron(0.5, 0.7))
        assert all(torch.equal(spikes, constant) for spikes, _, _ in given)
        assert not torch.equal(constant, neuronal(x, Neuron(0.5, 0.3)))


@pytest.mark.parametrize("neuron", FORMS, ids=lambda n: f"{n.surrogate}-{n.reset}-{n.start}-{n.reset_gradient}")
def test_the_fast_form_is_the_reference(neuron: Neuron) -> None:
    """Spikes and dL/dx in every bit, in chunks that do not divide the neurons; dL/d decay is a sum of another order."""
    x, grad = drawn(7, 3, 33) * 0.8, drawn(7, 3, 33, seed=1)
    with mock.patch.object(lif_module, "CPU_CHUNK", 40):
        found = run(lif, x, neuron, 0.83, grad)
    wanted = run(lif_reference, x, neuron, 0.83, grad)
    assert 0.05 < float(wanted[0].mean()) < 0.95
    assert torch.equal(found[0], wanted[0])
    assert torch.equal(found[1], wanted[1])
    assert abs(float(wanted[2])) > 1e-3
    torch.testing.assert_close(found[2], wanted[2], rtol=1e-11, atol=1e-11)
    plain = run(lambda *given: lif_traced(given[0], given[1], torch.float64, given[2]), x, neuron, 0.83, grad)
    for one, other in zip(plain, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_short_types_sum_in_wide_ones(dtype: torch.dtype) -> None:
    """100,000 addends, as the reference has them of the same currents in float32."""
    neuron = Neuron(0.5, 0.3, "sigmoid", 4.0)
    x, grad = (drawn(4, 25_000, seed=seed).to(dtype) for seed in (0, 1))
    decay = float(torch.tensor(0.7, dtype=torch.float32))
    spikes, by_input, by_decay = run(lif, x, neuron, decay, grad)
    wanted = run(lif_reference, x, neuron, decay, grad)
    assert torch.equal(spikes, wanted[0])
    assert torch.equal(by_input, wanted[1])
    assert (by_input.dtype, by_decay.dtype) == (dtype, torch.float32)
    same = run(lif_reference, x.float(), neuron, decay, grad.float())
    assert torch.equal(spikes.float(), same[0])
    assert float(by_decay) == pytest.approx(float(same[2]), rel=1e-4)


def test_layouts_and_repeated_currents() -> None:
    layer = LIF(Neuron(0.5, 0.4), 5, learn_decay=True).double()
    assert layer.decay_logit is not None
    x = drawn(10, 3, 4, 4).to(memory_format=torch.channels_last).requires_grad_()
    grad = drawn(10, 4, 4, 3, seed=2).permute(0, 3, 1, 2)
    decay = torch.sigmoid(layer.decay_logit)
    found = torch.autograd.grad(layer(x), (x, layer.decay_logit), grad)
    wanted = lif_reference(x.view(5, 2, 3, 4, 4), Neuron(0.5, 0.4), decay).flatten(0, 1)
    for one, other in zip(found, torch.autograd.grad(wanted, (x, layer.decay_logit), grad), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)
    once = x[:2].detach().requires_grad_()
    found = torch.autograd.grad(layer(once, repeat=5), (once, layer.decay_logit), grad)
    wanted = lif_reference(once.expand(5, 2, 3, 4, 4), Neuron(0.5, 0.4), torch.sigmoid(layer.decay_logit)).flatten(0, 1)
    for one, other in zip(found, torch.autograd.grad(wanted, (once, layer.decay_logit), grad), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


def test_only_the_decay_is_learnt() -> None:
    """Currents that want no gradient, as behind frozen layers, and no gradient at all."""
    x, decay = drawn(4, 30), torch.tensor(0.6, dtype=torch.float64, requires_grad=True)
    for neuronal in (lif, lif_reference):
        (by_decay,) = torch.autograd.grad(neuronal(x, Neuron(), decay).sum(), decay)
        assert float(by_decay) != 0
    with torch.no_grad():
        assert not lif(x, Neuron(), decay).requires_grad
    assert not lif(x, Neuron(), decay.detach()).requires_grad
    for empty in ((4, 0), (4, 2, 0, 3, 3)):
        (none,) = torch.autograd.grad(lif(torch.zeros(empty, dtype=torch.float64), Neuron(), decay).sum(), decay)
        assert float(none) == 0


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("reset", ["hard", "soft"])
@pytest.mark.parametrize("gradient", ["detached", "full"])
def test_spikingjellys_parametric_neuron_is_ours(reset: Any, gradient: Any) -> None:
    """v <- v (1 - sigmoid(w)) + x, so that its w is minus ours: spikes, and the gradients of x and w, in float64."""
    library = pytest.importorskip("spikingjelly.activation_based.neuron")
    slopes = pytest.importorskip("spikingjelly.activation_based.surrogate")
    layer = LIF(Neuron(0.8, 0.7, "sigmoid", 4.0, reset, reset_gradient=gradient), 6, learn_decay=True).double()
    assert layer.decay_logit is not None
    node = library.ParametricLIFNode(
        decay_input=False,
        v_threshold=0.8,
        v_reset=0.0 if reset == "hard" else None,
        surrogate_function=slopes.Sigmoid(alpha=4.0),
        detach_reset=gradient == "detached",
        step_mode="m",
    ).double()
    with torch.no_grad():
        node.w.copy_(-layer.decay_logit)
    x, grad = drawn(6, 500).requires_grad_(), drawn(6, 500, seed=1)
    ours, theirs = layer(x), node(x)
    assert torch.equal(ours, theirs)
    assert 0.1 < float(ours.detach().mean()) < 0.9
    found = torch.autograd.grad(ours, (x, layer.decay_logit), grad)
    wanted = torch.autograd.grad(theirs, (x, node.w), grad)
    torch.testing.assert_close(found[0], wanted[0], rtol=0, atol=1e-10)
    torch.testing.assert_close(found[1], -wanted[1], rtol=0, atol=1e-10)
    assert abs(float(found[1])) > 0.1


@pytest.mark.parametrize("decay", [0.25, 0.5, 0.9, 0.001, 0.99])
def test_a_layer_starts_as_the_constant_one(decay: float) -> None:
    logit = first_logit(decay)
    assert decay_of(logit) == pytest.approx(decay, rel=1e-6)
    x = drawn(4 * 50, 8, dtype=torch.float32)
    layer = LIF(Neuron(0.5, decay), 4, learn_decay=True)
    assert layer.decay == decay_of(logit)
    if decay in (0.25, 0.5, 0.9):
        assert torch.equal(layer(x), LIF(Neuron(0.5, decay), 4)(x))
    assert "learnt" in repr(layer)
    assert LIF(Neuron(0.5, decay), 4).decay == decay
    with pytest.raises(UsageError, match="setting decay of a neuron"):
        layer.decay = 0.3  # type: ignore[misc]  # what a user may try


def test_steps_one_by_one_have_the_layers_own_decay() -> None:
    layer, x = LIF(Neuron(0.5, 0.2, start="half"), 6, learn_decay=True), drawn(6, 4, 5, dtype=torch.float32)
    assert layer.decay_logit is not None
    with torch.no_grad():
        layer.decay_logit.fill_(1.3)
        whole = layer(x.flatten(0, 1)).view(6, 4, 5)
        layer.stepping = True
        assert torch.equal(torch.stack([layer(step) for step in x]), whole)
        assert not torch.equal(whole, lif(x, Neuron(0.5, 0.2, start="half")))


def test_graphs_read_the_layers_own_decay() -> None:
    """torch.fx, torch.export and torch.func see the parameter; frozen, it is a constant of the same spikes."""
    layer, x = LIF(Neuron(0.5, 0.2), 3, learn_decay=True), drawn(6, 5, dtype=torch.float32)
    assert layer.decay_logit is not None
    with torch.no_grad():
        layer.decay_logit.fill_(1.3)
        wanted = layer(x)
        assert not torch.equal(wanted, LIF(Neuron(0.5, 0.2), 3)(x))
        assert torch.equal(torch.fx.symbolic_trace(layer)(x), wanted)
        assert torch.equal(torch.export.export(layer, (x,)).module()(x), wanted)

    def loss(logit: Tensor) -> Tensor:
        spikes: Tensor = torch.func.functional_call(layer, {"decay_logit": logit}, (x,))
        return (spikes * drawn(6, 5, seed=3)).sum()

    logit = layer.decay_logit
    (wanted_grad,) = torch.autograd.grad(loss(logit), logit)
    torch.testing.assert_close(torch.func.grad(loss)(logit.detach()), wanted_grad)
    layer.freeze_decay()
    assert not list(layer.parameters())
    assert torch.equal(layer(x), wanted)


def test_no_kernel_and_no_loop_takes_it() -> None:
    """A constant decay would be one of these; what decides of kernels is not even asked."""
    norm, x = BatchNorm(4), drawn(6, 4, 3, 3).to(torch.bfloat16).to(memory_format=torch.channels_last)
    learns, constant = LIF(Neuron(), 3, learn_decay=True), LIF(Neuron(), 3)
    with mock.patch("idsnn_cli.spiking.fused.takes_kernels", return_value=True):
        assert is_fused(norm, constant, x, None)
        assert not is_fused(norm, learns, x, None)
    if kernels.loops_available():
        assert is_compiled(norm, constant, x, None)
    assert not is_compiled(norm, learns, x, None)
    with mock.patch.object(lif_module, "takes_kernels", side_effect=AssertionError("it was asked")):
        spikes = learns(x)
    assert torch.equal(spikes, constant(x))
    wanted = constant(BatchNorm(4)(x))
    assert torch.equal(fire(BatchNorm(4), learns, x), wanted)


def test_weight_decay_pulls_on_it_only_where_it_pulls_on_norms() -> None:
    from idsnn_cli.recipe.schema import Training

    model = nn.Sequential(nn.Conv2d(3, 4, 3), LIF(Neuron(), 2, learn_decay=True))
    for both in (True, False):
        optimiser = make_optimiser(model, Training(weight_decay=0.1, decay_norm_and_bias=both))
        (found,) = [
            group["weight_decay"]
            for group in optimiser.param_groups
            if any(parameter is model[1].decay_logit for parameter in group["params"])
        ]
        assert found == (0.1 if both else 0.0)


def test_half_a_start_learns_from_it() -> None:
    """One step: U(0) = decay theta / 2 + x, so that dU/d decay is theta / 2 for each neuron."""
    neuron = replace(Neuron(0.8, 0.5, "sigmoid", 4.0), start="half")
    x, grad = drawn(1, 50), drawn(1, 50, seed=4)
    slope = surrogate("sigmoid").derivative(x[0] + 0.6 * 0.4 - 0.8, 4.0)
    for neuronal in (lif, lif_reference):
        found = float(run(neuronal, x, neuron, 0.6, grad)[2])
        assert math.isclose(found, float((grad[0] * slope).sum()) * 0.4, rel_tol=1e-11)
