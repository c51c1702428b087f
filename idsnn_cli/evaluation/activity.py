"""How much each layer of neurons fires."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from idsnn_cli.evaluation.watching import Watcher
from idsnn_cli.spiking import LIF


class SpikeCounter(Watcher):
    """Counts every neuron's spikes while the model runs inside ``with``.

    A neuron is a place (C, H, W) of a LIF layer. What is kept is one count for each neuron, on the model's device.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__({name: module for name, module in model.named_modules() if isinstance(module, LIF)})
        self.counts: dict[str, Tensor] = {}
        self.shown: dict[str, int] = {}  # images times steps

    def _counting(self, name: str) -> Any:
        def count(module: nn.Module, inputs: tuple[Tensor, ...], spikes: Tensor) -> None:
            # In float64: a sum in float32 or less would stop growing where it no longer tells one spike from none.
            counts = spikes.sum(0, dtype=torch.float64)
            self.counts[name] = self.counts[name] + counts if name in self.counts else counts
            self.shown[name] = self.shown.get(name, 0) + len(spikes)

        return count

    def to_list(self) -> list[dict[str, Any]]:
        """One entry for each layer that ran, in the order of the network.

        ``neurons``; ``firing_rate``, spikes for each neuron, step and image; ``silent``, the share of neurons that
        never fired on any image; ``saturated``, of those that fired at every step of every image.
        """
        return [
            {
                "layer": name,
                "neurons": counts.numel(),
                "firing_rate": float(counts.sum()) / (counts.numel() * shown),
                "silent": float((counts == 0).double().mean()),
                "saturated": float((counts == shown).double().mean()),
            }
            for name in self.layers
            if (counts := self.counts.get(name)) is not None and (shown := self.shown[name])
        ]
