"""Light calibration of a converted network: biases that make mean spike rates the mean activations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from idsnn_cli.initializer.activations import evaluating
from idsnn_cli.initializer.converting import Conversion, activation_spaces
from idsnn_cli.initializer.currents import run_up_to
from idsnn_cli.models import ResNet
from idsnn_cli.spiking import BatchNorm


class _Mean:
    """The mean of each channel over all maps (n, C, H, W) seen, in float64."""

    def __init__(self) -> None:
        self.sum, self.count = torch.zeros(()), 0

    def add(self, maps: Tensor) -> None:
        self.sum = maps.sum((0, 2, 3), dtype=torch.float64) + self.sum.to(maps.device)
        self.count += maps.numel() // maps.shape[1]

    def value(self) -> Tensor:
        return self.sum / self.count


@torch.no_grad()
def calibrate(model: ResNet, conversion: Conversion, batches: Sequence[Tensor]) -> None:
    """Correct the betas of the spiking ``model``, in place, so that each channel fires as often as it should.

    In network order, each layer behind those that are corrected already: beta -= theta * (E[rate] - E[activation] /
    lambda), means over neurons, steps and ``batches``, images (N, C, H, W) in 0 to 1 on the model's device (Li et al.
    2021, "light pipeline"; the bias that they correct is BatchNorm's beta). A block's sum is corrected in its last
    BatchNorm. ``model`` runs in evaluation mode; its modes are as before afterwards.
    """
    theta = model.architecture.neuron.v_threshold
    wanted = _means(conversion.reference, list(activation_spaces(model.architecture)), batches)
    for name, space in activation_spaces(model.architecture).items():
        rate = _Mean()

        def see(_current: Tensor, spikes: Tensor, rate: _Mean = rate) -> None:
            rate.add(spikes)

        run_up_to(model, model.get_submodule(name), batches, see)
        norm = model.get_submodule(name.replace("act", "norm"))
        assert isinstance(norm, BatchNorm)
        error = rate.value() - wanted[name] / conversion.lambdas.get(space, 1.0)
        norm.bias.sub_((theta * error).to(norm.bias.dtype))


def _means(model: ResNet, names: Sequence[str], batches: Iterable[Tensor]) -> dict[str, Tensor]:
    """The mean output of each channel of the modules ``names``."""
    means = {name: _Mean() for name in names}

    def hook(name: str) -> Any:
        def add(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            means[name].add(output)

        return add

    handles = [model.get_submodule(name).register_forward_hook(hook(name)) for name in names]
    try:
        with evaluating(model):
            for images in batches:
                model(images)
    finally:
        for handle in handles:
            handle.remove()
    return {name: mean.value() for name, mean in means.items()}
