"""The loops that numba compiles, against the plain layers in float64."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from idsnn_cli.architecture import Neuron, build_description
from idsnn_cli.errors import DataError
from idsnn_cli.models import build, place
from idsnn_cli.spiking import LIF, BatchNorm, add_normed, fire_membranes
from idsnn_cli.spiking.compiled import chain, kernels, maps, quantise_kernels
from idsnn_cli.spiking.compiled.quantised import compiled_quantise
from idsnn_cli.spiking.fused import fire, is_compiled
from idsnn_cli.spiking.kernels import SWITCH, forget
from idsnn_cli.spiking.qcfs import QCFS

HARD = Neuron()
SOFT = Neuron(v_threshold=0.75, decay=0.5, reset="soft")
FULL = Neuron(v_threshold=0.5, decay=1.0, reset="soft", start="half", reset_gradient="full")


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def maps_of(images: int, channels: int, size: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    drawn = torch.randn(images, channels, size, size, generator=torch.Generator().manual_seed(seed))
    return drawn.to(dtype).to(memory_format=torch.channels_last)


def backward(*totals: Tensor) -> None:
    torch.autograd.backward(totals)


def norm_of(channels: int, dtype: torch.dtype = torch.float32) -> BatchNorm:
    norm = BatchNorm(channels).train()
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(0.5, 1.5, channels))
        norm.bias.copy_(torch.linspace(-0.5, 0.5, channels))
    return norm.to(dtype)


@pytest.mark.slow
@pytest.mark.parametrize("neuron", [HARD, SOFT, FULL], ids=["hard", "soft", "full"])
@pytest.mark.parametrize("steps", [1, 4, 11])
@pytest.mark.parametrize(("channels", "size"), [(3, 5), (16, 8), (1100, 1)])
@pytest.mark.parametrize("form", ["alone", "added", "repeated"])
def test_loops_equal_the_layers(neuron: Neuron, steps: int, channels: int, size: int, form: str) -> None:
    """Every spike, and the gradients of x, gamma, beta and what is added, with the running statistics."""
    repeat = steps if form == "repeated" else 1
    x = maps_of(3 * steps // repeat, channels, size, 1)
    added = maps_of(3 * steps, channels, size, 2) if form == "added" else None
    grad = maps_of(3 * steps, channels, size, 3)
    found = []
    for dtype in (torch.float64, torch.float32):
        norm = norm_of(channels, dtype)
        given = x.to(dtype).requires_grad_()
        other = None if added is None else added.to(dtype).requires_grad_()
        if dtype == torch.float64:
            y = fire(norm, LIF(neuron, steps), given, None if other is None else other * 1, repeat)
        else:
            y = chain.compiled_fire(norm, neuron, steps, given, other, repeat)
        torch.autograd.backward(y, grad.to(dtype))
        gradients = [given.grad, norm.weight.grad, norm.bias.grad, *([] if other is None else [other.grad])]
        found.append([y.detach(), norm.running_mean, norm.running_var, *gradients])
        assert norm.num_batches_tracked == 1
    for number, (wanted, got) in enumerate(zip(*found, strict=True)):
        assert wanted is not None
        assert got is not None
        assert number or torch.equal(wanted.float(), got)
        assert float((wanted - got).norm() / wanted.norm().clamp_min(1e-9)) < 1e-4


@pytest.mark.parametrize("neuron", [HARD, FULL], ids=["hard", "full"])
def test_bf16_maps_are_those_numbers(neuron: Neuron) -> None:
    """bf16 maps give the spikes of the same numbers in float32, and their gradients, rounded to nearest once."""
    x, added, grad = (maps_of(8, 16, 6, seed, torch.bfloat16) for seed in (1, 2, 3))
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        given, other = x.to(dtype).requires_grad_(), added.to(dtype).requires_grad_()
        y = chain.compiled_fire(norm_of(16), neuron, 2, given, other, 1)
        torch.autograd.backward(y, grad.to(dtype))
        assert given.grad is not None
        assert other.grad is not None
        found.append((y.detach(), other.grad, given.grad))
    (spikes, of_added, of_x), (half_spikes, half_added, half_x) = found
    assert half_spikes.dtype == torch.bfloat16
    assert torch.equal(spikes, half_spikes.float())
    assert torch.equal(of_added.bfloat16(), half_added)
    # The statistics' part is worked out from the rounded gradient of the current.
    assert float((of_x - half_x.float()).abs().max()) < 2e-2 * float(of_x.abs().max())


def test_no_bit_depends_on_the_threads() -> None:
    found = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        norm, x = norm_of(32), maps_of(16, 32, 16, 1, torch.bfloat16).requires_grad_()
        y = chain.compiled_fire(norm, HARD, 4, x, None, 1)
        torch.autograd.backward(y, maps_of(16, 32, 16, 2, torch.bfloat16))
        found.append([y.detach(), x.grad, norm.weight.grad, norm.bias.grad, norm.running_var])
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True) if a is not None and b is not None)


@pytest.mark.parametrize("repeat", [1, 2])
def test_measuring_takes_the_running_statistics(repeat: int) -> None:
    x = maps_of(8 // repeat, 16, 6, 1, torch.bfloat16)
    norm = norm_of(16)
    with torch.no_grad():
        for buffer, (low, high) in ((norm.running_mean, (-0.3, 0.3)), (norm.running_var, (0.5, 2.0))):
            assert buffer is not None
            buffer.copy_(torch.linspace(low, high, 16))
        norm.eval()
        spikes = fire(norm, LIF(SOFT, 2), x, None, repeat)
        assert is_compiled(norm, LIF(SOFT, 2), x, None)
        wanted = fire(norm.double(), LIF(SOFT, 2), x.double(), None, repeat)
    assert torch.equal(spikes.double(), wanted)
    assert norm.num_batches_tracked == 0


def test_who_is_taken() -> None:
    """bf16 in NHWC on the CPU, with a gradient only where bits are enough for it; anything else is the layers'."""
    norm, act, x = norm_of(4), LIF(HARD, 2), maps_of(4, 4, 3, 1, torch.bfloat16)
    assert is_compiled(norm, act, x, None)
    assert is_compiled(norm, act, x, x)
    assert not is_compiled(norm, act, x.float(), None)
    assert not is_compiled(norm, act, x.contiguous(), None)
    assert not is_compiled(norm, act, x[:0], None)
    assert not is_compiled(norm, act, x, x.float())
    smooth = LIF(replace(HARD, surrogate="sigmoid", surrogate_scale=4.0), 2)
    assert not is_compiled(norm, smooth, x, None)
    with torch.no_grad():
        assert is_compiled(norm, smooth, x, None)
    norm.eval()
    assert not is_compiled(norm, act, x, None)
    handle = norm.register_forward_hook(lambda *_: None)
    with torch.no_grad():
        assert not is_compiled(norm, act, x, None)
        handle.remove()
        assert is_compiled(norm, act, x, None)


def test_the_switch_turns_them_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWITCH, "0")
    forget()
    try:
        assert not is_compiled(norm_of(4), LIF(HARD, 2), maps_of(4, 4, 3, 1, torch.bfloat16), None)
    finally:
        monkeypatch.undo()
        forget()


def test_a_numba_that_fails_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one does that is not made for the installed numpy."""
    assert maps.failure() is None
    x = maps_of(4, 4, 3, 1, torch.bfloat16)
    monkeypatch.setitem(sys.modules, "idsnn_cli.spiking.compiled.kernels", None)
    maps._imported.cache_clear()
    try:
        assert not is_compiled(norm_of(4), LIF(HARD, 2), x, None)
        assert fire(norm_of(4), LIF(HARD, 2), x).shape == x.shape
        assert "idsnn_cli.spiking.compiled.kernels" in str(maps.failure())
    finally:
        monkeypatch.undo()
        maps._imported.cache_clear()


def test_a_damaged_cache_is_done_without_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def read() -> None:
        raise EOFError("Ran out of input")

    monkeypatch.setattr("idsnn_cli.spiking.compiled.trying.try_all", read)
    maps._imported.cache_clear()
    try:
        assert not is_compiled(norm_of(4), LIF(HARD, 2), maps_of(4, 4, 3, 1, torch.bfloat16), None)
        assert kernels.moments.stats.cache_path in str(maps.failure())
    finally:
        monkeypatch.undo()
        maps._imported.cache_clear()


def test_every_loop_is_tried_in_the_form_in_which_it_is_called() -> None:
    """Or numba would compile within a training, and fail there."""
    maps._imported.cache_clear()
    assert maps.failure() is None
    names = {
        kernels: "moments forward backward combine combine_onto products",
        quantise_kernels: "quantise quantise_back",
    }
    loops = [getattr(module, name) for module, several in names.items() for name in several.split()]
    before = [len(each.signatures) for each in loops]
    assert all(before)
    quantising = QCFS(4)
    with torch.no_grad():
        quantising.limit.fill_(1.5)
    for act in (LIF(HARD, 2), LIF(FULL, 2), quantising):
        x = maps_of(4, 4, 3, 1, torch.bfloat16).requires_grad_()
        for added in (None, maps_of(4, 4, 3, 2, torch.bfloat16).requires_grad_()):
            backward(fire(norm_of(4), act, x, added).sum())
            with torch.no_grad():
                fire(norm_of(4).eval(), act, x)
        if isinstance(act, LIF):
            backward(fire(norm_of(4), act, x, repeat=2).sum())
        for pair in (fire_membranes(act, x), fire_membranes(act, x)[:1]):
            backward(*(each.sum() for each in pair))
    backward(add_normed(norm_of(4), x, x.detach()).sum())
    assert [len(each.signatures) for each in loops] == before


def test_a_gradient_is_combined_where_it_lies_as_it_is_elsewhere() -> None:
    """To the last bit, over all bf16 numbers that do not overflow, and runs that do not fill the last."""
    stored = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    finite = stored[stored.abs() < 1e38]
    generator = torch.Generator().manual_seed(0)
    x = finite[torch.randperm(len(finite), generator=generator)].contiguous()
    factors = [torch.rand(96, generator=generator) - 0.5 for _ in range(3)]
    tiles = [each.numpy() for each in factors]
    given, read = (each.view(torch.uint16).numpy().copy() for each in (finite, x))
    apart = np.zeros_like(given)
    runs = -(-len(given) // 96)
    assert len(given) % 96
    kernels.combine(given, read, *tiles, apart, 0, runs)
    kernels.combine_onto(read, *tiles, given, 0, runs)
    assert (given == apart).all()
    of_grad, of_x, constant = (each.double().repeat(runs)[: len(x)] for each in factors)
    exact = finite.double() * of_grad + x.double() * of_x + constant
    found = torch.from_numpy(apart).view(torch.bfloat16).double()
    inside = exact.abs() < 3e38
    torch.testing.assert_close(found[inside], exact[inside], rtol=2**-8, atol=1e-6)


def test_no_gradient_is_one_of_zeros() -> None:
    """What stands behind may have none to give: for every step that maps were repeated over."""

    class Stop(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> None:
            return None

    for repeat in (1, 3):
        x = maps_of(3, 4, 5, 1, torch.bfloat16).requires_grad_()
        backward(Stop.apply(fire(norm_of(4), LIF(HARD, 3), x * 1, repeat=repeat)).sum())
        assert x.grad is not None
        assert not x.grad.any()


def test_a_single_value_has_no_variance() -> None:
    with pytest.raises(DataError, match="single value per channel"):
        chain.compiled_fire(norm_of(4), HARD, 1, maps_of(1, 4, 1, 1, torch.bfloat16), None, 1)


def test_a_network_learns_by_them_as_by_its_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three steps of a whole student under autocast: the losses differ by bf16's rounding alone."""
    losses = []
    for switch in ("0", "1"):
        monkeypatch.setenv(SWITCH, switch)
        forget()
        model = build(build_description("spiking-resnet8", 10, width=8, stem="3x3", timesteps=2, neuron=FULL), seed=0)
        place(model, torch.device("cpu"), torch.float32)
        model.train()
        optimiser = torch.optim.SGD(model.parameters(), lr=0.05)
        images = torch.rand(16, 3, 16, 16, generator=torch.Generator().manual_seed(1))
        labels = torch.arange(16) % 10
        told = []
        for _ in range(3):
            with torch.autocast("cpu", torch.bfloat16):
                loss = nn.functional.cross_entropy(model(images).float().mean(0), labels)
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            told.append(float(loss.detach()))
        losses.append(told)
    monkeypatch.undo()
    forget()
    assert losses[0] == pytest.approx(losses[1], rel=0.03)
    assert losses[1][2] < losses[1][0]


@pytest.mark.parametrize("adds", [False, True])
@pytest.mark.parametrize("each_channel", [False, True])
@pytest.mark.parametrize(("channels", "size", "levels"), [(3, 5, 4), (16, 8, 1), (1100, 2, 8)])
def test_quantised_activations_equal_the_layers(
    adds: bool, each_channel: bool, channels: int, size: int, levels: int
) -> None:
    """QCFS behind a BatchNorm in float64, and the gradients of x, gamma, beta, lambda and what is added."""
    x, added, grad = (maps_of(6, channels, size, seed) for seed in (1, 2, 3))
    found = []
    for dtype in (torch.float64, torch.float32):
        norm, act = norm_of(channels, dtype), QCFS(levels)
        limit = torch.linspace(0.8, 1.7, channels, dtype=dtype) if each_channel else torch.tensor(1.3, dtype=dtype)
        act.limit = nn.Parameter(limit)
        given, other = x.to(dtype).requires_grad_(), added.to(dtype).requires_grad_()
        if dtype == torch.float64:
            y = fire(norm, act, given, other * 1 if adds else None)
        else:
            y = compiled_quantise(norm, act.limit, levels, given, other if adds else None)
        torch.autograd.backward(y, grad.to(dtype))
        found.append([y.detach(), given.grad, norm.weight.grad, norm.bias.grad, act.limit.grad, norm.running_var])
        if adds:
            found[-1].append(other.grad)
    for wanted, got in zip(*found, strict=True):
        assert wanted is not None
        assert got is not None
        assert wanted.shape == got.shape
        # A value at the very edge of a level may fall to either side of it.
        assert float((wanted - got).norm() / wanted.norm()) < 2e-3


def test_quantised_bf16_maps_take_the_loops_and_equal_them(monkeypatch: pytest.MonkeyPatch) -> None:
    x, act = maps_of(4, 8, 6, 1, torch.bfloat16), QCFS(4)
    act.limit = nn.Parameter(torch.tensor(1.25))
    assert is_compiled(norm_of(8), act, x, x)
    wanted = compiled_quantise(norm_of(8), act.limit, 4, x.float(), x.float())
    assert torch.equal(fire(norm_of(8), act, x, x), wanted.bfloat16())
