"""What training images correct in a network that is made: BatchNorm's statistics, and the biases of a conversion.

Copied statistics are wrong once ReLU has become a spike, and a converted neuron fires a little less or more than its
activation says.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from idsnn_cli.initializer.activations import activation_spaces, run_up_to, run_watched
from idsnn_cli.initializer.conversion import Conversion
from idsnn_cli.models import Model
from idsnn_cli.spiking import BatchNorm
from idsnn_cli.spiking.precision import sum_in_float64


@torch.no_grad()
def reestimate(model: nn.Module, batches: Iterable[Tensor]) -> int:
    """Replace the running statistics of every BatchNorm in ``model`` by their plain average over ``batches``.

    ``batches`` are images (N, C, H, W) on the model's device; under torch.distributed they are this process's own, and
    no other process takes part. Returns how many were used. With none, or where one fails, the statistics and counters
    are left as they were; otherwise the counters are 0, for no batch has been trained on. Every module's mode and every
    momentum are as before when this returns.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    kept = [(norm.momentum, {name: buffer.clone() for name, buffer in norm.named_buffers()}) for norm in norms]
    modes = [(module, module.training) for module in model.modules()]
    ours = [norm for norm in norms if isinstance(norm, BatchNorm)]
    scopes = [norm.across_processes for norm in ours]
    used = 0
    finished = False
    try:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
        for norm in ours:
            norm.across_processes = False
        model.train()
        for images in batches:
            model(images)
            used += 1
        finished = True
    finally:
        for module, mode in modes:
            module.training = mode
        for norm, scope in zip(ours, scopes, strict=True):
            norm.across_processes = scope
        for norm, (momentum, buffers) in zip(norms, kept, strict=True):
            norm.momentum = momentum
            if used == 0 or not finished:
                norm.load_state_dict(buffers, strict=False)
            elif norm.num_batches_tracked is not None:
                norm.num_batches_tracked.zero_()
    return used


class _Mean:
    """The mean of each channel over all maps (n, C, H, W) seen, in float64."""

    def __init__(self) -> None:
        self.sum, self.count = torch.zeros(()), 0

    def add(self, maps: Tensor) -> None:
        found = sum_in_float64(maps, (0, 2, 3))
        self.sum = found + self.sum.to(found.device)
        self.count += maps.numel() // maps.shape[1]

    def value(self) -> Tensor:
        return self.sum / self.count


@torch.no_grad()
def calibrate(model: Model, conversion: Conversion, batches: Sequence[Tensor]) -> None:
    """Correct the betas of the spiking ``model``, in place, so that each channel fires as often as it should.

    In network order, each layer behind those that are corrected already: beta -= theta * (E[rate] - E[activation] /
    lambda), means over neurons, steps and ``batches``, images (N, C, H, W) in 0 to 1 on the model's device (Li et al.
    2021, "light pipeline"; the bias that they correct is BatchNorm's beta). A block's sum is corrected in its last
    BatchNorm; where a gain multiplies the sum, by 1 / gain of that. ``model`` runs in evaluation mode; its modes are as
    before afterwards.
    """
    theta = model.architecture.neuron.v_threshold
    wanted: dict[str, _Mean] = defaultdict(_Mean)
    run_watched(conversion.reference, batches, lambda _space, where, maps: wanted[where].add(maps))
    layers, spaces = model.architecture.activation_layers(), activation_spaces(model.architecture)
    state = model.state_dict()
    for name, space in spaces.items():
        rate = _Mean()

        def see(_current: Tensor, spikes: Tensor, rate: _Mean = rate) -> None:
            rate.add(spikes)

        run_up_to(model, model.get_submodule(name), batches, see)
        norm = model.get_submodule(str(layers[name].norm))
        assert isinstance(norm, BatchNorm)
        # A block's last activation is what the block gives, and seen under the block's name.
        activation = wanted[name if name in wanted else name.rpartition(".")[0]].value()
        error = rate.value() - activation / conversion.lambdas.get(name, conversion.lambdas.get(space, 1.0))
        gain = state.get(model.architecture.gain_of(name) or "")
        # Where the sums are: an Apple GPU has no float64.
        error = theta * error if gain is None else theta * error / gain.to(error.device).to(error.dtype)
        norm.bias.sub_(error.to(norm.bias.dtype).to(norm.bias.device))
