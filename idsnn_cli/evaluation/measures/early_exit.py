"""Early exit: an image leaves the network as soon as it is sure enough."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from idsnn_cli.errors import DataError
from idsnn_cli.evaluation.accuracy import MeasuredNetwork
from idsnn_cli.evaluation.measure import ObservingMeasure, Shown, Work, legend_of, many
from idsnn_cli.evaluation.observation import Observation, confidence_and_right
from idsnn_cli.figures import LineChart, Plot, ResultTable, Series
from idsnn_cli.results import Result

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class Exit(Result):
    """What leaving at one confidence costs and saves."""

    threshold: Annotated[float, "the softmax probability, 0 to 1, at which an image leaves"]
    top1: Annotated[float, "percent"]
    mean_steps: Annotated[float, "time steps of an image"]
    exits: Annotated[list[int], "how many images left after each step"]


class EarlyExit(Observation[list[Exit]]):
    """Accuracy against mean time steps, for each confidence threshold.

    An image exits after the first step t whose mean logits so far give the chosen class a softmax probability of the
    threshold or more, and after the last step at the latest.
    """

    def __init__(self, thresholds: tuple[float, ...] = THRESHOLDS) -> None:
        self.thresholds = thresholds
        self.right = [0] * len(thresholds)
        self.exits: list[Tensor | int] = [0] * len(thresholds)

    def see(self, running_TNK: Tensor, labels: Tensor) -> None:
        confidence_TN, right_TN = confidence_and_right(running_TNK, labels)
        for place, threshold in enumerate(self.thresholds):
            ready_TN = confidence_TN >= threshold
            ready_TN[-1] = True
            first_N = ready_TN.int().argmax(0)  # the first of several maxima
            self.right[place] += int(right_TN.gather(0, first_N[None]).sum())
            self.exits[place] = self.exits[place] + torch.bincount(first_N, minlength=len(running_TNK)).cpu()

    def result(self) -> list[Exit]:
        """For each threshold. Raises :class:`DataError` where no image was seen."""
        rows = []
        for threshold, right, exits in zip(self.thresholds, self.right, self.exits, strict=True):
            counts = exits.tolist() if isinstance(exits, Tensor) else []
            images = sum(counts)
            if not images:
                raise DataError("there are no images to measure on", "Choose a split or a subset that holds some.")
            steps = sum(step * count for step, count in enumerate(counts, 1))
            rows.append(Exit(threshold, 100 * right / images, steps / images, counts))
        return rows


class EarlyExitMeasure(ObservingMeasure[list[Exit]]):
    words = "accuracy and mean time steps where an image leaves at a confidence of 0.5 to 0.99"
    found = list[Exit]
    needs_steps = True

    def observe(self, work: Work) -> EarlyExit:
        return EarlyExit()

    def table(self, found: list[Exit], network: MeasuredNetwork, classes: Sequence[str]) -> ResultTable:
        return ResultTable(
            "early_exit",
            "early exit at a confidence",
            ("confidence", "mean steps", "top-1 %"),
            tuple((each.threshold, each.mean_steps, each.top1) for each in found),
            (f"without it: {many(network.timesteps, 'step')}, top-1 {network.figures.top1:.2f} %",),
        )

    def plots(self, shown: Sequence[Shown[list[Exit]]], classes: Sequence[str]) -> Iterator[Plot]:
        curves = []
        for one in shown:
            points = [(each.mean_steps, each.top1) for each in one.found]
            points.append((float(one.network.timesteps), one.network.figures.top1))
            curves.append(Series(one.network.name, one.number, tuple(points), marked=True))
        title = "Accuracy against mean time steps, by confidence"
        levels = ", ".join(f"{each:g}" for each in THRESHOLDS)
        yield Plot(
            "early-exit",
            f"{title} ({levels}, and without early exit)",
            (LineChart("early-exit", title, "mean time steps", "top-1, %", tuple(curves)),),
            legend_of(shown),
        )


MEASURE = EarlyExitMeasure()
