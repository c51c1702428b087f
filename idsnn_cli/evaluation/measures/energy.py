"""Operations and energy by the convention of SNN papers: accumulates where spikes arrive, products where values do."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from torch import Tensor, nn

from idsnn_cli.evaluation.accuracy import MeasuredNetwork
from idsnn_cli.evaluation.measure import ObservingMeasure, Shown, Work
from idsnn_cli.evaluation.observation import Hook, Watcher
from idsnn_cli.figures import BarChart, BarPanel, Plot, ResultTable
from idsnn_cli.results import Result
from idsnn_cli.spiking.precision import sum_in_float64

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
MEMBRANES = "Projections of MS blocks read membranes: they count T times their MACs, and no accumulates."
FRAMES = "The first layer reads counts of events, another frame at each step: T times its MACs, whatever is 0 in them."
# What a convolution or linear layer may be.
_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Linear)


@dataclass(frozen=True, slots=True)
class LayerEnergy(Result):
    """One layer's operations, for one image."""

    layer: Annotated[str, "its canonical name"]
    macs: Annotated[int, "multiply-accumulates of one pass over it"]
    reads: Annotated[Literal["values", "spikes"], "what arrives at it"]
    input_rate: Annotated[float | None, "spikes for each value that it reads and step; null where it reads values"]
    synops: Annotated[float, "input rate x T x MACs; 0 where it reads values"]
    energy_uj: Annotated[float, "microjoules"]
    ann_energy_uj: Annotated[float, "microjoules of the same layer in an ANN"]


@dataclass(frozen=True, slots=True)
class Energy(Result):
    """Operations and energy of one image, an estimate by convention."""

    layers: Annotated[list[LayerEnergy], "in the order of the network"]
    macs: Annotated[int, "that are multiplied"]
    synops: Annotated[float, "accumulates of spikes"]
    energy_uj: Annotated[float, "microjoules"]
    ann_macs: Annotated[int, "of the same network as an ANN"]
    ann_energy_uj: Annotated[float, "microjoules of the same network as an ANN"]
    ratio: Annotated[float | None, "the ANN's energy over this one's; null where that is zero"]
    caveats: Annotated[list[str], "what the estimate leaves out"]


@dataclass
class _Seen:
    macs: int
    total: Tensor | float = 0.0  # sum of all that the layer read, on its device
    values: int = 0  # how many values that were


class OperationCounter(Watcher[Energy]):
    """Counts each layer's MACs, and the spikes that it reads, while the model runs inside ``with``.

    ``reads_values`` names the layers whose input is values, not spikes; ``None`` stands for all of them (an ANN). A
    spike may be an integer above 1 (SEW-ADD): it counts as that many. ``each_step`` names those of them whose values
    are others at every step, so that their MACs count T times. ``timesteps`` is T. With ``amplitudes`` spikes
    have learnt ones: each counts as one, whatever its amplitude. With ``sums`` there are such integers, and a caveat
    says so. ``frames`` names those of ``each_step`` that read frames of events.
    """

    def __init__(
        self,
        model: nn.Module,
        timesteps: int,
        reads_values: Collection[str] | None,
        *,
        amplitudes: bool = False,
        sums: bool = False,
        each_step: Collection[str] = (),
        frames: Collection[str] = (),
    ) -> None:
        super().__init__({name: module for name, module in model.named_modules() if isinstance(module, _LAYERS)})
        self.timesteps, self.amplitudes, self.sums = timesteps, amplitudes, sums
        self.reads_values = set(self.layers) if reads_values is None else set(reads_values)
        self.each_step, self.frames = set(each_step), set(frames)
        self.seen: dict[str, _Seen] = {}

    def _counting(self, name: str) -> Hook:
        spikes = name not in self.reads_values

        def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            seen = self.seen.setdefault(name, _Seen(_macs(module, output)))
            if spikes:
                spikes_NCHW = inputs[0] != 0 if self.amplitudes else inputs[0]
                seen.total = seen.total + sum_in_float64(spikes_NCHW)
                seen.values += inputs[0].numel()

        return count

    def result(self) -> Energy:
        """The figures of one image."""
        layers = [self._layer(name, self.seen[name]) for name in self.layers if name in self.seen]
        energy, ann_macs = sum(layer.energy_uj for layer in layers), sum(layer.macs for layer in layers)
        ann_energy = ann_macs * MULTIPLY_ACCUMULATE_PJ / 1e6
        return Energy(
            layers=layers,
            macs=sum(layer.macs * self._passes(layer.layer) for layer in layers if layer.reads == "values"),
            synops=sum(layer.synops for layer in layers),
            energy_uj=energy,
            ann_macs=ann_macs,
            ann_energy_uj=ann_energy,
            ratio=ann_energy / energy if energy > 0 else None,
            caveats=[
                *CAVEATS,
                *([AMPLITUDES] if self.amplitudes else []),
                *([SUMS] if self.sums else []),
                *([MEMBRANES] if self.each_step - self.frames else []),
                *([FRAMES] if self.frames else []),
            ],
        )

    def _passes(self, name: str) -> int:
        return self.timesteps if name in self.each_step else 1

    def _layer(self, name: str, seen: _Seen) -> LayerEnergy:
        ann_energy = seen.macs * MULTIPLY_ACCUMULATE_PJ / 1e6
        if name in self.reads_values:
            return LayerEnergy(name, seen.macs, "values", None, 0.0, ann_energy * self._passes(name), ann_energy)
        rate = float(seen.total) / seen.values if seen.values else 0.0
        synops = rate * self.timesteps * seen.macs
        return LayerEnergy(name, seen.macs, "spikes", rate, synops, synops * ACCUMULATE_PJ / 1e6, ann_energy)


def _macs(module: nn.Module, output: Tensor) -> int:
    """Multiply-accumulates for one map (or vector): every output value takes one product for each of its weights."""
    if isinstance(module, nn.Linear):
        return module.weight.numel()
    assert isinstance(module, nn.Conv1d | nn.Conv2d)
    return output[0].numel() * module.weight[0].numel()


class EnergyMeasure(ObservingMeasure[Energy]):
    words = (
        "for each layer and in all: MACs, SynOps = input rate x T x MACs, energy at 0.9 pJ an accumulate and 4.6 pJ a "
        "multiply-accumulate, and the same network as an ANN"
    )
    found = Energy
    remarks_title = "the energy figures"

    def observe(self, work: Work) -> OperationCounter:
        architecture = work.model.architecture
        spiking = architecture.kind == "spiking"
        return OperationCounter(
            work.model,
            architecture.timesteps,
            architecture.reading_values(),
            amplitudes=architecture.amplitude == "channel",
            sums=spiking and architecture.spiking_block == "sew" and architecture.join == "add",
            each_step=architecture.running_each_step(),
            frames=architecture.running_each_step() - architecture.reading_membranes(),
        )

    def table(self, found: Energy, network: MeasuredNetwork, classes: Sequence[str]) -> ResultTable:
        title, spiking = "operations and energy for one image", network.kind == "spiking"
        layers = tuple(
            (
                layer.layer,
                round(layer.macs / 1e3),
                None if layer.input_rate is None else 100 * layer.input_rate,
                None if layer.reads == "values" else round(layer.synops / 1e3),
                round(1e3 * layer.energy_uj),
                round(1e3 * layer.ann_energy_uj),
            )
            for layer in found.layers
        )
        energies = (round(1e3 * found.energy_uj), round(1e3 * found.ann_energy_uj))
        total = ("all", round(found.ann_macs / 1e3), None, round(found.synops / 1e3), *energies)
        if not spiking:
            counted = tuple((name, macs, energy) for name, macs, *_, energy in (*layers, total))
            said = f"one image: {found.energy_uj:.3f} uJ ({found.macs:,} MACs)"
            return ResultTable("energy", title, ("layer", "MACs/1000", "nJ"), counted, (said,))
        ratio = "" if found.ratio is None else f"; the ANN takes {found.ratio:.2f} times as much"
        said = (
            f"one image: {found.energy_uj:.3f} uJ ({found.macs:,} MACs, {round(found.synops):,} SynOps); "
            f"the same network as an ANN: {found.ann_energy_uj:.3f} uJ ({found.ann_macs:,} MACs){ratio}"
        )
        return ResultTable(
            "energy",
            title,
            ("layer", "MACs/1000", "input %", "SynOps/1000", "nJ", "ANN nJ"),
            (*layers, total),
            (said, "input %: spikes for each value that the layer reads, at each step"),
        )

    def plots(self, shown: Sequence[Shown[Energy]], classes: Sequence[str]) -> Iterator[Plot]:
        for each in shown:
            layers, name = each.found.layers, each.network.name
            if each.network.kind != "spiking" or not layers:
                continue
            title = f"Energy of each layer of {name}, and as an ANN"
            panel = BarPanel(
                "microjoules for one image, an estimate",
                (
                    ("spiking", tuple(layer.energy_uj for layer in layers)),
                    ("as an ANN", tuple(layer.ann_energy_uj for layer in layers)),
                ),
            )
            chart = BarChart("energy", title, "layer", tuple(layer.layer for layer in layers), (panel,))
            yield Plot(f"energy-{name}", title, (chart,), ((0, "spiking"), (1, "as an ANN")))

    def remarks(self, found: Energy) -> Sequence[str]:
        return found.caveats


MEASURE = EnergyMeasure()
