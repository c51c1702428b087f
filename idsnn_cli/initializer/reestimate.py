"""BatchNorm statistics of the network that will use them: copied ones are wrong once ReLU has become a spike."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


@torch.no_grad()
def reestimate(model: nn.Module, batches: Iterable[Tensor]) -> int:
    """Replace the running statistics of every BatchNorm in ``model`` by their plain average over ``batches``.

    ``batches`` are images (N, C, H, W) on the model's device. Returns how many were used; with none the statistics are
    left as they were. The model's mode and momenta are as before when this returns.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    kept = [(norm.momentum, {k: v.clone() for k, v in norm.named_buffers()}) for norm in norms]
    was_training = model.training
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    model.train()
    used = 0
    try:
        for images in batches:
            model(images)
            used += 1
    finally:
        model.train(was_training)
        for norm, (momentum, buffers) in zip(norms, kept, strict=True):
            norm.momentum = momentum
            if used == 0:
                norm.load_state_dict(buffers, strict=False)
            assert norm.num_batches_tracked is not None
            norm.num_batches_tracked.zero_()
    return used
