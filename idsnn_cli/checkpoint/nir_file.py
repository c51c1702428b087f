"""NIR files as checkpoints: canonical tensors, and what idsnn wrote beside them."""

from __future__ import annotations

from pathlib import Path

import torch

from idsnn_cli.checkpoint.file import HeldTensors
from idsnn_cli.exchange.nir_reading import read_network


class NirFile(HeldTensors):
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
            self.others = {"v_threshold": found.neuron.v_threshold}
            if found.architecture.learn_decay == "none":
                self.others |= {"decay": found.neuron.decay}
        self._tensors = {name: torch.from_numpy(value.copy()) for name, value in found.tensors.items()}
