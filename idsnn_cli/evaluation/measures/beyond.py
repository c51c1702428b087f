"""More time steps than the network was trained for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

from idsnn_cli.evaluation.accuracy import MeasuredNetwork, evaluate
from idsnn_cli.evaluation.measure import RunningMeasure, Shown, Work, legend_of
from idsnn_cli.evaluation.measures.calibration import Calibration
from idsnn_cli.figures import LineChart, Plot, ResultTable, Series
from idsnn_cli.models import Model, prolonged
from idsnn_cli.results import Result


@dataclass(frozen=True, slots=True)
class BeyondSteps(Result):
    """The same weights for more steps; the network's own steps are the first of them."""

    timesteps: Annotated[int, "how far it goes"]
    top1_by_step: Annotated[list[float], "percent, of the mean logits of the steps so far"]
    ece_by_step: Annotated[list[float], "expected calibration error, percent"]


class Beyond(RunningMeasure[BeyondSteps]):
    words = (
        "accuracy and calibration error at every t beyond T, up to `--timesteps N` (`eval.timesteps`), by default 2T"
    )
    found = BeyondSteps
    needs_steps = True
    of_images = True

    def check(self, work: Work) -> None:
        # Of frames there are no more, which is no error where nobody asked for a number of steps.
        if work.timesteps is not None or work.model.architecture.coding != "frames":
            _longer(work)

    def run(self, work: Work) -> BeyondSteps:
        longer, calibration = _longer(work), Calibration()
        timesteps = longer.architecture.timesteps
        work.say(f"the same weights for {timesteps} steps")
        figures = evaluate(longer, work.batches(), seed=work.seed, observers=[calibration])
        return BeyondSteps(timesteps, figures.top1_by_step, calibration.errors())

    def table(self, found: BeyondSteps, network: MeasuredNetwork, classes: Sequence[str]) -> ResultTable:
        values = list(zip(found.top1_by_step, found.ece_by_step, strict=True))
        return ResultTable(
            "beyond",
            f"the same weights for {found.timesteps} steps",
            ("t", "top-1 %", "calibration error %"),
            tuple((step, *both) for step, both in enumerate(values, 1) if step > network.timesteps),
        )

    def plots(self, shown: Sequence[Shown[BeyondSteps]], classes: Sequence[str]) -> Iterator[Plot]:
        def curves(key: str) -> tuple[Series, ...]:
            return tuple(
                Series(
                    f"{one.network.name}, trained for {one.network.timesteps}",
                    one.number,
                    tuple(enumerate(getattr(one.found, key), 1)),
                    marked=True,
                )
                for one in shown
            )

        own = ", ".join(f"{one.network.name}: {one.network.timesteps}" for one in shown)
        charts = (
            LineChart("top1", "Accuracy", "time steps", "top-1, %", curves("top1_by_step"), whole_x=True),
            LineChart(
                "ece", "Calibration error", "time steps", "expected error, %", curves("ece_by_step"), whole_x=True
            ),
        )
        yield Plot("beyond", f"More time steps than in training ({own})", charts, legend_of(shown))


def _longer(work: Work) -> Model:
    return prolonged(work.model, work.timesteps or 2 * work.model.architecture.timesteps)


MEASURE = Beyond()
