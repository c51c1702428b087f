"""``eval``: the networks of a run, measured into RUN/eval.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from idsnn_cli.checkpoint import file_sha256, write_json
from idsnn_cli.evaluation.measure import require_packages
from idsnn_cli.models import require_beyond
from idsnn_cli.pipeline.measuring import check_document, check_report, evaluate_networks, write_report
from idsnn_cli.pipeline.processes import decided_by_main
from idsnn_cli.pipeline.requirements import usable
from idsnn_cli.pipeline.run_directory import EVALUATION, Record, RunDirectory
from idsnn_cli.pipeline.steps.base import Given, Plan, Reads, Step, StepResult, all_steps
from idsnn_cli.pipeline.workspace import Workspace, spiking_reading
from idsnn_cli.recipe import Recipe
from idsnn_cli.recipe.defaults import without_defaults
from idsnn_cli.sources.opened import open_source, require
from idsnn_cli.text import well_formed


class EvalStep(Step):
    """Measure the networks of the run directory into RUN/eval.json; one process does it, and the others hear of it.

    Figures that are there already, and more of them than are asked for, stand.
    """

    name = network = "eval"
    makes_weights = False

    def wanted(self, recipe: Recipe) -> bool:
        return True

    def reads(self, recipe: Recipe) -> Reads:
        return Reads(("data", "eval"), ("seed", "runtime.precision"))

    def settings(self, workspace: Workspace) -> dict[str, Any]:
        return super().settings(workspace) | {"runtime": {"precision": workspace.measuring_precision}}

    def needs(self, recipe: Recipe) -> tuple[str, ...]:
        return tuple(each.name for each in all_steps() if each.measured(recipe))

    def outputs(self, run: RunDirectory, given: Given) -> dict[str, Path]:
        files = {"eval": given.output or run.path / EVALUATION, "report": given.report}
        return {name: path for name, path in files.items() if path is not None}

    def check(self, run: RunDirectory, given: Given, plan: Plan) -> None:
        if plan.steps == ("eval",):
            found = networks_of(run, given.student)
            plan.networks |= {name: usable(run.workspace, path, teaches=False) for name, path in found.items()}
        check_measuring(run.workspace, plan, given, run.path)

    def do(self, run: RunDirectory, given: Given) -> StepResult:
        def alone() -> StepResult:
            result = self._alone(run, given)
            if given.report is None:
                return result
            return replace(result, outputs=(*result.outputs, *write_report(given.report, result.figures)))

        return decided_by_main(alone)

    def _alone(self, run: RunDirectory, given: Given) -> StepResult:
        workspace, target = run.workspace, given.output or run.path / EVALUATION
        networks = networks_of(run, given.student)
        inputs = {name: file_sha256(path) for name, path in networks.items()} | {"data": workspace.data.fingerprint}
        settings = self.settings(workspace)
        # Measuring again costs little and loses nothing, so other settings are no conflict here.
        known = None if run.force else run.records().get(self.name)
        if known is not None and _holds(known.settings, settings):
            if known.inputs == inputs and target.exists() and known.outputs == {"eval": file_sha256(target)}:
                return StepResult(self.name, "unchanged", (target,), known.figures)
            if known.inputs != inputs:
                workspace.say("eval: what it measures was replaced, so it is done anew")
        document = evaluate_networks(workspace, networks)
        write_json(target, well_formed(document))
        run.write_record(self.name, Record("done", settings, inputs, {"eval": file_sha256(target)}, document))
        return StepResult(self.name, "done", (target,), document)


def networks_of(run: RunDirectory, student: Path | None = None) -> dict[str, Path]:
    """The finished networks of the run directory by name, each the one its ``keep`` names.

    Raises :class:`MissingInputError` where there is no student.
    """
    # One that an earlier recipe left behind is no match for this student.
    found = {each.network: each.kept(run) for each in all_steps() if each.measured(run.workspace.recipe)}
    if student is not None:
        found["student"] = student
        if _is_state_dict(student):
            run.workspace.students[student] = spiking_reading(run.workspace.recipe.student, whole=True)
    fix = "Run `idsnn distill` first, or name a file with --student FILE or --checkpoint FILE."
    require(found["student"], "the student", fix)
    return {name: path for name, path in found.items() if path.exists()}


def _is_state_dict(path: Path) -> bool:
    """Whether a file, if it is there, does not say itself what it holds."""
    if not path.exists():
        return False
    with open_source(path) as opened:
        return opened.foreign


def check_measuring(workspace: Workspace, plan: Plan, given: Given, own: Path | None = None) -> None:
    """Let what would stop the measuring of the plan's networks, or the files about it, stop the command now.

    ``own`` is the run directory that it works in.
    """
    if given.output is not None:
        check_document(given.output, own)
    if given.report is not None:
        check_report(given.report, own)
    require_packages(workspace.recipe.eval.measures)
    timesteps = workspace.recipe.eval.timesteps
    for architecture in plan.networks.values():
        if timesteps is not None and architecture.kind == "spiking":
            require_beyond(architecture, timesteps)


def _holds(recorded: Mapping[str, Any], asked: Mapping[str, Any]) -> bool:
    """Whether what was measured then answers what is asked now: the same settings, and every measure among others."""
    old, new = dict(recorded["eval"]), dict(asked["eval"])
    before, after = (_measures(section) for section in (old, new))
    steps = [section.pop("timesteps") for section in (old, new)]
    same = without_defaults({**recorded, "eval": old}) == without_defaults({**asked, "eval": new})
    return same and after <= before and ("beyond" not in after or steps[0] == steps[1])


def _measures(section: dict[str, Any]) -> set[str]:
    """The measures that a recorded ``eval`` section stands for; it loses their key."""
    return set(section.pop("measure")) | ({"beyond"} if section["timesteps"] is not None else set())


STEP = EvalStep()
