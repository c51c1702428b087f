"""BatchNorm statistics of the network that will use them: copied ones are wrong once ReLU has become a spike."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from idsnn_cli.spiking import BatchNorm


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
