"""The fast neuron against the reference: equal spikes and gradients for every layout, dtype, surrogate and chunk."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from idsnn_cli.architecture import Neuron, Reset, ResetGradient, Start
from idsnn_cli.registry import names
from idsnn_cli.spiking import LIF, lif, lif_reference
from idsnn_cli.spiking.surrogates import surrogate

# The package's attribute of this name is the function.
lif_module = importlib.import_module("idsnn_cli.spiking.neuron")
Neuronal = Callable[[Tensor, Neuron], Tensor]
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
SHAPES: list[tuple[int, ...]] = [(), (7,), (3, 5), (2, 3, 4), (2, 3, 4, 5), (1, 3, 3, 3), (3, 1, 2, 2), (2, 8, 1, 1)]


def nhwc(x: Tensor) -> Tensor:
    """(T, N, C, H, W) with the same values, every step laid out channels last."""
    return x.flatten(0, 1).to(memory_format=torch.channels_last).view(x.shape)


def sliced(x: Tensor) -> Tensor:
    """The same values with gaps in memory, along the last axis."""
    wide = torch.zeros((*x.shape, 2), dtype=x.dtype).flatten(-2)
    wide = wide if x.dim() > 1 else wide.view(-1, 2)
    view = wide[..., ::2] if x.dim() > 1 else wide[:, 0]
    return view.copy_(x)


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda x: x,
    "gaps": sliced,
    "gaps in time": lambda x: torch.stack([x, torch.zeros_like(x)], 1)[:, 0],
    "reversed axes": lambda x: x.permute(*reversed(range(x.dim()))).contiguous().permute(*reversed(range(x.dim()))),
    "channels last": lambda x: nhwc(x) if x.dim() == 5 else x,
    "channels last, gaps": lambda x: nhwc(torch.cat([x, x], 2))[:, :, : x.shape[2]] if x.dim() == 5 else sliced(x),
}


@dataclass(frozen=True)
class Case:
    neuron: Neuron
    x: Tensor
    grad: Tensor
    chunk: int


@st.composite
def neurons(draw: st.DrawFn) -> Neuron:
    name: str = draw(st.sampled_from(["rectangle", "rectangle", "triangle", "sigmoid", "arctan", "dspike"]))
    scale = draw(st.just(surrogate(name).default) | st.floats(0.05, 6))
    theta = draw(st.sampled_from([0.5, 1.0]) | st.floats(0.01, 4))
    decay = draw(st.sampled_from([0.25, 0.5, 0.0, 1.0]) | st.floats(0, 1))
    reset: Reset = draw(st.sampled_from(["hard", "soft"]))
    start: Start = draw(st.sampled_from(["zero", "half"]))
    gradient: ResetGradient = draw(st.sampled_from(["detached", "detached", "full"]))
    return Neuron(theta, decay, name, scale, reset, start, gradient)


def currents(shape: tuple[int, ...], neuron: Neuron, dtype: torch.dtype, seed: int) -> Tensor:
    """Random currents around the threshold; a third stand exactly on it, on a window's edge or one step beside."""
    generator = torch.Generator().manual_seed(seed)
    x = (torch.randn(shape, generator=generator, dtype=torch.float64) * neuron.v_threshold * 1.5).to(dtype)
    theta, reach = neuron.v_threshold, neuron.surrogate_scale
    marks = torch.tensor([theta, theta - reach, theta + reach, theta - 0.5, theta + 0.5, 0.0], dtype=dtype)
    near = torch.cat([marks, marks * (1 + torch.finfo(dtype).eps), marks * (1 - torch.finfo(dtype).eps)])
    chosen = near[torch.randint(len(near), shape, generator=generator)]
    return torch.where(torch.rand(shape, generator=generator) < 1 / 3, chosen, x)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    neuron, dtype = draw(neurons()), draw(st.sampled_from(DTYPES))
    shape = (draw(st.integers(1, 16)), *draw(st.sampled_from(SHAPES)))
    seed = draw(st.integers(0, 2**32 - 1))
    x = currents(shape, neuron, dtype, seed)
    layout = draw(st.sampled_from(["repeated", *sorted(LAYOUTS)]))
    x = x[0].expand(shape) if layout == "repeated" else LAYOUTS[layout](x)
    grad = torch.randn(shape, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64).to(dtype)
    layout = draw(st.sampled_from(["one value", *sorted(LAYOUTS)]))
    grad = grad.flatten()[0].expand(shape) if layout == "one value" else LAYOUTS[layout](grad)
    return Case(neuron, x, grad, draw(st.sampled_from([1, 2, 3, 7, 16, 33, 131072])))


def run(neuronal: Neuronal, x: Tensor, neuron: Neuron, grad: Tensor) -> tuple[Tensor, Tensor]:
    """Spikes and dL/dx, with ``x`` kept in its own memory layout."""
    leaf = x.detach().requires_grad_()
    spikes = neuronal(leaf, neuron)
    (by_input,) = torch.autograd.grad(spikes, leaf, grad)
    return spikes.detach(), by_input


@pytest.mark.slow
@settings(deadline=None, derandomize=True, max_examples=700)
@given(cases())
def test_equals_the_reference(case: Case) -> None:
    with mock.patch.object(lif_module, "CPU_CHUNK", case.chunk):
        spikes, by_input = run(lif, case.x, case.neuron, case.grad)
    wanted_spikes, wanted_by_input = run(lif_reference, case.x, case.neuron, case.grad)
    assert spikes.dtype == by_input.dtype == case.x.dtype
    assert torch.equal(spikes, wanted_spikes)
    assert torch.equal(by_input, wanted_by_input)
    with torch.no_grad():
        assert torch.equal(lif(case.x, case.neuron), wanted_spikes)


@pytest.mark.parametrize("layout_of_grad", ["contiguous", "channels last", "gaps"])
@pytest.mark.parametrize("layout_of_x", ["contiguous", "channels last", "gaps"])
def test_gradients_in_another_layout_than_the_input(layout_of_x: str, layout_of_grad: str) -> None:
    """A network's readout hands an NHWC map a gradient expanded from (T, N, C): none of its elements may move."""
    neuron = Neuron()
    x = LAYOUTS[layout_of_x](currents((5, 2, 3, 4, 6), neuron, torch.float32, 8))
    grad = LAYOUTS[layout_of_grad](torch.randn(x.shape, generator=torch.Generator().manual_seed(9)))
    expanded = grad[..., :1, :1].expand(x.shape)
    for given_grad in (grad, expanded):
        for found, wanted in zip(
            run(lif, x, neuron, given_grad), run(lif_reference, x, neuron, given_grad), strict=True
        ):
            assert torch.equal(found, wanted)


def test_dense_inputs_keep_their_layout() -> None:
    x = nhwc(currents((3, 2, 4, 5, 6), Neuron(), torch.float32, 1))
    spikes, by_input = run(lif, x, Neuron(), torch.ones_like(x))
    assert spikes.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
    assert by_input.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("dtype", DTYPES)
def test_exactly_at_the_threshold_and_at_the_windows_edge(dtype: torch.dtype) -> None:
    """theta 0.5, lens 0.5: the window is 0 < U < 1, both ends out; a spike needs U > 0.5."""
    ulp = torch.finfo(dtype).eps / 2  # of the numbers in [0.5, 1)
    tiny = 2.0**-20
    values = [0.5, 0.5 + ulp, 0.5 - ulp / 2, 0.0, tiny, -tiny, 1.0, 1.0 - ulp, 1.0 + 2 * ulp]
    x = torch.tensor([values], dtype=dtype, requires_grad=True)
    spikes = lif(x, Neuron(0.5, 0.25, "rectangle", 0.5))
    (by_input,) = torch.autograd.grad(spikes.sum(), x)
    assert spikes.tolist() == [[0, 1, 0, 0, 0, 0, 1, 1, 1]]
    assert by_input.tolist() == [[1, 1, 1, 0, 1, 0, 0, 1, 0]]


@pytest.mark.parametrize("chunk", [64, 4096, 131072])
@pytest.mark.parametrize("name", names("idsnn_cli.spiking.surrogates"))
@pytest.mark.parametrize("reset", ["hard", "soft"])
def test_chunks_do_not_show(reset: Reset, name: str, chunk: int) -> None:
    """More neurons than a chunk and than a vector unit's stride, an odd number of them."""
    start: Start = "half" if reset == "soft" else "zero"
    neuron = Neuron(0.5, 0.25, name, surrogate(name).default, reset, start)
    x = currents((5, 9973), neuron, torch.float32, 11)
    grad = torch.randn(x.shape, generator=torch.Generator().manual_seed(12))
    with mock.patch.object(lif_module, "CPU_CHUNK", chunk):
        found = run(lif, x, neuron, grad)
    wanted = run(lif_reference, x, neuron, grad)
    assert torch.equal(found[0], wanted[0])
    assert torch.equal(found[1], wanted[1])


def test_more_neurons_than_the_default_chunk() -> None:
    x = currents((3, lif_module.CPU_CHUNK + 77), Neuron(), torch.float32, 5)
    for found, wanted in zip(run(lif, x, Neuron(), x.flip(1)), run(lif_reference, x, Neuron(), x.flip(1)), strict=True):
        assert torch.equal(found, wanted)


@pytest.mark.parametrize("name", ["rectangle", "sigmoid"])
@pytest.mark.parametrize("shape", [(4, 0), (1, 0, 3), (4, 2, 0, 3, 3), (4, 0, 3, 3, 3), (4, 2, 3, 0, 3)])
def test_empty_tensors(shape: tuple[int, ...], name: str) -> None:
    x = torch.zeros(shape, requires_grad=True)
    spikes = lif(x, Neuron(surrogate=name))
    (by_input,) = torch.autograd.grad(spikes.sum(), x)
    assert spikes.shape == by_input.shape == shape


@pytest.mark.parametrize("neuronal", [lif, lif_reference])
def test_nan_is_silent(neuronal: Neuronal) -> None:
    """From the NaN on its neuron neither spikes nor learns; before it and beside it nothing changes."""
    x = currents((6, 40), Neuron(), torch.float32, 2)
    grad = torch.randn(x.shape, generator=torch.Generator().manual_seed(3))
    clean_spikes, clean_grads = run(neuronal, x, Neuron(), grad)
    assert clean_spikes[2:, 17].any()
    assert clean_grads[2:, 17].any()
    broken = x.clone()
    broken[2, 17] = torch.nan
    spikes, by_input = run(neuronal, broken, Neuron(), grad)
    assert not spikes[2:, 17].any()
    assert not by_input[2:, 17].any()
    assert torch.equal(spikes[:2], clean_spikes[:2])
    others = torch.arange(40) != 17
    assert torch.equal(spikes[:, others], clean_spikes[:, others])
    assert torch.equal(by_input[:, others], clean_grads[:, others])


def saved_by(x: Tensor, neuron: Neuron) -> tuple[list[Tensor], Tensor]:
    """What autograd keeps for the backward pass, and the spikes."""
    kept: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        spikes = lif(x, neuron)
    return kept, spikes


@pytest.mark.parametrize("steps", [1, 7, 8, 9, 16])
def test_the_rectangle_saves_a_bit_a_neuron_and_step_beside_the_spikes(steps: int) -> None:
    x = torch.zeros((steps, 2, 3, 4, 5), requires_grad=True)
    (state, fired), spikes = saved_by(x, Neuron())
    assert state.dtype == torch.uint8
    assert state.nbytes == -(-steps // 8) * (2 * 3 * 4 * 5)
    # No copy: the next layer keeps these very values.
    assert fired.data_ptr() == spikes.data_ptr()


def test_a_smooth_surrogate_saves_the_membrane_once() -> None:
    kept, _ = saved_by(torch.zeros((6, 50), dtype=torch.bfloat16, requires_grad=True), Neuron(surrogate="sigmoid"))
    assert [(tensor.dtype, tuple(tensor.shape)) for tensor in kept] == [(torch.float32, (6, 50))]


def test_nothing_is_saved_where_there_is_no_backward_pass() -> None:
    assert saved_by(torch.zeros(4, 5), Neuron())[0] == []
    with torch.no_grad():
        assert saved_by(torch.zeros(4, 5, requires_grad=True), Neuron())[0] == []


def test_the_layer_merges_time_into_the_batch() -> None:
    layer, neuron = LIF(Neuron(0.4), timesteps=3), Neuron(0.4)
    x = currents((3, 2, 4, 5, 6), neuron, torch.float64, 4)
    assert torch.equal(layer(x.flatten(0, 1)), lif_reference(x, neuron).flatten(0, 1))
    assert torch.equal(layer(x[0], repeat=3), lif_reference(x[:1].repeat(3, 1, 1, 1, 1), neuron).flatten(0, 1))


def test_a_repeated_current_sums_its_gradients_over_time() -> None:
    layer, generator = LIF(Neuron(), timesteps=5), torch.Generator().manual_seed(6)
    once = nhwc(currents((1, 2, 3, 4, 4), Neuron(), torch.float64, 7))[0].requires_grad_()
    grad = torch.randn((10, 3, 4, 4), generator=generator, dtype=torch.float64)
    (found,) = torch.autograd.grad(layer(once, repeat=5), once, grad)
    (wanted,) = torch.autograd.grad(lif_reference(once.expand(5, 2, 3, 4, 4), Neuron()), once, grad.view(5, 2, 3, 4, 4))
    assert torch.equal(found, wanted)
