"""What is added by a file: what it leaves out is said where it stands, and its place follows from what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pytest

from idsnn_cli import registry
from idsnn_cli.cli.console import Console
from idsnn_cli.cli.grid import _show_runs
from idsnn_cli.data.source import DataSet
from idsnn_cli.evaluation.measure import ObservingMeasure, RunningMeasure
from idsnn_cli.export.base import Format
from idsnn_cli.pipeline.run import CellDone, NetworkSummary
from idsnn_cli.pipeline.run_directory import RunDirectory
from idsnn_cli.pipeline.steps import base
from idsnn_cli.pipeline.steps.base import Given, Plan, Reads, Step, StepResult, all_steps
from idsnn_cli.recipe import Recipe
from idsnn_cli.recipe.schema import Training
from idsnn_cli.training import losses
from idsnn_cli.training.losses import In, Loss, Seen


@pytest.mark.parametrize(
    ("kind", "left_out"),
    [
        (DataSet, ("open", "plan")),
        (ObservingMeasure, ("observe", "table")),
        (RunningMeasure, ("run", "table")),
        (Loss, ("takes_part", "value")),
        (Format, ("require", "tell", "write")),
        (Step, ("check", "do", "outputs", "reads", "wanted")),
    ],
)
def test_an_addition_that_leaves_something_out_cannot_be_made(kind: type[Any], left_out: tuple[str, ...]) -> None:
    empty = type("Empty", (kind,), {"__module__": __name__})
    with pytest.raises(TypeError) as caught:
        empty()
    assert all(name in str(caught.value) for name in left_out)


class Later(Step):
    """A step behind the baseline, which is named ``zzz`` and makes a network."""

    name = network = "zzz"
    after = ("baseline",)

    def wanted(self, recipe: Recipe) -> bool:
        return True

    def reads(self, recipe: Recipe) -> Reads:
        return Reads()

    def outputs(self, run: RunDirectory, given: Given) -> dict[str, Path]:
        return {}

    def check(self, run: RunDirectory, given: Given, plan: Plan) -> None:
        """Nothing stops it."""

    def do(self, run: RunDirectory, given: Given) -> StepResult:
        return StepResult(self.name, "done", ())


def test_what_measures_comes_behind_every_step_that_makes_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = ["teacher", "pretrain", "init", "distill", "baseline", "eval"]
    assert [each.name for each in all_steps()] == usual
    found = registry.entries(base.STEPS, Step) | {"zzz": Later()}
    monkeypatch.setattr(registry, "entries", lambda package, kind: found)
    assert [each.name for each in all_steps.__wrapped__()] == [*usual[:-1], "zzz", "eval"]
    monkeypatch.setattr(Later, "after", ("baseline", "basline"))
    with pytest.raises(TypeError, match="the step zzz comes after basline, which is no step"):
        all_steps.__wrapped__()


class Quiet(Loss):
    """A loss that takes part in nothing."""

    def takes_part(self) -> bool:
        return False

    def value(self, seen: Seen, modules: Any) -> Any:
        return None


class Taken(Quiet):
    """Of a key that the training has."""

    lr: float = 0.0


class Otherwise(Quiet):
    """Of a key of the distillation's, with another default."""

    temperature: Annotated[float, In(("pretrain", "distill"))] = 1.0


@pytest.mark.parametrize(("loss", "words"), [(Taken, "has of its own"), (Otherwise, "declared otherwise")])
def test_a_loss_takes_no_key_that_means_something_else(
    monkeypatch: pytest.MonkeyPatch, loss: type[Loss], words: str
) -> None:
    known = losses.losses()
    monkeypatch.setattr(losses, "losses", lambda: (*known, loss()))
    with pytest.raises(TypeError, match=f"of the loss test-additions is .*{words}"):
        losses.with_keys("distill")(Training)
    monkeypatch.setattr(losses, "losses", lambda: known)
    assert "temperature" in losses.with_keys("distill")(Training).model_fields


def test_the_table_of_a_grid_has_a_column_for_what_a_step_makes(capsys: pytest.CaptureFixture[str]) -> None:
    def row(name: str, top1: float) -> NetworkSummary:
        return NetworkSummary(name, "a network", 1, 1, top1, None, None)

    plain = CellDone("a", (), (row("teacher", 90.0), row("student", 80.0), row("baseline", 60.0)))
    pruned = CellDone("b", (), (row("teacher", 90.0), row("student", 80.0), row("zzz", 70.0)))
    _show_runs(Console(), Path("grid"), [plain, pruned])
    first, *rows = capsys.readouterr().out.splitlines()
    assert [each.strip() for each in first.split("top-1 %")] == ["run  teacher", "baseline", "student", "zzz", ""]
    assert [each.split() for each in rows[:2]] == [
        ["a", "90.00", "60.00", "80.00", "-"],
        ["b", "90.00", "-", "80.00", "70.00"],
    ]
