"""Which classes are taken for which."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated

import torch
from torch import Tensor

from idsnn_cli.evaluation.accuracy import MeasuredNetwork
from idsnn_cli.evaluation.measure import ObservingMeasure, Shown, Work
from idsnn_cli.evaluation.observation import Observation
from idsnn_cli.figures import MatrixChart, Plot, ResultTable

MISTAKES = 10
Counts = list[list[int]]


class Confusion(Observation[Counts]):
    """Counts by true class (rows) and chosen class (columns), after the last step."""

    def __init__(self, num_classes: int) -> None:
        self.counts_KK = torch.zeros(num_classes, num_classes, dtype=torch.long)

    def see(self, running_TNK: Tensor, labels: Tensor) -> None:
        classes = len(self.counts_KK)
        pairs = labels * classes + running_TNK[-1].argmax(-1)
        self.counts_KK += torch.bincount(pairs, minlength=classes * classes).view(classes, classes).cpu()

    def result(self) -> Counts:
        rows: Counts = self.counts_KK.tolist()
        return rows


class ConfusionMeasure(ObservingMeasure[Counts]):
    words = "images by class and answer"
    found = Annotated[Counts, "images by class (rows) and answer (columns), after the last step"]

    def observe(self, work: Work) -> Confusion:
        return Confusion(work.model.architecture.num_classes)

    def table(self, found: Counts, network: MeasuredNetwork, classes: Sequence[str]) -> ResultTable:
        pairs = [
            (count, true, taken)
            for true, line in enumerate(found)
            for taken, count in enumerate(line)
            if count and true != taken
        ]
        pairs.sort(key=lambda pair: (-pair[0], *pair[1:]))
        return ResultTable(
            "confusion",
            "most frequent mistakes",
            ("class", "taken for", "images", "of the class %"),
            tuple(
                (classes[true], classes[taken], count, 100 * count / sum(found[true]))
                for count, true, taken in pairs[:MISTAKES]
            ),
        )

    def plots(self, shown: Sequence[Shown[Counts]], classes: Sequence[str]) -> Iterator[Plot]:
        for each in shown:
            title = f"Which classes {each.network.name} takes for which"
            counts = tuple(map(tuple, each.found))
            chart = MatrixChart("confusion", title, "answer", "class", tuple(classes), counts)
            yield Plot(f"confusion-{each.network.name}", title, (chart,))


MEASURE = ConfusionMeasure()
