"""What forms that any program can run have in common: the network recorded by torch.export, for a batch of any size."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import nn

from idsnn_cli.architecture import Architecture
from idsnn_cli.errors import UsageError
from idsnn_cli.export.base import Student
from idsnn_cli.models import Model
from idsnn_cli.spiking import LIF


def require_recordable(architecture: Architecture, where: object) -> None:
    """Raise :class:`UsageError` for a network that draws random numbers."""
    if architecture.coding == "poisson":
        raise UsageError(
            f"{where} codes images as random spikes (Poisson), and a graph would hold one draw for all",
            "Use --format nir, which is given the spikes.",
        )


def recorded(student: Student, dtype: torch.dtype) -> tuple[Model, Any]:
    """The student in ``dtype`` without gradients, its decays constants, and torch.export's program of it: images
    (N, C, H, W) in 0 to 1 of the student's size, or recordings (N, T, C, H, W) of one that reads frames, to its logits,
    (T, N, K), for any N.
    """
    model = deepcopy(student.model).to(dtype).eval().requires_grad_(False)
    # Another program's sigmoid may round otherwise.
    for module in model.modules():
        if isinstance(module, LIF):
            module.freeze_decay()
    # Two: a batch of one would be taken for a constant.
    example = torch.zeros((2, *_image_shape(student)), dtype=dtype)
    with torch.no_grad():
        program = torch.export.export(model, (example,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    return model, program


def _image_shape(student: Student) -> tuple[int, ...]:
    """(C, H, W) of an image, (T, C, H, W) of a recording."""
    architecture = student.architecture
    frames = (architecture.timesteps,) if architecture.coding == "frames" else ()
    return (*frames, architecture.in_channels, *student.image_size())


def facts_of(model: nn.Module, student: Student, dtype: torch.dtype) -> dict[str, Any]:
    """What is worth telling of the program."""
    architecture = student.architecture
    height, width = student.image_size()
    spiking = architecture.kind == "spiking"
    return {
        "input": f"images: (N, {', '.join(map(str, _image_shape(student)))}) in 0 to 1",
        "output": f"logits: ({architecture.timesteps}, N, {architecture.num_classes})"
        if spiking
        else f"logits: (N, {architecture.num_classes})",
        "readout": "the mean over the time steps, axis 0" if spiking else "as they are",
        "dtype": str(dtype).removeprefix("torch."),
        "image_size": [height, width],
        "timesteps": architecture.timesteps,
    }


def told(facts: Any) -> str:
    """The line for a person."""
    return (
        f"{facts['input']} as {facts['dtype']}, {facts['output']}, for any N; the answer: {facts['readout']}. "
        "The input normalisation is inside."
    )
