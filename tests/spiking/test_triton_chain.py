"""BatchNorm, addition and neuron in one chain, against torch's BatchNorm and the reference neuron."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.multiprocessing.spawn import spawn
from torch.nn import functional as F
from triton_cases import (
    COMPILED,
    DEVICE,
    DTYPES,
    RESETS,
    assert_gradients,
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
from idsnn_cli.errors import DataError
from idsnn_cli.spiking import LIF, BatchNorm, lif_reference
from idsnn_cli.spiking.triton import launch

pytestmark = [needs_triton, pytest.mark.slow]
LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "nchw": lambda x: x,
    "nhwc": nhwc,
    "gaps": lambda x: torch.cat([x, x], 1)[:, : x.shape[1]],
}


@outside
def test_interpreted() -> None:
    in_a_process_of_their_own(__file__)


@dataclass(frozen=True)
class Case:
    """``x`` is (T * N, C, H, W), or (N, C, H, W) with ``repeat`` = T."""

    norm: BatchNorm
    neuron: Neuron
    steps: int
    repeat: int
    x: Tensor
    residual: Tensor | None
    grad: Tensor


def layer(channels: int, seed: int, momentum: float | None = 0.1) -> BatchNorm:
    """Parameters and statistics that no channel shares, gamma of both signs, beta around the threshold."""
    norm = BatchNorm(channels, momentum=momentum)
    with torch.no_grad():
        norm.weight.copy_(normal((channels,), torch.float32, seed))
        norm.bias.copy_(0.5 + 0.3 * normal((channels,), torch.float32, seed + 1))
        norm.get_buffer("running_mean").copy_(normal((channels,), torch.float32, seed + 2))
        norm.get_buffer("running_var").copy_(0.3 + normal((channels,), torch.float32, seed + 3).abs())
        norm.get_buffer("num_batches_tracked").fill_(2)
    return norm.to(DEVICE)


def fused(case: Case, x: Tensor, residual: Tensor | None) -> Tensor:
    from idsnn_cli.spiking.triton.chain import fused_fire

    return fused_fire(case.norm, case.neuron, case.steps, x, residual, case.repeat)


def statistics_used(case: Case) -> tuple[Tensor, Tensor]:
    """The kernels' own mean and 1 / std, which may differ from torch's in the last bits."""
    from idsnn_cli.spiking.triton.chain import combine, local_statistics

    norm = case.norm
    if not norm.training:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        return norm.running_mean, torch.rsqrt(norm.running_var + norm.eps)
    dense = case.x if case.x.is_contiguous(memory_format=torch.channels_last) else case.x.contiguous()
    copy = layer(norm.num_features, 0)
    combined, inverse = combine(local_statistics(dense), copy, 1, final=True)
    return combined[: norm.num_features], inverse


def check(case: Case) -> None:
    """Spikes exactly those of the formula; gradients those of torch's BatchNorm in float64 behind the exact dL/dU."""
    before = {name: buffer.clone() for name, buffer in case.norm.named_buffers()}
    mean, inverse = statistics_used(case)
    x = case.x.detach().requires_grad_()
    residual = None if case.residual is None else case.residual.detach().requires_grad_()
    spikes = fused(case, x, residual)
    torch.autograd.backward(spikes, case.grad)
    assert spikes.dtype == x.dtype
    # The formula, rounded as the kernel says.
    norm, shape = case.norm, case.x.shape
    factor = (inverse * norm.weight.detach())[:, None, None]
    z = (case.x.float() - mean[:, None, None]) * factor + norm.bias.detach()[:, None, None]
    if case.residual is not None:
        z = z + case.residual.float()
    z = z.expand(case.repeat, *shape) if case.repeat > 1 else z.view(case.steps, -1, *shape[1:])
    z = z.contiguous().requires_grad_()
    wanted = lif_reference(z, case.neuron)
    assert torch.equal(spikes.float(), wanted.detach().flatten(0, 1))
    (du,) = torch.autograd.grad(wanted, z, case.grad.float().view_as(wanted))
    by_y = du.sum(0) if case.repeat > 1 else du.flatten(0, 1)
    # Torch's BatchNorm in float64 takes dL/dU from there.
    wide = case.x.detach().double().requires_grad_()
    weight, bias = (p.detach().double().requires_grad_() for p in (norm.weight, norm.bias))
    running = [before["running_mean"].double(), before["running_var"].double()]
    momentum = 1 / 3 if norm.momentum is None else norm.momentum
    repeated = wide.repeat(case.repeat, 1, 1, 1)
    y = F.batch_norm(repeated, running[0], running[1], weight, bias, norm.training, momentum, norm.eps)
    torch.autograd.backward(y, by_y.double().repeat(case.repeat, 1, 1, 1) / case.repeat)
    assert x.grad is not None
    rtol, atol = (1e-4, 2e-5) if x.dtype == torch.float32 else (2e-2, 2e-2)
    torch.testing.assert_close(x.grad.double(), wide.grad, rtol=rtol, atol=atol)
    for found, by_torch in ((norm.weight.grad, weight.grad), (norm.bias.grad, bias.grad)):
        assert found is not None
        torch.testing.assert_close(found.double(), by_torch, rtol=1e-4, atol=1e-4)
    if residual is not None:
        assert residual.grad is not None
        exact = case.neuron.surrogate in ("rectangle", "triangle")
        assert_gradients(residual.grad, du.flatten(0, 1).to(residual.dtype), exact=exact)
    for name, value in zip(("running_mean", "running_var"), running, strict=True):
        torch.testing.assert_close(norm.get_buffer(name).double(), value, rtol=1e-5, atol=1e-6)
    assert int(norm.num_batches_tracked or 0) == 2 + int(norm.training)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    name: str = draw(st.sampled_from(["rectangle", "rectangle", "triangle", "sigmoid", "arctan", "dspike"]))
    channels, height, width = draw(st.sampled_from([(3, 4, 5), (2, 2, 2), (5, 1, 7), (1, 4, 4)]))
    steps, images = draw(st.integers(1, 5)), draw(st.integers(1, 2))
    seed = draw(st.integers(0, 2**31))
    repeat = steps if draw(st.booleans()) else 1
    dtype, layout = draw(st.sampled_from(DTYPES)), draw(st.sampled_from(sorted(LAYOUTS)))
    count = images if repeat > 1 else steps * images
    x = LAYOUTS[layout](2 * normal((count, channels, height, width), dtype, seed) + 3)
    residual = None
    if repeat == 1 and draw(st.booleans()):
        layout = draw(st.sampled_from(sorted(LAYOUTS)))
        residual = LAYOUTS[layout](normal((count, channels, height, width), dtype, seed + 1))
    layout = draw(st.sampled_from(sorted(LAYOUTS)))
    grad = LAYOUTS[layout](normal((steps * images, channels, height, width), dtype, seed + 2))
    norm = layer(channels, seed + 3, draw(st.sampled_from([0.1, 1.0, None])))
    neuron = replace(neuron_of(name), **draw(st.sampled_from(RESETS)))
    return Case(norm.train(draw(st.booleans())), neuron, steps, repeat, x, residual, grad)


@inside
@settings(deadline=None, derandomize=True, max_examples=20)
@given(cases(), st.sampled_from([64, 1024]))
def test_equals_the_formula(case: Case, block: int) -> None:
    with mock.patch.object(launch, "BLOCK", block), mock.patch.object(launch, "multiprocessors", return_value=1):
        check(case)


def plain(name: str = "rectangle", steps: int = 4, **changes: Any) -> Case:
    shape = (2 * steps, 6, 4, 3)
    x, residual, grad = (normal(shape, torch.float32, seed) for seed in range(3))
    values = {"x": x, "residual": residual, "grad": grad} | changes
    return Case(layer(6, 7), neuron_of(name), steps, 1, **values)


@inside
@pytest.mark.parametrize("kind", RESETS[:4], ids=lambda kind: "-".join(kind.values()))
@pytest.mark.parametrize("name", ["rectangle", "sigmoid"])
def test_longer_than_a_segment(name: str, kind: dict[str, Any]) -> None:
    """Three whole segments and three steps more."""
    neuron = replace(neuron_of(name), **kind)
    with mock.patch.object(launch, "SEGMENT", 4):
        check(replace(plain(name, 15), neuron=neuron))
        check(replace(plain(name, 12, residual=None), neuron=neuron))
        check(replace(plain(name, 9, residual=None, x=normal((2, 6, 4, 3), torch.float32, 0)), neuron=neuron, repeat=9))


@inside
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_statistics_far_from_zero(layout: str) -> None:
    """Mean 1000 and variance 1: a sum of squares in fp32 would keep no digit of the variance."""
    from idsnn_cli.spiking.triton.chain import combine, local_statistics

    x = LAYOUTS[layout](1000 + normal((12, 3, 4, 6), torch.float32, 0))
    norm = layer(3, 1, momentum=1.0)
    with mock.patch.object(launch, "BLOCK", 16), mock.patch.object(launch, "multiprocessors", return_value=1):
        partials = local_statistics(x)
        assert len(partials) > 1
        combined, inverse = combine(partials, norm, 3, final=True)
    mean, variance = x.double().mean((0, 2, 3)), x.double().var((0, 2, 3), correction=0)
    torch.testing.assert_close(combined[:3].double(), mean, rtol=4e-7, atol=0)
    torch.testing.assert_close(inverse.double(), 1 / (variance + norm.eps).sqrt(), rtol=2e-5, atol=0)
    assert int(combined[-1]) == 12 * 4 * 6
    copies = 3 * 12 * 4 * 6
    assert norm.running_var is not None
    torch.testing.assert_close(norm.running_var.double(), variance * copies / (copies - 1), rtol=4e-5, atol=0)


@inside
def test_exactly_at_the_threshold() -> None:
    """Statistics and parameters of round binary numbers: z = x + 1 / 4 has no rounding at all."""
    norm = BatchNorm(1, eps=0.0).eval().to(DEVICE)
    with torch.no_grad():
        norm.bias.fill_(0.25)
    x = torch.tensor([0.25, 0.25 + 2**-24, 0.25 - 2**-25, -0.25, 0.75, 0.75 - 2**-24], device=DEVICE)
    x = x.view(6, 1, 1, 1).requires_grad_()
    spikes = fused(Case(norm, Neuron(), 1, 1, x, None, x), x, None)
    (by_input,) = torch.autograd.grad(spikes.sum(), x)
    assert spikes.flatten().tolist() == [0, 1, 0, 0, 1, 1]
    assert by_input.flatten().tolist() == [1, 1, 1, 0, 0, 1]


@inside
@pytest.mark.parametrize("repeat", [1, 4])
def test_a_single_value_is_refused_and_not_counted(repeat: int) -> None:
    norm = layer(2, 4)
    before = {name: buffer.clone() for name, buffer in norm.named_buffers()}
    x = torch.zeros((1, 2, 1, 1), device=DEVICE)
    with pytest.raises(DataError) as caught:
        fused(Case(norm, Neuron(), repeat, repeat, x, None, x), x, None)
    assert "single value" in caught.value.message
    assert all(torch.equal(buffer, before[name]) for name, buffer in norm.named_buffers())


@inside
def test_the_unfused_path_computes_the_same() -> None:
    """The other side of the seam, on this device, in fp32: equal but where rounding moves a spike."""
    for case in (plain(), plain("sigmoid"), plain(residual=None)):
        x, residual = case.x.clone().requires_grad_(), case.residual
        spikes = fused(case, x, residual)
        (by_input,) = torch.autograd.grad(spikes, x, case.grad)
        norm, other = layer(6, 7), case.x.clone().requires_grad_()
        y = norm(other) if residual is None else norm(other) + residual
        wanted = LIF(case.neuron, case.steps)(y)
        assert torch.equal(spikes, wanted)
        (wanted_by_input,) = torch.autograd.grad(wanted, other, case.grad)
        torch.testing.assert_close(by_input, wanted_by_input, rtol=1e-4, atol=1e-5)


@inside
def test_what_is_kept() -> None:
    """The input of BatchNorm and two bits a neuron and step; the residual only where membranes are computed again."""
    for case in (plain("rectangle"), plain("sigmoid")):
        assert case.residual is not None
        with keeping() as kept:
            fused(case, case.x, case.residual)
        bits = [t.nbytes for t in kept if t.dtype == torch.uint8 and t.numel()]
        maps = {t.data_ptr() for t in kept if t.dtype != torch.uint8 and t.numel() > 6}
        assert bits == ([case.x[:2].numel()] if case.neuron.surrogate == "rectangle" else [])
        assert maps == {case.x.data_ptr(), *([case.residual.data_ptr()] if case.neuron.surrogate == "sigmoid" else [])}
    with torch.no_grad():
        assert not fused(case, case.x, case.residual).requires_grad


def batch() -> tuple[Tensor, Tensor, Tensor]:
    """Six images over two steps, far from zero, their residual and gradient: (6, 2, C, H, W)."""
    x, residual, grad = (normal((6, 2, 3, 2, 5), torch.float32, seed) for seed in range(3))
    return 100 + 4 * x, residual, grad


def steps_of(part: slice) -> list[Tensor]:
    """The images of ``part`` with time merged in front of them."""
    return [each[part].transpose(0, 1).flatten(0, 1) for each in batch()]


def one_chain(part: slice, name: str) -> dict[str, Tensor]:
    x, residual, grad = steps_of(part)
    case = Case(layer(3, 5), neuron_of(name), 2, 1, x.requires_grad_(), residual.requires_grad_(), grad)
    spikes = fused(case, case.x, case.residual)
    torch.autograd.backward(spikes, grad)
    assert x.grad is not None
    assert residual.grad is not None
    assert case.norm.weight.grad is not None
    assert case.norm.bias.grad is not None
    buffers = {name: buffer.clone() for name, buffer in case.norm.named_buffers()}
    own = {"spikes": spikes.detach(), "dx": x.grad, "d_residual": residual.grad}
    return {**own, "weight": case.norm.weight.grad, "bias": case.norm.bias.grad, **buffers}


# Images of the first process, of six, and the surrogate.
SHARDS: dict[str, tuple[int, str]] = {
    "uneven": (5, "sigmoid"),
    "empty": (6, "rectangle"),
}


def worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=2, timeout=timedelta(seconds=60))
    try:
        found: dict[str, Any] = {}
        for shards, (first, name) in SHARDS.items():
            found[shards] = one_chain(slice(0, first) if rank == 0 else slice(first, 6), name)
        norm, x = layer(2, 4), torch.zeros((1 - rank, 2, 1, 1))
        try:
            fused(Case(norm, Neuron(), 1, 1, x, None, x), x, None)
        except DataError as error:
            found["single value"] = error.message
        torch.save(found, f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()


@inside
@pytest.mark.skipif(COMPILED, reason="gloo's processes are on the CPU")
def test_statistics_over_two_processes(tmp_path: Path) -> None:
    """Each process has its share of the images, perhaps none; together they are one process."""
    spawn(worker, (str(tmp_path),), nprocs=2)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    results = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    for shards, (first, name) in SHARDS.items():
        wanted = one_chain(slice(0, 6), name)
        mine, other = (result[shards] for result in results)
        for key in ("spikes", "dx", "d_residual"):
            joined = torch.cat([mine[key].view(2, first, 3, 2, 5), other[key].view(2, 6 - first, 3, 2, 5)], 1)
            torch.testing.assert_close(joined, wanted[key].view(2, 6, 3, 2, 5), rtol=1e-4, atol=1e-5)
        for key in ("weight", "bias"):
            torch.testing.assert_close(mine[key] + other[key], wanted[key], rtol=1e-4, atol=1e-5)
        for key in ("running_mean", "running_var", "num_batches_tracked"):
            assert torch.equal(mine[key], other[key])
            torch.testing.assert_close(mine[key], wanted[key], rtol=1e-5, atol=1e-6)
    for result in results:
        assert "single value" in result["single value"]
