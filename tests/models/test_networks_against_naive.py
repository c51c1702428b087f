"""Forward, gradients and running statistics of whole networks against the naive implementation, in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from naive import Naive
from torch import Tensor

from idsnn_cli.architecture import Architecture, Neuron, build_description
from idsnn_cli.models import Model, build, per_step
from idsnn_cli.spiking import PoissonEncoder, seed_encoders

SMOOTH = Neuron(0.5, 0.4, "sigmoid", 4.0)


def spiking(name: str = "spiking-resnet14", timesteps: int = 3, width: int = 4, **options: Any) -> Architecture:
    return build_description(name, 5, width=width, timesteps=timesteps, **options)


CASES: dict[str, tuple[Architecture, int]] = {
    "rectangle": (spiking(), 8),
    "smooth": (spiking(neuron=SMOOTH), 8),
    "one step": (spiking(timesteps=1), 8),
    "seven steps": (spiking(timesteps=7, neuron=Neuron(0.3, 0.9, "arctan", 2.0)), 8),
    "option A": (spiking(shortcut="pad"), 8),
    "option A, zeros behind": (spiking(shortcut="pad-end"), 8),
    "stem padded by 3": (spiking(stem_padding=3), 6),
    "7x7 stem": (spiking("spiking-resnet18", stem="7x7", width=2), 32),
    "poisson": (spiking(coding="poisson"), 8),
    "poisson, 7x7 stem": (spiking("spiking-resnet18", stem="7x7", width=2, coding="poisson"), 32),
    "SEW add": (spiking(spiking_block="sew", join="add"), 8),
    "SEW and": (spiking(spiking_block="sew", join="and"), 8),
    "SEW iand": (spiking(spiking_block="sew", join="iand"), 8),
    "SEW add, option A": (spiking(spiking_block="sew", shortcut="pad"), 8),
    "SEW, smooth, 7x7 stem": (
        spiking("spiking-resnet18", stem="7x7", width=2, neuron=SMOOTH, spiking_block="sew"),
        32,
    ),
    "MS": (spiking(spiking_block="ms"), 8),
    "MS, option A": (spiking(spiking_block="ms", shortcut="pad"), 8),
    "MS, zeros behind": (spiking(spiking_block="ms", shortcut="pad-end"), 8),
    "MS, poisson": (spiking(spiking_block="ms", coding="poisson"), 8),
    "MS, one step": (spiking(spiking_block="ms", timesteps=1), 8),
    "MS, smooth, 7x7 stem": (
        spiking("spiking-resnet18", stem="7x7", width=2, neuron=SMOOTH, spiking_block="ms"),
        32,
    ),
    "bottleneck": (spiking("spiking-resnet50", width=2), 16),
    "bottleneck, smooth, 7x7 stem": (spiking("spiking-resnet50", stem="7x7", width=2, neuron=SMOOTH), 32),
    "bottleneck, SEW add": (spiking("spiking-resnet50", width=2, spiking_block="sew", join="add"), 16),
    "bottleneck, SEW iand": (spiking("spiking-resnet50", width=2, spiking_block="sew", join="iand"), 16),
    "bottleneck, MS": (spiking("spiking-resnet50", width=2, spiking_block="ms"), 16),
    "bottleneck, MS, smooth": (spiking("spiking-resnet50", width=2, spiking_block="ms", neuron=SMOOTH), 16),
    "ANN": (build_description("resnet14", 5, width=4), 8),
    "ANN, option A": (build_description("resnet14", 5, width=4, shortcut="pad"), 8),
    "ANN, option A, zeros behind": (build_description("resnet14", 5, width=4, shortcut="pad-end"), 8),
    "ANN, bottleneck": (build_description("resnet50", 5, width=2), 8),
}


def lively(architecture: Architecture) -> Model:
    """The network in float64 with every tensor random, so that nothing is hidden by a 0 or a 1."""
    model = build(architecture, seed=1).double()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith(("running_var", "input.std")):
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator, dtype=torch.float64))
            elif name.endswith(("bias", "running_mean", "input.mean")):
                tensor.copy_(0.3 * torch.randn(tensor.shape, generator=generator, dtype=torch.float64))
            elif "norm" in name and name.endswith(".weight"):
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator, dtype=torch.float64))
    return model


def images(size: int) -> Tensor:
    return torch.rand((4, 3, size, size), generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def stem_inputs(model: Model, batch: Tensor, seed: int) -> list[Tensor]:
    """What the stem sees at each step: the normalised image repeated, or Poisson spikes of the image itself."""
    architecture = model.architecture
    if architecture.coding == "poisson":
        encoder = PoissonEncoder(architecture.timesteps)
        encoder.seed(seed)
        return list(encoder(batch))
    steps = architecture.timesteps
    return [(batch - model.input.mean) / model.input.std] * steps


@pytest.mark.parametrize("name", CASES)
def test_training_mode(name: str) -> None:
    architecture, size = CASES[name]
    model, batch = lively(architecture).train(), images(size)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    parameters = dict(model.named_parameters())
    leaves = {key: state[key].requires_grad_() for key in parameters}
    naive = Naive(architecture, {**state, **leaves}, training=True)
    wanted = naive(stem_inputs(model, batch, 11))
    seed_encoders(model, 11)
    logits = model(batch)
    assert logits.dim() == (3 if architecture.kind == "spiking" else 2)
    torch.testing.assert_close(per_step(logits), wanted, rtol=1e-9, atol=1e-10)
    grad = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    found_grads = torch.autograd.grad(per_step(logits), list(parameters.values()), grad)
    wanted_grads = torch.autograd.grad(wanted, list(leaves.values()), grad)
    for key, found, right in zip(parameters, found_grads, wanted_grads, strict=True):
        torch.testing.assert_close(found, right, rtol=1e-7, atol=1e-9, msg=key)
    by_name = dict(zip(parameters, found_grads, strict=True))
    assert by_name["stem.conv.weight"].abs().max() > 1e-6, "the case is dead and proves nothing"
    for key, right in naive.after.items():
        torch.testing.assert_close(model.state_dict()[key], right, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_evaluation_mode(name: str) -> None:
    architecture, size = CASES[name]
    model, batch = lively(architecture).eval(), images(size)
    naive = Naive(architecture, model.state_dict(), training=False)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    seed_encoders(model, 5)
    with torch.no_grad():
        logits = per_step(model(batch))
        wanted = naive(stem_inputs(model, batch, 5))
    torch.testing.assert_close(logits, wanted, rtol=1e-9, atol=1e-10)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    # Section 3.2.2's readout: the linear layer on the mean over T of the pooled spikes.
    readout = torch.nn.functional.linear(torch.stack(naive.pooled).mean(0), model.head.weight, model.head.bias)
    torch.testing.assert_close(logits.mean(0), readout, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", ["rectangle", "SEW add", "7x7 stem", "poisson"])
def test_channels_last_weights_learn_the_same(name: str) -> None:
    """Training runs with NHWC maps, whose readout sends back a gradient in another layout."""
    architecture, size = CASES[name]
    batch = images(size)
    grads = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        model = lively(architecture).train()
        for parameter in model.parameters():
            if parameter.dim() == 4:
                parameter.data = parameter.data.contiguous(memory_format=memory_format)
        seed_encoders(model, 6)
        loss = model(batch).mean(0).square().sum()
        grads.append(torch.autograd.grad(loss, list(model.parameters())))
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)
