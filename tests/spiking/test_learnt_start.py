"""Neurons that learn what they start with: the layer, the loops of numba and single steps, against the reference."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from idsnn_cli.architecture import Neuron, build_description
from idsnn_cli.models import build
from idsnn_cli.models.building import prolonged
from idsnn_cli.spiking import LIF, BatchNorm, fire, fire_membranes, lif_reference
from idsnn_cli.spiking.fused import is_compiled
from idsnn_cli.spiking.membranes import _takes_activation

HARD = Neuron()
FULL = Neuron(v_threshold=0.75, decay=1.0, reset="soft", start="half", reset_gradient="full")
STEPS, IMAGES, CHANNELS = 3, 2, 16


def maps_of(seed: int, dtype: torch.dtype, images: int = STEPS * IMAGES) -> Tensor:
    drawn = torch.randn(images, CHANNELS, 4, 4, generator=torch.Generator().manual_seed(seed))
    return drawn.bfloat16().to(dtype).to(memory_format=torch.channels_last)


def layer(neuron: Neuron) -> LIF:
    act = LIF(neuron, STEPS)
    act.start_shift = nn.Parameter(torch.linspace(-0.6, 0.6, CHANNELS))
    return act


def wanted(act: LIF, current: Tensor, grad: Tensor, first: Tensor) -> tuple[Tensor, ...]:
    """Spikes, and gradients of ``first``, of which ``current`` (T, N, ...) comes, and of the shift: the reference's."""
    assert act.start_shift is not None
    shift = act.start_shift.detach().double().requires_grad_()
    shifted = torch.cat([current[:1] + shift.view(-1, 1, 1), current[1:]])
    spikes = lif_reference(shifted, act.neuron).flatten(0, 1)
    torch.autograd.backward(spikes, grad)
    assert first.grad is not None
    assert shift.grad is not None
    return spikes.detach(), first.grad, shift.grad


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("neuron", [HARD, FULL], ids=["hard", "full"])
def test_a_shift_is_a_current_of_the_first_step(neuron: Neuron, dtype: torch.dtype) -> None:
    """Of membranes, read by the loops in bf16: every spike of float64, and the gradients."""
    act, grad = layer(neuron), maps_of(2, torch.float64)
    first = maps_of(1, torch.float64).requires_grad_()
    right = wanted(act, first.view(STEPS, IMAGES, *first.shape[1:]), grad, first)
    x = maps_of(1, dtype).requires_grad_()
    assert _takes_activation(act, x, None) is (dtype == torch.bfloat16)
    spikes, _ = fire_membranes(act, x)
    torch.autograd.backward(spikes, grad.to(dtype))
    assert x.grad is not None
    assert act.start_shift is not None
    assert act.start_shift.grad is not None
    assert torch.equal(spikes.double(), right[0])
    for found, exact in zip((x.grad, act.start_shift.grad), right[1:], strict=True):
        assert float((found - exact).norm() / exact.norm()) < (1e-2 if dtype == torch.bfloat16 else 1e-6)


@pytest.mark.parametrize("repeat", [1, STEPS])
@pytest.mark.parametrize("neuron", [HARD, FULL], ids=["hard", "full"])
def test_behind_batchnorm_by_the_loops_as_by_the_layers(neuron: Neuron, repeat: int) -> None:
    found = []
    for dtype in (torch.float64, torch.bfloat16):
        act, norm = layer(neuron), BatchNorm(CHANNELS).to(torch.float64 if dtype == torch.float64 else torch.float32)
        x = maps_of(3, dtype, STEPS * IMAGES // repeat).requires_grad_()
        assert is_compiled(norm, act, x, None) is (dtype == torch.bfloat16)
        spikes = fire(norm, act, x, None, repeat)
        torch.autograd.backward(spikes, maps_of(4, dtype))
        assert act.start_shift is not None
        found.append((spikes.detach(), x.grad, act.start_shift.grad, norm.weight.grad, norm.bias.grad))
    for exact, loops in zip(*found, strict=True):
        assert exact is not None
        assert loops is not None
        assert float((loops - exact).norm() / exact.norm()) < 2e-2


@pytest.mark.parametrize(
    ("arch", "traits"),
    [
        ("spiking-resnet8", {"spiking_block": "ms", "amplitude": "folded-layer", "shortcut": "pad"}),
        ("spiking-resnet8", {"spiking_block": "sew", "learn_decay": "layer", "neuron": replace(HARD, decay=0.5)}),
        ("spiking-resnet8", {"coding": "poisson"}),
        ("spiking-vgg11", {"head_widths": (12,)}),
    ],
    ids=["ms", "sew", "poisson", "vgg"],
)
def test_single_steps_and_more_of_them_begin_alike(arch: str, traits: dict[str, object]) -> None:
    described = {"neuron": FULL, **traits, "timesteps": STEPS, "learn_start": "channel", "width": 8}
    network = build(build_description(arch, 10, **described), seed=1).eval()
    shifts = {name: each for name, each in network.named_parameters() if name.endswith("start_shift")}
    acts = [name for name, each in network.named_modules() if isinstance(each, LIF)]
    assert sorted(shifts) == sorted(f"{act}.start_shift" for act in acts)
    assert not any(bool(each.any()) for each in shifts.values()), "it begins with the neuron's own start"
    plain = network(torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(2)))
    with torch.no_grad():
        for each in shifts.values():
            each.normal_(0, 0.4, generator=torch.Generator().manual_seed(3))
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    if "coding" in traits:
        return
    logits = network(images)
    assert not torch.equal(logits, plain)
    network.reset()
    for t in range(STEPS):
        assert torch.allclose(network.step(images), logits[t], atol=1e-5)
    assert torch.allclose(prolonged(network, STEPS + 2)(images)[:STEPS], logits, atol=1e-5)
