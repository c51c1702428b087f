"""Light calibration of a converted network: biases that make mean spike rates the mean activations."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

from idsnn_cli.initializer.activations import run_watched
from idsnn_cli.initializer.converting import Conversion
from idsnn_cli.initializer.currents import run_up_to
from idsnn_cli.initializer.spaces import activation_spaces
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
    wanted: dict[str, _Mean] = defaultdict(_Mean)
    run_watched(conversion.reference, batches, lambda _space, where, maps: wanted[where].add(maps))
    for name, space in activation_spaces(model.architecture).items():
        rate = _Mean()

        def see(_current: Tensor, spikes: Tensor, rate: _Mean = rate) -> None:
            rate.add(spikes)

        run_up_to(model, model.get_submodule(name), batches, see)
        norm = model.get_submodule(name.replace("act", "norm"))
        assert isinstance(norm, BatchNorm)
        # A block's last activation is what the block gives, and seen under the block's name.
        activation = wanted[name if name in wanted else name.rpartition(".")[0]].value()
        error = rate.value() - activation / conversion.lambdas.get(space, 1.0)
        norm.bias.sub_((theta * error).to(norm.bias.dtype))
