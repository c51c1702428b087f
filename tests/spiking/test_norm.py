"""BatchNorm over time: against torch's on the repeated input, and against sums written out in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from idsnn_cli.errors import DataError
from idsnn_cli.spiking import BatchNorm


def pair(channels: int, seed: int, momentum: float | None = 0.1) -> tuple[BatchNorm, nn.BatchNorm2d]:
    """Our layer and torch's with the same random parameters and statistics, in float64 and training mode."""
    ours = BatchNorm(channels, momentum=momentum).double()
    theirs = nn.BatchNorm2d(channels, momentum=momentum).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in (ours.weight, ours.bias, ours.running_mean, ours.running_var):
            assert tensor is not None
            tensor.copy_(torch.rand(channels, generator=generator, dtype=torch.float64) + 0.2)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def same(found: Tensor | None, wanted: Tensor | None) -> None:
    torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-12)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    repeat=st.integers(1, 8),
    shape=st.tuples(*(st.integers(1, 4) for _ in range(4))).filter(lambda s: s[0] * s[2] * s[3] > 1),
    seed=st.integers(0, 2**32 - 1),
    momentum=st.sampled_from([0.1, 0.7, 1.0, None]),
)
def test_repeat_is_the_plain_layer_on_the_repeated_input(
    repeat: int, shape: tuple[int, ...], seed: int, momentum: float | None
) -> None:
    ours, theirs = pair(shape[1], seed, momentum)
    generator = torch.Generator().manual_seed(seed + 1)
    for _ in range(3):  # the running statistics have a memory
        x = torch.randn(shape, generator=generator, dtype=torch.float64) * 3 + 5
        once, copied = x.clone().requires_grad_(), x.clone().requires_grad_()
        y = ours(once, repeat)
        wanted = theirs(copied.repeat(repeat, 1, 1, 1))
        same(y.repeat(repeat, 1, 1, 1), wanted)
        grad = torch.randn(wanted.shape, generator=generator, dtype=torch.float64)
        y.backward(grad.view(repeat, *shape).sum(0))
        wanted.backward(grad)
        same(once.grad, copied.grad)
        for name, parameter in ours.named_parameters():
            same(parameter.grad, theirs.get_parameter(name).grad)
        for name, buffer in ours.named_buffers():
            same(buffer, theirs.get_buffer(name))


def test_no_momentum_averages_the_batches() -> None:
    ours, _ = pair(3, 0, momentum=None)
    ours.reset_running_stats()
    generator = torch.Generator().manual_seed(1)
    repeat, means, variances = 4, [], []
    for images in (2, 5, 3):
        x = torch.randn((images, 3, 2, 4), generator=generator, dtype=torch.float64) + 2
        ours(x, repeat)
        values = np.tile(x.numpy(), (repeat, 1, 1, 1)).transpose(1, 0, 2, 3).reshape(3, -1)
        means.append(values.mean(1))
        variances.append(values.var(1, ddof=1))
    assert ours.running_mean is not None
    assert ours.running_var is not None
    np.testing.assert_allclose(ours.running_mean.numpy(), np.mean(means, 0), rtol=1e-12)
    np.testing.assert_allclose(ours.running_var.numpy(), np.mean(variances, 0), rtol=1e-12)


@pytest.mark.parametrize("repeat", [1, 4])
def test_evaluation_uses_the_running_statistics_and_leaves_them(repeat: int) -> None:
    ours, _ = pair(2, 4)
    before = {name: tensor.clone() for name, tensor in ours.state_dict().items()}
    x = torch.randn((1, 2, 1, 1), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    y = ours.eval()(x, repeat)
    state = {name: tensor.view(1, -1, 1, 1) for name, tensor in before.items() if tensor.dim()}
    wanted = (x - state["running_mean"]) / torch.sqrt(state["running_var"] + 1e-5) * state["weight"] + state["bias"]
    same(y, wanted)
    assert all(torch.equal(tensor, before[name]) for name, tensor in ours.state_dict().items())


@pytest.mark.parametrize("repeat", [1, 4])
def test_a_single_value_is_refused_and_not_counted(repeat: int) -> None:
    ours, _ = pair(2, 4)
    before = {name: tensor.clone() for name, tensor in ours.state_dict().items()}
    with pytest.raises(DataError) as caught:
        ours(torch.zeros((1, 2, 1, 1), dtype=torch.float64), repeat)
    assert "single value" in caught.value.message
    assert caught.value.fix
    assert all(torch.equal(tensor, before[name]) for name, tensor in ours.state_dict().items())


def test_names_and_buffers_are_those_of_torch() -> None:
    assert list(BatchNorm(3).state_dict()) == list(nn.BatchNorm2d(3).state_dict())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_maps_keep_fp32_statistics(dtype: torch.dtype) -> None:
    layer = BatchNorm(2)
    x = torch.randn((4, 2, 3, 3), generator=torch.Generator().manual_seed(5)).to(dtype)
    y = layer(x, repeat=2)
    assert y.dtype == dtype
    assert layer.running_mean is not None
    assert layer.running_mean.dtype == torch.float32
    torch.testing.assert_close(layer.running_mean, 0.1 * x.float().mean((0, 2, 3)), rtol=1e-3, atol=1e-4)
