"""Operations and energy by the convention of SNN papers: accumulates where spikes arrive, products where values do."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from idsnn_cli.evaluation.watching import Watcher

# 45 nm, 32-bit (Horowitz 2014), in picojoules.
ACCUMULATE_PJ, MULTIPLY_ACCUMULATE_PJ = 0.9, 4.6
CAVEATS = (
    "An estimate by convention (45 nm, 32-bit: 0.9 pJ an accumulate, 4.6 pJ a multiply-accumulate), not a measurement.",
    "Memory traffic is left out; neurons, pooling, and what shortcuts without weights add and scale cost nothing here.",
    "BatchNorm is taken as folded into the convolutions.",
    "SynOps = firing rate of the layer's input x T x its MACs; borders and strides are not looked at pixel by pixel.",
    "The first layer counts MACs, once, where the image is repeated; the linear layer reads rates and counts MACs.",
    "The ANN beside it is the same network with every layer in MACs, once.",
)
AMPLITUDES = "Spikes of learnt amplitudes count as one accumulate each, which they are once folded (idsnn export)."
SUMS = (
    "Sums of spikes (SEW blocks, join add) are integers: each counts as that many accumulates, so input % may pass 100."
)
# What a convolution or linear layer may be.
_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Linear)


@dataclass
class _Seen:
    macs: int
    total: Tensor | float = 0.0  # sum of all that the layer read, on its device
    values: int = 0  # how many values that were


class OperationCounter(Watcher):
    """Counts each layer's MACs, and the spikes that it reads, while the model runs inside ``with``.

    ``reads_values`` names the layers whose input is values, not spikes; ``None`` stands for all of them (an ANN). A
    spike may be an integer above 1 (SEW-ADD): it counts as that many. ``timesteps`` is T. With ``amplitudes`` spikes
    have learnt ones: each counts as one, whatever its amplitude. With ``sums`` there are such integers, and a caveat
    says so.
    """

    def __init__(
        self,
        model: nn.Module,
        timesteps: int,
        reads_values: Collection[str] | None,
        *,
        amplitudes: bool = False,
        sums: bool = False,
    ) -> None:
        super().__init__({name: module for name, module in model.named_modules() if isinstance(module, _LAYERS)})
        self.timesteps, self.amplitudes, self.sums = timesteps, amplitudes, sums
        self.reads_values = set(self.layers) if reads_values is None else set(reads_values)
        self.seen: dict[str, _Seen] = {}

    def _counting(self, name: str) -> Any:
        spikes = name not in self.reads_values

        def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            seen = self.seen.setdefault(name, _Seen(_macs(module, output)))
            if spikes:
                spikes_NCHW = inputs[0] != 0 if self.amplitudes else inputs[0]
                seen.total = seen.total + spikes_NCHW.sum(dtype=torch.float64)
                seen.values += inputs[0].numel()

        return count

    def to_dict(self) -> dict[str, Any]:
        """The figures of one image: ``layers`` and their sums.

        Each layer has its ``macs``, what it ``reads`` (values or spikes), ``input_rate`` (spikes for each value that it
        reads and step; None where it reads values), ``synops`` (0 there), ``energy_uj``, microjoules, and the ANN's
        ``ann_energy_uj``. In all:
        ``macs`` that are multiplied, ``synops``, ``energy_uj``, those of the same network as an ANN (``ann_macs``,
        ``ann_energy_uj``), ``ratio``, the ANN's energy over this one's (None where that is zero), and ``caveats``.
        """
        layers = [self._layer(name, self.seen[name]) for name in self.layers if name in self.seen]
        macs = sum(layer["macs"] for layer in layers if layer["reads"] == "values")
        energy, ann_macs = sum(layer["energy_uj"] for layer in layers), sum(layer["macs"] for layer in layers)
        ann_energy = ann_macs * MULTIPLY_ACCUMULATE_PJ / 1e6
        return {
            "layers": layers,
            "macs": macs,
            "synops": sum(layer["synops"] for layer in layers),
            "energy_uj": energy,
            "ann_macs": ann_macs,
            "ann_energy_uj": ann_energy,
            "ratio": ann_energy / energy if energy > 0 else None,
            "caveats": [*CAVEATS, *([AMPLITUDES] if self.amplitudes else []), *([SUMS] if self.sums else [])],
        }

    def _layer(self, name: str, seen: _Seen) -> dict[str, Any]:
        if name in self.reads_values:
            energy = seen.macs * MULTIPLY_ACCUMULATE_PJ / 1e6
            rest = {"reads": "values", "input_rate": None, "synops": 0.0}
        else:
            rate = float(seen.total) / seen.values if seen.values else 0.0
            synops = rate * self.timesteps * seen.macs
            energy = synops * ACCUMULATE_PJ / 1e6
            rest = {"reads": "spikes", "input_rate": rate, "synops": synops}
        ann_energy = seen.macs * MULTIPLY_ACCUMULATE_PJ / 1e6
        return {"layer": name, "macs": seen.macs, **rest, "energy_uj": energy, "ann_energy_uj": ann_energy}


def _macs(module: nn.Module, output: Tensor) -> int:
    """Multiply-accumulates for one map (or vector): every output value takes one product for each of its weights."""
    if isinstance(module, nn.Linear):
        return module.weight.numel()
    assert isinstance(module, nn.Conv1d | nn.Conv2d)
    return output[0].numel() * module.weight[0].numel()
