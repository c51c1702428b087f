"""NIR files as checkpoints: canonical tensors, and what idsnn wrote beside them."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from idsnn_cli.checkpoint.file import CheckpointFile
from idsnn_cli.exchange.nir_reading import read_network


class NirFile(CheckpointFile):
    """A network in NIR: kernels as they are, with BatchNorms that add the biases. Raises :class:`CheckpointError`.

    Of another program's file ``told_neuron`` holds the constants of the neurons, which no tensor does.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        found = read_network(path)
        self.metadata = found.document
        self.notes = found.notes
        self.others = {}
        if found.document is None:
            self.told_neuron = found.neuron
            self.others = {"v_threshold": found.neuron.v_threshold, "decay": found.neuron.decay}
        self._tensors = {name: torch.from_numpy(value.copy()) for name, value in found.tensors.items()}

    def keys(self) -> tuple[str, ...]:
        return tuple(self._tensors)

    def shape(self, key: str) -> tuple[int, ...]:
        return tuple(self._tensors[key].shape)

    def dtype(self, key: str) -> torch.dtype:
        return self._tensors[key].dtype

    def get(self, key: str, device: torch.device | str = "cpu") -> Tensor:
        return self._tensors[key].to(device)

    def close(self) -> None:
        self._tensors = {}
