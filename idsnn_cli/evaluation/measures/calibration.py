"""Calibration: whether a network that says 80 % is right in 80 of 100 cases, after each time step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from idsnn_cli.evaluation.accuracy import MeasuredNetwork
from idsnn_cli.evaluation.measure import ObservingMeasure, Shown, Work, legend_of
from idsnn_cli.evaluation.observation import Observation, confidence_and_right
from idsnn_cli.figures import LineChart, Plot, ResultTable, Series
from idsnn_cli.results import Result

BINS = 15


@dataclass(frozen=True, slots=True)
class Bin(Result):
    """The images whose chosen class has a probability of more than ``from`` up to ``to``, after the last step."""

    from_: Annotated[float, "0 to 1"]
    to: Annotated[float, "0 to 1"]
    images: Annotated[int, "how many"]
    confidence: Annotated[float | None, "their mean probability, percent; null of an empty bin"]
    accuracy: Annotated[float | None, "how many of them are right, percent; null of an empty bin"]


@dataclass(frozen=True, slots=True)
class CalibrationErrors(Result):
    """Expected calibration error (Guo et al. 2017): sum over bins of n_b / N |accuracy_b - confidence_b|."""

    bins: Annotated[int, "of equal width, over the probability of the chosen class"]
    ece: Annotated[float, "percent, after the last step"]
    ece_by_step: Annotated[list[float], "percent, of the mean logits of the steps so far"]
    reliability: Annotated[list[Bin], "the bins after the last step"]


class Calibration(Observation[CalibrationErrors]):
    """Fills the bins (b / B, (b + 1) / B] of the softmax probability of the chosen class, B = 15, after each step."""

    def __init__(self, bins: int = BINS) -> None:
        self.bins = bins
        self.sums_TB3: Tensor | None = None  # images, confidence, right answers

    def see(self, running_TNK: Tensor, labels: Tensor) -> None:
        confidence_TN, right_TN = confidence_and_right(running_TNK, labels)
        steps = len(running_TNK)
        place_TN = (confidence_TN * self.bins).ceil().long().clamp(1, self.bins) - 1
        place_TN += torch.arange(steps, device=place_TN.device)[:, None] * self.bins
        values = torch.stack([torch.ones_like(confidence_TN), confidence_TN, right_TN.to(confidence_TN.dtype)], -1)
        sums = torch.zeros(steps * self.bins, 3, dtype=torch.float64)
        sums.index_add_(0, place_TN.flatten().cpu(), values.flatten(0, 1).cpu().double())
        sums = sums.view(steps, self.bins, 3)
        self.sums_TB3 = sums if self.sums_TB3 is None else self.sums_TB3 + sums

    def errors(self) -> list[float]:
        """The error after each step, percent. At least one batch was seen."""
        assert self.sums_TB3 is not None
        images, confidence, right = self.sums_TB3.unbind(-1)
        gaps: Tensor = (right - confidence).abs().sum(1) / images.sum(1)
        return [100 * gap for gap in gaps.tolist()]

    def result(self) -> CalibrationErrors:
        """The errors, and the bins of the last step."""
        assert self.sums_TB3 is not None
        errors = self.errors()
        reliability = [
            Bin(
                number / self.bins,
                (number + 1) / self.bins,
                int(images),
                100 * confidence / images if images else None,
                100 * right / images if images else None,
            )
            for number, (images, confidence, right) in enumerate(self.sums_TB3[-1].tolist())
        ]
        return CalibrationErrors(self.bins, errors[-1], errors, reliability)


class CalibrationMeasure(ObservingMeasure[CalibrationErrors]):
    words = "expected calibration error after each step, in 15 bins, and the bins"
    found = CalibrationErrors

    def observe(self, work: Work) -> Calibration:
        return Calibration()

    def table(self, found: CalibrationErrors, network: MeasuredNetwork, classes: Sequence[str]) -> ResultTable:
        both = zip(network.figures.top1_by_step, found.ece_by_step, strict=True)
        return ResultTable(
            "calibration",
            "calibration after each step",
            ("t", "top-1 %", "calibration error %"),
            tuple((step, top1, error) for step, (top1, error) in enumerate(both, 1)),
            (f"expected calibration error in {found.bins} bins of the chosen class's probability",),
        )

    def plots(self, shown: Sequence[Shown[CalibrationErrors]], classes: Sequence[str]) -> Iterator[Plot]:
        filled = [[each for each in one.found.reliability if each.images] for one in shown]
        points = [tuple((float(each.confidence or 0), float(each.accuracy or 0)) for each in bins) for bins in filled]
        counts = [tuple(each.images for each in bins) for bins in filled]
        curves = tuple(
            Series(one.network.name, one.number, at, counts=many)
            for one, at, many in zip(shown, points, counts, strict=True)
        )
        sizes = tuple(
            Series(
                one.network.name,
                one.number,
                tuple((50 * (each.from_ + each.to), float(each.images)) for each in one.found.reliability),
                marked=True,
            )
            for one in shown
        )
        percent = (0.0, 100.0)
        words = "Accuracy against confidence"
        yield Plot(
            "reliability",
            f"{words}; a dot's area is how many images are in its bin, and below 50 their number stands beside it",
            (
                LineChart(
                    *("reliability", words, "mean confidence of the bin, %", "accuracy, %", curves),
                    x_range=percent,
                    y_range=percent,
                    diagonal=True,
                ),
                LineChart("bins", "Images in each bin", "confidence, %", "images", sizes, x_range=percent),
            ),
            legend_of(shown),
        )
        over_time = tuple(
            Series(one.network.name, one.number, tuple(enumerate(one.found.ece_by_step, 1)), marked=True)
            for one in shown
            if len(one.found.ece_by_step) > 1
        )
        if over_time:
            title = "Calibration error after each time step"
            chart = LineChart("ece", title, "time steps", "expected calibration error, %", over_time, whole_x=True)
            stepped = [one for one in shown if len(one.found.ece_by_step) > 1]
            yield Plot("calibration", title, (chart,), legend_of(stepped))


MEASURE = CalibrationMeasure()
