"""The maps of the self-check, and what plain PyTorch makes of them: by the kernels' formula, and in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from idsnn_cli.architecture import Neuron
from idsnn_cli.spiking.norm import BatchNorm
from idsnn_cli.spiking.reference import lif_reference

Fire = Callable[[BatchNorm, Neuron, int, Tensor, Tensor | None, int], Tensor]
IMAGES, CHANNELS, SIDE, NEURONS = 2, 16, 3, 300
# How far membranes keep from the edges of what is compared exactly, and how many draws are looked through for that.
MARGIN, DRAWS = 1e-5, 64
# A part of the threshold that fp32 keeps, and that fp16 and bf16 round away beside it.
HALF_LOSES = 2.0**-13
# Draws of a value and a factor, of which a good part is sensitive to how often their product is rounded.
CANDIDATES = 4096


@dataclass(frozen=True, slots=True)
class Batch:
    """Maps (T * N, C, H, W) in NHWC order, and a norm's parameters and statistics (C,); all on the CPU."""

    x: Tensor
    residual: Tensor
    grad: Tensor
    weight: Tensor
    bias: Tensor
    mean: Tensor


@dataclass(frozen=True, slots=True)
class Maps:
    """What is checked: ``neuron`` over ``timesteps`` steps of maps in ``dtype`` on ``device``."""

    device: torch.device
    dtype: torch.dtype
    neuron: Neuron
    timesteps: int

    @property
    def exact_gradients(self) -> bool:
        """Whether the neuron's gradients have one value: without an exponential, in a dtype that everybody rounds."""
        return self.neuron.surrogate in ("rectangle", "triangle") and self.dtype == torch.float32

    @property
    def tolerance(self) -> float:
        """Of gradients, as a part of the largest."""
        return 1e-4 if self.dtype == torch.float32 else 2e-2

    def currents(self) -> tuple[Tensor, Tensor]:
        """Currents (T, M) around the threshold, and a gradient."""
        x, grad = (self._normal((self.timesteps, NEURONS), seed) for seed in (0, 1))
        return (1.5 * self.neuron.v_threshold * x).to(self.dtype), grad.to(self.dtype)

    def at_the_threshold(self) -> Batch:
        """Half the pixels of each channel are one value whose membrane is above the threshold by two roundings and not
        by one, or the other way round: (x - mean) * factor + bias with a mean of 0."""
        theta, first = (torch.tensor(v) for v in (self.neuron.v_threshold, self.neuron.first_potential))
        drawn, factors = (self._normal((CANDIDATES,), seed) for seed in (2, 3))
        values = (2 + drawn.abs()).to(self.dtype)
        # The product is some 16 times the threshold, so that its rounding is larger than one of the threshold's.
        factors = 16 * (1 + factors.abs()) * theta / values.float()
        products = values.float() * factors
        biases = (theta - first) - products
        twice = (products + biases) + first > theta
        # Exact in float64: a product of two fp32 numbers has 48 bits.
        once = (values.double() * factors.double() + biases.double()).float() + first > theta
        places = (twice != once).nonzero().flatten()
        chosen = places[torch.arange(CHANNELS) % max(len(places), 1)] if len(places) else torch.arange(CHANNELS)
        batch = self._drawn(4)
        x, residual = batch.x.clone(), batch.residual.clone()
        x[..., ::2] = values[chosen][None, :, None, None]
        x[:IMAGES] = values[chosen][None, :, None, None]
        # In the first step the other pixels are so little beside the threshold that half precision would lose it.
        residual[:IMAGES] = 0
        residual[:IMAGES, :, 0, 1::2] = self.neuron.v_threshold * HALF_LOSES
        residual[:IMAGES, :, 1:, 1::2] = -self.neuron.v_threshold * HALF_LOSES
        # And in half the channels what BatchNorm gives is, before anything is added.
        beside = theta * HALF_LOSES * torch.tensor([0.0, 1.0, 0.0, -1.0]).repeat(CHANNELS // 4)
        return Batch(x, residual, batch.grad, factors[chosen], biases[chosen] + beside, torch.zeros(CHANNELS))

    def clear_of_the_threshold(self) -> Batch:
        """Random maps whose membranes, in float64, keep clear of the threshold and of the surrogate's edges."""
        best, widest = self._drawn(5), -1.0
        for seed in range(5, 5 + DRAWS):
            batch = self._drawn(seed)
            gap = self._clearance(batch)
            if gap > widest:
                best, widest = batch, gap
            if gap > MARGIN * max(1.0, self.neuron.v_threshold):
                break
        return best

    def step(self, fire: Fire, batch: Batch, *, training: bool = True) -> Callable[[], dict[str, Tensor]]:
        """A forward and a backward pass over the same tensors on the device: its results by name."""
        norm = BatchNorm(CHANNELS, eps=1e-5 if training else 0.0)
        norm.across_processes = False
        with torch.no_grad():
            norm.weight.copy_(batch.weight)
            norm.bias.copy_(batch.bias)
            norm.get_buffer("running_mean").copy_(batch.mean)
        norm.to(self.device).train(training)
        x, residual = (each.to(self.device).detach().requires_grad_() for each in (batch.x, batch.residual))
        grad = batch.grad.to(self.device)

        def work() -> dict[str, Tensor]:
            spikes = fire(norm, self.neuron, self.timesteps, x, residual, 1)
            leaves = (x, residual, norm.weight, norm.bias)
            gradients = torch.autograd.grad(spikes, leaves, grad)
            names = ("gradients of the input", "gradients of the shortcut", "gradients of gamma", "gradients of beta")
            found = dict(zip(names, gradients, strict=True))
            if training:
                found["running variances"] = norm.get_buffer("running_var").clone()
            return {"spikes": spikes.detach(), **found}

        return work

    def run(self, fire: Fire, batch: Batch, *, training: bool) -> dict[str, Tensor]:
        return self.step(fire, batch, training=training)()

    def _drawn(self, seed: int) -> Batch:
        shape = (self.timesteps * IMAGES, CHANNELS, SIDE, SIDE)
        x, residual, grad = (
            self._normal(shape, 10 * seed + at).to(self.dtype).contiguous(memory_format=torch.channels_last)
            for at in range(3)
        )
        theta = self.neuron.v_threshold
        weight, bias = (self._normal((CHANNELS,), 10 * seed + at) for at in (3, 4))
        spread = 1.5 * theta * torch.where(weight < 0, weight - 0.5, weight + 0.5)
        residual = (0.5 * theta * residual.float()).to(self.dtype)
        return Batch(x + 3, residual, grad, spread, theta * (0.5 + bias / 2), torch.zeros(CHANNELS))

    def _clearance(self, batch: Batch) -> float:
        neuron = self.neuron
        z = _normalised(batch, batch.x.double()) + batch.residual.double()
        edges = [0.0, neuron.surrogate_scale, -neuron.surrogate_scale, 0.5, -0.5]
        start = neuron.v_threshold / 2 if neuron.start == "half" else 0.0
        u, fired, nearest = torch.tensor(start, dtype=torch.float64), torch.zeros(()), float("inf")
        for current in z.view(self.timesteps, IMAGES, CHANNELS, SIDE, SIDE):
            left = u - neuron.v_threshold * fired if neuron.reset == "soft" else u * (1 - fired)
            u = neuron.decay * left + current
            fired = (u > neuron.v_threshold).double()
            nearest = min(nearest, *(float((u - neuron.v_threshold - edge).abs().min()) for edge in edges))
        return nearest

    @staticmethod
    def _normal(shape: tuple[int, ...], seed: int) -> Tensor:
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed), device="cpu", dtype=torch.float32)


def by_formula(maps: Maps, batch: Batch, *, contracted: bool = False) -> dict[str, Tensor]:
    """What the kernels say that they compute with constant statistics, each operation rounded to fp32, on the CPU.

    ``contracted``: as a fused multiply-add would round it, once for the product and the sum.
    """
    x, residual = (each.detach().clone().requires_grad_() for each in (batch.x, batch.residual))
    weight, bias = (each.detach().clone().requires_grad_() for each in (batch.weight, batch.bias))
    per = (slice(None), None, None)
    # The running variance is 1 and eps 0; should the device round its root otherwise, the factor is rounded so, too.
    inverse = torch.rsqrt(torch.ones(CHANNELS, device=maps.device)).cpu()
    factor = inverse * weight
    # A product of two fp32 numbers has 48 bits.
    wide = torch.float64 if contracted else torch.float32
    y = (x.float() - batch.mean[per]).to(wide) * factor[per].to(wide) + bias[per].to(wide)
    return _results(maps, y.float() + residual.float(), (x, residual, weight, bias), batch)


def in_float64(maps: Maps, batch: Batch) -> dict[str, Tensor]:
    """Torch's BatchNorm and the reference neuron in float64, on the CPU."""
    leaves = [
        each.detach().double().clone().requires_grad_() for each in (batch.x, batch.residual, batch.weight, batch.bias)
    ]
    z = F.batch_norm(leaves[0], None, None, leaves[2], leaves[3], True, 0.0, 1e-5) + leaves[1]
    found = _results(maps, z, leaves, batch)
    return {**found, "running variances": 0.9 + 0.1 * leaves[0].detach().var((0, 2, 3))}


def _results(maps: Maps, z: Tensor, leaves: tuple[Tensor, ...] | list[Tensor], batch: Batch) -> dict[str, Tensor]:
    spikes = lif_reference(z.view(maps.timesteps, -1, *z.shape[1:]), maps.neuron).flatten(0, 1)
    gradients = torch.autograd.grad(spikes, leaves, batch.grad.to(spikes.dtype))
    names = ("gradients of the input", "gradients of the shortcut", "gradients of gamma", "gradients of beta")
    return {"spikes": spikes.detach(), **dict(zip(names, gradients, strict=True))}


def _normalised(batch: Batch, x: Tensor) -> Tensor:
    return F.batch_norm(x, None, None, batch.weight.double(), batch.bias.double(), True, 0.0, 1e-5)
