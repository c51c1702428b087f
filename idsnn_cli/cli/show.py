"""How results look on a terminal: steps, plans, figures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from idsnn_cli.cli.console import Console
from idsnn_cli.cli.show_evaluation import show_evaluation

if TYPE_CHECKING:
    from idsnn_cli.pipeline.preview import Preview
    from idsnn_cli.pipeline.run import NetworkSummary
    from idsnn_cli.pipeline.run_directory import RunDirectory
    from idsnn_cli.pipeline.steps.base import StepResult


def show_steps(console: Console, command: str, run_dir: Path | None, results: list[StepResult]) -> None:
    """Each step's outcome, or the JSON document of the command; ``run_dir`` is None where there is none."""
    where = None if run_dir is None else str(run_dir)
    console.document({"command": command, "run_dir": where, "steps": [result.to_dict() for result in results]})
    for result in results:
        figures = result.figures
        state = "already done: " if result.status == "unchanged" else ""
        # A report's plots are named on its page.
        files = ", ".join(str(path) for path in result.outputs if path.suffix != ".png")
        if "values" in figures:
            counts = "  ".join(f"{count:,} {action}" for action, count in figures["values"].items())
            console.line(f"{result.step}: {state}{files}  ({counts} values)")
        elif "top1" in figures:
            console.line(f"{result.step}: {state}{files}  ({figures['split']} top-1 {figures['top1']:.2f} %)")
        elif result.step == "eval":
            show_evaluation(console, figures)
            console.line(f"eval: {state}{files}")


def show_summary(console: Console, run: RunDirectory, rows: list[NetworkSummary]) -> None:
    """The table at the end of ``run``, and the next command to try."""
    from idsnn_cli.pipeline.steps.base import step

    recipe = run.workspace.recipe
    console.table(
        ["network", f"{recipe.eval.split} top-1 %", "parameters", "T", "epochs", "training s", "what it is"],
        [
            [
                row.name,
                row.top1,
                row.parameters,
                row.timesteps,
                row.epochs,
                row.train_seconds,
                row.architecture.partition(",")[0],
            ]
            for row in rows
        ],
    )
    top1 = {row.name: row.top1 for row in rows}
    if "baseline" in top1 and "student" in top1:
        teacher = "with the same" if step("baseline").taught(recipe) else "without a"
        gain = top1["student"] - top1["baseline"]
        console.line(f"The student is {gain:+.2f} points from the same student of random weights {teacher} teacher.")
    console.line(f"Next: idsnn inspect {step('distill').kept(run)}")


def show_plan(console: Console, command: str, plan: Preview) -> None:
    """What ``--dry-run`` found."""
    console.document({"command": command, "dry_run": True, **plan.to_dict()})
    where = "" if plan.run_dir is None else f", in {plan.run_dir}"
    console.line(f"{command} {plan.recipe} on {plan.device} ({plan.precision}){where}")
    data = plan.data
    if data is not None:
        images = ", ".join(f"{count:,} {split}" for split, count in data.images.items())
        console.line(f"data: {data.name}, {images} images, {data.bytes / 1e6:.1f} MB")
        for url in data.downloads:
            console.line(f"would download {url} ({data.download_mb:.0f} MB)")
        for note in data.notes:
            console.line(f"  {note}")
    for each in plan.downloads:
        console.line(f"would download {each.url} ({each.megabytes:.0f} MB)")
    for name, network in plan.networks.items():
        console.line(f"{name}: {network.architecture} ({network.parameters:,} parameters)")
    if plan.mapping is not None:
        first = "pretrain" if "pretrain" in plan.networks else "init"
        console.line(f"{first}: " + ", ".join(f"{count:,} values {action}" for action, count in plan.mapping.items()))
    for step in plan.steps:
        would = "stands unless its inputs change:" if step.recorded == "done" else "would write"
        console.line(f"{step.step} ({step.recorded}): {would} {', '.join(step.writes) or 'nothing'}")
