"""How much each layer of neurons fires."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

from torch import Tensor, nn

from idsnn_cli.evaluation.accuracy import MeasuredNetwork
from idsnn_cli.evaluation.measure import ObservingMeasure, Shown, Work
from idsnn_cli.evaluation.observation import Hook, Watcher
from idsnn_cli.figures import BarChart, BarPanel, Plot, ResultTable
from idsnn_cli.results import Result
from idsnn_cli.spiking import LIF
from idsnn_cli.spiking.precision import sum_in_float64


@dataclass(frozen=True, slots=True)
class LayerActivity(Result):
    """One layer of neurons that ran; a neuron is a place (C, H, W)."""

    layer: Annotated[str, "its canonical name"]
    neurons: Annotated[int, "how many it has"]
    firing_rate: Annotated[float, "spikes for each neuron, step and image"]
    silent: Annotated[float, "the share of neurons, 0 to 1, that never fired on any image"]
    saturated: Annotated[float, "the share of those that fired at every step of every image"]


class SpikeCounter(Watcher[list[LayerActivity]]):
    """Counts every neuron's spikes while the model runs inside ``with``.

    What is kept is one count for each neuron, on the model's device where that has float64.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__({name: module for name, module in model.named_modules() if isinstance(module, LIF)})
        self.counts: dict[str, Tensor] = {}
        self.shown: dict[str, int] = {}  # images times steps

    def _counting(self, name: str) -> Hook:
        def count(module: nn.Module, inputs: tuple[Tensor, ...], spikes: Tensor) -> None:
            # In float64: a sum in float32 or less would stop growing where it no longer tells one spike from none.
            counts = sum_in_float64(spikes, 0)
            self.counts[name] = self.counts[name] + counts if name in self.counts else counts
            self.shown[name] = self.shown.get(name, 0) + len(spikes)

        return count

    def result(self) -> list[LayerActivity]:
        """One entry for each layer that ran, in the order of the network."""
        return [
            LayerActivity(
                name,
                counts.numel(),
                float(counts.sum()) / (counts.numel() * shown),
                float((counts == 0).double().mean()),
                float((counts == shown).double().mean()),
            )
            for name in self.layers
            if (counts := self.counts.get(name)) is not None and (shown := self.shown[name])
        ]


class Activity(ObservingMeasure[list[LayerActivity]]):
    words = (
        "for each layer the firing rate (spikes for each neuron and step), and the shares of neurons silent on every "
        "image and of those that fire at every step of every image"
    )
    found = list[LayerActivity]
    needs_steps = True

    def observe(self, work: Work) -> SpikeCounter:
        return SpikeCounter(work.model)

    def table(self, found: list[LayerActivity], network: MeasuredNetwork, classes: Sequence[str]) -> ResultTable:
        return ResultTable(
            "activity",
            "how much each layer fires",
            ("neurons of", "count", "rate %", "silent %", "saturated %"),
            tuple(
                (each.layer, each.neurons, 100 * each.firing_rate, 100 * each.silent, 100 * each.saturated)
                for each in found
            ),
            (
                "rate: spikes for each neuron, step and image; silent: never fired on any image; saturated: at every "
                "step of every image",
            ),
        )

    def plots(self, shown: Sequence[Shown[list[LayerActivity]]], classes: Sequence[str]) -> Iterator[Plot]:
        for each in shown:
            name, layers = each.network.name, each.found
            columns = {
                "firing rate %": [layer.firing_rate for layer in layers],
                "silent neurons %": [layer.silent for layer in layers],
                "saturated neurons %": [layer.saturated for layer in layers],
            }
            panels = tuple(
                BarPanel(words, ((words, tuple(100 * share for share in shares)),)) for words, shares in columns.items()
            )
            title = f"How much each layer of {name} fires"
            labels = tuple(layer.layer for layer in layers)
            if labels:
                chart = BarChart("activity", title, "layer of neurons", labels, panels)
                yield Plot(f"activity-{name}", title, (chart,))


MEASURE = Activity()
