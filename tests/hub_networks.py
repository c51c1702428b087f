"""What the tests of the hub put there: a foreign file, a pickle, one of ours."""

from __future__ import annotations

from pathlib import Path

import torch
from foreign_networks import torchvision_state
from invoking import save_network

from idsnn_cli.architecture import build_description

ANN = build_description("resnet18", 10, width=4, stem="3x3")
SPIKING = build_description("spiking-resnet8", 10, width=4, stem="7x7").changed(timesteps=2)


def foreign(seed: int = 0) -> bytes:
    """A safetensors file that says nothing but its tensors."""
    from safetensors.torch import save

    return save({key: value.contiguous() for key, value in torchvision_state(ANN, seed).items()})


def pickled(seed: int = 0) -> bytes:
    torch.save(torchvision_state(ANN, seed), "kept.pth")
    return Path("kept.pth").read_bytes()


def ours() -> bytes:
    return save_network(Path("ours.safetensors"), "student", SPIKING).read_bytes()
