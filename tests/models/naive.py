"""The networks of the method written a second time: one time step after another, with functional operations only.

Nothing of the package's layers is used, only a description and a state dict. The spike's backward pass is had from a
smooth function whose derivative is the surrogate.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from idsnn_cli.architecture import Architecture, Neuron

Steps = list[Tensor]  # T maps (N, C, H, W)


def spike(u: Tensor, neuron: Neuron) -> Tensor:
    """1 where U > theta, with the gradient of the surrogate."""
    v, scale = u - neuron.v_threshold, neuron.surrogate_scale
    if neuron.surrogate == "rectangle":
        smooth = v.clamp(-scale, scale) / (2 * scale)
    elif neuron.surrogate == "sigmoid":
        smooth = torch.sigmoid(scale * v)
    elif neuron.surrogate == "arctan":
        smooth = torch.atan(torch.pi * scale * v / 2) / torch.pi
    else:
        raise NotImplementedError(neuron.surrogate)
    return (u > neuron.v_threshold).to(u.dtype) + (smooth - smooth.detach())


class Naive:
    """``state`` holds the tensors by canonical name; running statistics are written to ``after`` in training."""

    def __init__(self, architecture: Architecture, state: Mapping[str, Tensor], *, training: bool) -> None:
        self.architecture, self.state, self.training = architecture, state, training
        self.after: dict[str, Tensor] = {}
        self.pooled: Steps = []

    def neuron(self, currents: Steps) -> Steps:
        neuron = self.architecture.neuron
        if self.architecture.kind == "ann":
            return [F.relu(current) for current in currents]
        u = currents[0]
        spikes = [spike(u, neuron)]
        for current in currents[1:]:
            u = neuron.decay * u * (1 - spikes[-1].detach()) + current
            spikes.append(spike(u, neuron))
        return spikes

    def conv_norm(self, conv: str, norm: str, maps: Steps, stride: int, padding: int) -> Steps:
        out = [F.conv2d(x, self.state[f"{conv}.weight"], None, stride, padding) for x in maps]
        mean, variance = self.state[f"{norm}.running_mean"], self.state[f"{norm}.running_var"]
        if self.training:
            together = torch.stack(out)  # statistics run over (T, N, H, W)
            new_mean = together.mean((0, 1, 3, 4))
            new_variance = together.var((0, 1, 3, 4), correction=0)
            count = together.numel() / together.shape[2]
            self.after[f"{norm}.running_mean"] = 0.9 * mean + 0.1 * new_mean.detach()
            self.after[f"{norm}.running_var"] = 0.9 * variance + 0.1 * new_variance.detach() * count / (count - 1)
            mean, variance = new_mean, new_variance

        def wide(channels: Tensor) -> Tensor:
            return channels.view(1, -1, 1, 1)

        gamma, beta = self.state[f"{norm}.weight"], self.state[f"{norm}.bias"]
        return [(x - wide(mean)) / torch.sqrt(wide(variance) + 1e-5) * wide(gamma) + wide(beta) for x in out]

    def around(self, at: str, maps: Steps, stride: int, channels: int) -> Steps:
        if f"{at}.shortcut.conv.weight" in self.state:
            return self.conv_norm(f"{at}.shortcut.conv", f"{at}.shortcut.norm", maps, stride, 0)
        missing = channels - maps[0].shape[1]
        if missing == 0 and stride == 1:
            return maps
        padded = []
        for x in maps:
            rows = x[:, :, ::stride, ::stride]
            if self.architecture.traits()["shortcut"] == "pad-end":
                padded.append(torch.cat([rows, rows.new_zeros((rows.shape[0], missing, *rows.shape[2:]))], 1))
                continue
            zeros = rows.new_zeros((rows.shape[0], missing // 2, *rows.shape[2:]))
            padded.append(torch.cat([zeros, rows, zeros], 1))
        return padded

    def block(self, stage: int, block: int, maps: Steps) -> Steps:
        at, stride = f"stages.{stage}.{block}", 2 if stage > 0 and block == 0 else 1
        layers = (
            [(3, stride), (3, 1)] if self.architecture.traits()["block"] == "basic" else [(1, 1), (3, stride), (1, 1)]
        )
        if self.architecture.spiking_block == "ms":
            branch = maps
            for i, (kernel, step) in enumerate(layers):
                fired = self.neuron(branch)
                branch = self.conv_norm(f"{at}.conv{i}", f"{at}.norm{i}", fired, step, kernel // 2)
            around = self.around(at, maps, stride, branch[0].shape[1])
            return [b + a for b, a in zip(branch, around, strict=True)]
        branch = maps
        for i, (kernel, step) in enumerate(layers):
            branch = self.conv_norm(f"{at}.conv{i}", f"{at}.norm{i}", branch, step, kernel // 2)
            if i < len(layers) - 1:
                branch = self.neuron(branch)
        around = self.around(at, maps, stride, branch[0].shape[1])
        if self.architecture.spiking_block == "spiking":
            return self.neuron([b + a for b, a in zip(branch, around, strict=True)])
        branch = self.neuron(branch)
        if f"{at}.shortcut.conv.weight" in self.state:
            around = self.neuron(around)
        joins = {"add": lambda b, a: b + a, "and": lambda b, a: b * a, "iand": lambda b, a: (1 - b) * a}
        return [joins[self.architecture.join](b, a) for b, a in zip(branch, around, strict=True)]

    def __call__(self, inputs: Steps) -> Tensor:
        """Logits (T, N, K) of what the stem sees at each step."""
        seven = self.architecture.traits()["stem"] == "7x7"
        maps = self.conv_norm(
            "stem.conv", "stem.norm", inputs, 2 if seven else 1, self.architecture.traits()["stem_padding"]
        )
        membranes = self.architecture.spiking_block == "ms"
        maps = maps if membranes else self.neuron(maps)
        if seven:
            maps = [F.max_pool2d(x, 3, 2, 1) for x in maps]
        for stage, depth in enumerate(self.architecture.depths):
            for block in range(depth):
                maps = self.block(stage, block, maps)
        maps = self.neuron(maps) if membranes else maps
        self.pooled = [x.flatten(2).sum(2) / x[0, 0].numel() for x in maps]
        return torch.stack([x @ self.state["head.weight"].t() + self.state["head.bias"] for x in self.pooled])
