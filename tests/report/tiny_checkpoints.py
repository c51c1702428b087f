"""Small networks and their checkpoints, made anew by every test that wants them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from idsnn_cli.architecture import Architecture, build_description
from idsnn_cli.checkpoint import write_checkpoint
from idsnn_cli.models import build

VERSIONS = {"idsnn": "0", "torch": "0", "torchvision": "0"}


def resnet(depth: int = 8, width: int = 4, classes: int = 10, **options: Any) -> Architecture:
    return build_description(f"resnet{depth}", classes, width=width, **options)


def spiking(depth: int = 8, width: int = 4, classes: int = 10, **options: Any) -> Architecture:
    return build_description(f"spiking-resnet{depth}", classes, width=width, timesteps=2, **options)


def random_state(architecture: Architecture, seed: int = 0) -> dict[str, Tensor]:
    """A state dict whose every float differs from its start, the running statistics too."""
    state = build(architecture, seed).state_dict()
    generator = torch.Generator().manual_seed(seed)
    for name, value in state.items():
        if value.is_floating_point():
            drawn = torch.randn(value.shape, generator=generator)
            state[name] = drawn.abs() + 0.1 if name.endswith(("running_var", "input.std")) else drawn
    return state


def save(path: Path, kind: str, architecture: Architecture, state: dict[str, Tensor], **metadata: Any) -> Path:
    """Write a checkpoint with the metadata that the pipeline gives one."""
    described = {
        "kind": kind,
        "architecture": architecture.to_dict(),
        "recipe": {"seed": 3, "data": {"dataset": "digits"}},
        "provenance": {"trained": True},
        "metrics": {"epoch": 2, "test_top1": 91.5},
        "versions": VERSIONS,
    }
    write_checkpoint(path, state, described | metadata)
    return path


# How torchvision names what is canonical here; stages and blocks are handled beside it.
_TORCHVISION = (
    ("stem.conv", "conv1"),
    ("stem.norm", "bn1"),
    ("shortcut.conv", "downsample.0"),
    ("shortcut.norm", "downsample.1"),
    ("conv1.", "conv2."),
    ("conv0.", "conv1."),
    ("norm1.", "bn2."),
    ("norm0.", "bn1."),
    ("head", "fc"),
)


def torchvision_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """``state`` as torchvision would name it, without the input normalisation that it does not know."""
    renamed = {}
    for name, value in state.items():
        if name.startswith("input."):
            continue
        if name.startswith("stages."):
            _, stage, rest = name.split(".", 2)
            for ours, theirs in _TORCHVISION[2:8]:
                if ours in rest and "downsample" not in rest:
                    rest = rest.replace(ours, theirs)
                    break
            key = f"layer{int(stage) + 1}.{rest}"
        else:
            key = name
            for ours, theirs in (*_TORCHVISION[:2], _TORCHVISION[8]):
                key = key.replace(ours, theirs)
        renamed[key] = value
    return renamed
