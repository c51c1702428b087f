"""State dicts as other projects write them, made from networks of ours."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor

from idsnn_cli.architecture import Architecture
from idsnn_cli.models import build

# Canonical name to torchvision's, counted from 0 and from 1.
_NAMES = (
    (r"^stem\.conv", "conv1"),
    (r"^stem\.norm", "bn1"),
    (r"^head", "fc"),
    (r"shortcut\.conv", "downsample.0"),
    (r"shortcut\.norm", "downsample.1"),
)


def torchvision_name(name: str) -> str:
    for pattern, new in _NAMES:
        name = re.sub(pattern, new, name)
    name = re.sub(r"\.(conv|norm)(\d)\.", lambda m: f".{'conv' if m[1] == 'conv' else 'bn'}{int(m[2]) + 1}.", name)
    return re.sub(r"^stages\.(\d)", lambda m: f"layer{int(m[1]) + 1}", name)


def torchvision_state(architecture: Architecture, seed: int = 0) -> dict[str, Tensor]:
    """Random weights under torchvision's names, without an input normalisation."""
    state = build(architecture, seed).state_dict()
    return {torchvision_name(name): value for name, value in state.items() if not name.startswith("input.")}


def save_torchvision(path: Path, architecture: Architecture, seed: int = 0) -> Path:
    torch.save({"state_dict": torchvision_state(architecture, seed), "epoch": 3}, path)
    return path
