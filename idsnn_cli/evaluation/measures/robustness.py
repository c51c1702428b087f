"""Accuracy on worse images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

from torch import Tensor

from idsnn_cli.evaluation.accuracy import MeasuredNetwork, evaluate
from idsnn_cli.evaluation.corruptions import STRENGTHS, corruption
from idsnn_cli.evaluation.measure import RunningMeasure, Shown, Work, legend_of
from idsnn_cli.figures import LineChart, Plot, ResultTable, Series
from idsnn_cli.results import Result

MEANT = {
    "noise": "standard deviation",
    "blur": "standard deviation in 32nds of the shorter side",
    "contrast": "what is left of it",
}


@dataclass(frozen=True, slots=True)
class Corrupted(Result):
    """Accuracy on images of one corruption at one strength."""

    strength: Annotated[float, "what it means depends on the corruption"]
    top1: Annotated[float, "percent"]


Corruptions = dict[str, list[Corrupted]]


class Robustness(RunningMeasure[Corruptions]):
    """For each corruption of :mod:`~idsnn_cli.evaluation.corruptions`, weakest first; every strength is one pass."""

    words = "accuracy under noise, blur and low contrast, five strengths each: fifteen more passes"
    found = Annotated[Corruptions, "by the corruption's name: `noise`, `blur`, `contrast`; the weakest first"]

    def run(self, work: Work) -> Corruptions:
        """The noise and Poisson spikes are fixed by the seed."""
        found: Corruptions = {}
        for name, strengths in STRENGTHS.items():
            work.say(f"robustness to {name}")
            found[name] = [
                Corrupted(
                    strength,
                    evaluate(work.model, _corrupted(work.batches(), name, strength, work.seed), seed=work.seed).top1,
                )
                for strength in strengths
            ]
        return found

    def table(self, found: Corruptions, network: MeasuredNetwork, classes: Sequence[str]) -> ResultTable:
        # A document that was read back has its keys sorted.
        ordered = dict(sorted(found.items()))
        strengths = {name: ", ".join(f"{each.strength:g}" for each in values) for name, values in ordered.items()}
        return ResultTable(
            "robustness",
            "top-1 % on worse images, weakest first",
            ("images with", *(str(number) for number in range(1, 1 + max(map(len, ordered.values()))))),
            tuple((name, *(each.top1 for each in values)) for name, values in ordered.items()),
            (
                *(f"{name} {strengths[name]}: {MEANT[name]}" for name in ordered),
                f"the images as they are: {network.figures.top1:.2f} %",
            ),
        )

    def plots(self, shown: Sequence[Shown[Corruptions]], classes: Sequence[str]) -> Iterator[Plot]:
        charts = []
        every = [each.top1 for one in shown for values in one.found.values() for each in values]
        # One scale, so that what hurts little looks so.
        low = min([*every, *(one.network.figures.top1 for one in shown)])
        high = max([*every, *(one.network.figures.top1 for one in shown)])
        for kind in sorted(shown[0].found):
            # 0 is the image as it is.
            curves = tuple(
                Series(
                    one.network.name,
                    one.number,
                    tuple(enumerate([one.network.figures.top1, *(each.top1 for each in one.found[kind])])),
                    marked=True,
                )
                for one in shown
            )
            names = ("none", *(f"{each.strength:g}" for each in shown[0].found[kind]))
            words = f"{kind}: {MEANT[kind]}"
            charts.append(
                LineChart(
                    kind, f"With {kind}", words, "top-1, %", curves, x_names=names, y_range=(low, max(high, low + 1))
                )
            )
        yield Plot("robustness", "Accuracy on worse images", tuple(charts), legend_of(shown))


def _corrupted(
    batches: Iterable[tuple[Tensor, Tensor]], name: str, strength: float, seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    change, first = corruption(name, strength, seed), 0
    for images, labels in batches:
        yield change(images, first), labels
        first += len(labels)


MEASURE = Robustness()
