"""Carrying out a plan: one gather a tensor, on the device, reading only the source tensors that the plan names."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from idsnn_cli.errors import MappingError
from idsnn_cli.initializer.plan import Entry, Plan
from idsnn_cli.initializer.rules import loop_indices

Read = Callable[[str], Tensor]


def gather(source: Tensor, entry: Entry) -> Tensor:
    """``source`` with every axis looped to the entry's shape: W'[o, i] = W[o mod O, i mod I] * scale."""
    for axis, (have, want) in enumerate(zip(source.shape, entry.shape, strict=True)):
        if have != want and axis > 1:
            raise MappingError(
                f"{entry.target} {list(entry.shape)} cannot be made from {entry.source} {list(source.shape)}: "
                "only channels are looped over",
                "Choose a target whose kernels are those of the source.",
            )
    grids = [
        torch.tensor(loop_indices(have, want), device=source.device).view(-1, *(1,) * (min(source.dim(), 2) - 1 - axis))
        for axis, (have, want) in enumerate(zip(source.shape[:2], entry.shape[:2], strict=True))
    ]
    taken = source if tuple(source.shape) == entry.shape else source[tuple(grids)]
    return taken * entry.scale if entry.scale != 1.0 else taken.clone()


def _reshaped(source: Tensor, entry: Entry) -> Tensor:
    """``source`` in the shape that the plan expects, which may differ by axes of one and nothing else."""
    expected = entry.source_shape or ()
    # Some libraries store a linear layer as a 1x1 convolution, or statistics with extra axes.
    if [size for size in source.shape if size != 1] != [size for size in expected if size != 1]:
        raise MappingError(
            f"{entry.source} is {list(source.shape)}, but the plan for {entry.target} expects {list(expected)}",
            "Make the plan from this source.",
        )
    return source.reshape(expected)


def apply(plan: Plan, read: Read, start: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """The target's state dict.

    ``read`` gives a source tensor by the source's own key, on any device; ``start`` is the target's own random state
    (canonical names), which random and constant entries keep. Values take the dtype of ``start``; NaN or infinite
    source values raise :class:`MappingError`, for a spiking neuron would swallow them silently.
    """
    state: dict[str, Tensor] = {}
    for entry in plan.entries:
        own = start[entry.target]
        if entry.source is None:
            state[entry.target] = own.to(device, copy=True)
            continue
        source = read(entry.source).to(device=device)
        if tuple(source.shape) != entry.source_shape:
            source = _reshaped(source, entry)
        value = gather(source.to(own.dtype), entry)
        if not torch.isfinite(value).all():
            raise MappingError(
                f"{entry.source} holds NaN or infinite values, so {entry.target} cannot start from it",
                "Use another checkpoint of the source.",
            )
        state[entry.target] = value
    return state
