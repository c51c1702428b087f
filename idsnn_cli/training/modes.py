"""How a training runs its networks: with the host looking on or not, and the teacher without gradients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from idsnn_cli.models import ResNet


def is_watched(device: torch.device, precision: str) -> bool:
    """Whether steps run without the host: on CUDA, but not in fp16, whose scaler is asked at each."""
    return device.type == "cuda" and precision != "fp16"


@contextmanager
def frozen(model: ResNet) -> Iterator[ResNet]:
    """The teacher while it teaches: evaluation mode, no gradients; as before afterwards."""
    was_training = model.training
    flags = [p.requires_grad for p in model.parameters()]
    model.eval().requires_grad_(False)
    try:
        yield model
    finally:
        model.train(was_training)
        for parameter, flag in zip(model.parameters(), flags, strict=True):
            parameter.requires_grad_(flag)
