"""How results look on a terminal of 80 columns or more: steps, plans, evaluations, layer maps."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from idsnn_cli.cli.console import Console
from idsnn_cli.evaluation.document import read_evaluation
from idsnn_cli.figures import ResultTable
from idsnn_cli.report.evaluation.page import measure_tables, networks_table, remarks

if TYPE_CHECKING:
    from idsnn_cli.pipeline.preview import Preview
    from idsnn_cli.pipeline.run import NetworkSummary
    from idsnn_cli.pipeline.run_directory import RunDirectory
    from idsnn_cli.pipeline.steps.base import StepsDone


def show_evaluation(console: Console, document: Mapping[str, Any]) -> None:
    """The figures of ``eval``, all networks in one table, then the measures of one after the other."""
    evaluation = read_evaluation(document)
    results = evaluation.results
    _show(console, networks_table(evaluation))
    for row in results:
        if row.timesteps > 1:
            steps = "  ".join(f"t={t} {value:.2f}" for t, value in enumerate(row.figures.top1_by_step, 1))
            console.line(f"{row.name}, top-1 % after each step: {steps}")
    if len(results) == 1:
        classes = zip(evaluation.classes, results[0].figures.per_class, strict=True)
        console.table(["class", "top-1 %"], [[name, value] for name, value in classes])
    for row in results:
        for table in measure_tables(row, evaluation.classes):
            console.line()
            _show(console, table, f"{row.name}: ")
    for title, notes in remarks(evaluation).items():
        console.line()
        console.line(title)
        for note in notes:
            console.note(note, "  ")


def _show(console: Console, table: ResultTable, before: str = "") -> None:
    console.line(before + table.title)
    console.table(table.columns, table.rows)
    for note in table.notes:
        console.note(note, "  ")


def show_steps(console: Console, command: str, done: StepsDone) -> None:
    """Each step's outcome, or the JSON document of the command."""
    console.document({"command": command, **done.to_dict()})
    for result in done.steps:
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
        console.note(f"The student is {gain:+.2f} points from the same student of random weights {teacher} teacher.")
    console.line(f"Next: idsnn inspect {step('distill').kept(run)}")


def show_plan(console: Console, command: str, plan: Preview, more: Mapping[str, Any] | None = None) -> None:
    """What ``--dry-run`` found, with ``more`` keys of the command's own in the document."""
    console.document({"command": command, "dry_run": True, **plan.to_dict(), **(more or {})})
    where = "" if plan.run_dir is None else f", in {plan.run_dir}"
    console.line(f"{command} {plan.recipe} on {plan.device} ({plan.precision}){where}")
    data = plan.data
    if data is not None:
        images = ", ".join(f"{count:,} {split}" for split, count in data.images.items())
        room = f"{data.bytes / 1e6:.1f} MB" if data.bytes else "decoded from their files each time"
        console.line(f"data: {data.name}, {images} images, {room}")
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


INDENT = 14


def show_plan_map(console: Console, document: Mapping[str, Any]) -> None:
    """A mapping that is not made yet, as :func:`idsnn_cli.report.inspect.checkpoint.describe_plan` found it."""
    source = document["source"]
    sure = source["certainty"]
    named = (
        f"tensors named as in {source['scheme']}" if sure is None else "names unknown: inferred from shapes and order"
    )
    field(console, "from", f"{source['file']}, {named}")
    if sure is not None:
        field(console, "certainty", f"{sure['words']} ({sure['number']:g}): {'; '.join(sure['reasons'])}")
    if source["choice"] is not None:
        field(console, "weights", source["choice"])
    if source["unknown"]:
        field(console, "not told", "; ".join(source["unknown"]))
    field(console, "to", document["description"])
    show_mapping(console, document["mapping"], "What its first weights would be")


def show_mapping(
    console: Console, mapping: Mapping[str, Any], title: str = "Where its first weights came from"
) -> None:
    """The layer map: totals, then block by block what each takes and how, then what of the source is not used."""
    console.line()
    console.line(title)
    field(console, "source", mapping["source"] or "none: the student started at random")
    if mapping["source"] is not None:
        field(console, "rules", ", ".join(f"{key} {value}" for key, value in mapping["rules"].items()))
    field(console, "values", ", ".join(f"{count:,} {action}" for action, count in mapping["values"].items()))
    if mapping["share"] is not None:
        share = mapping["share"]
        field(console, "used", f"{_percent(share)} of the source: {share['used']:,} of {share['of']:,} trained values")
    if mapping["lambdas"]:
        worth = ", ".join(f"{space} {value:.4g}" for space, value in mapping["lambdas"].items())
        field(console, "lambda", f"a spike a step stands for: {worth}")
    for note in mapping["notes"]:
        field(console, "note", f"{note['tensors']} {note['of']} {note['words']}")
    for note in mapping["left_out"]:
        field(console, "left out", f"for {note['block']}: {note['words']}")
    if mapping["source"] is None:
        return
    idle = [block["name"] for block in mapping["source_blocks"] if not block["share"]["used"]]
    if idle:
        field(console, "not used", "; ".join(_stages(idle)))
    changed = [(layer["name"], layer["change"]) for layer in mapping["layers"] if layer.get("change")]
    if changed:
        name, most = max(changed, key=lambda each: each[1])
        moved = f"{len(changed)} layers since they were taken, most of all {name}, by {most:.4g} of its norm"
        field(console, "moved", moved)
    console.line()
    rows = []
    for block in mapping["blocks"]:
        share = "-" if block["share"] is None else _percent(block["share"])
        names = [block["name"], block["takes"] or "-", share]
        # Parts that differ only in which channels were chosen read alike; the JSON keeps them apart.
        modules: dict[str, list[str]] = {}
        for part in block["parts"]:
            modules.setdefault(part["words"], []).extend(part["modules"])
        for words, inside in modules.items():
            rows.append([*names, "all" if len(modules) == 1 else " ".join(inside), words])
            names = ["", "", ""]
    console.table(["student's", "takes", "of it", "tensors", "channels, kernel, scale"], rows)
    if not console.as_json:
        console.say("of it: how much of that block's trained values is used.")


def field(console: Console, name: str, text: str) -> None:
    """A named line of the result, wrapped under itself where the terminal is narrower."""
    width = max(console.out.width, 40)
    lines = textwrap.wrap(text, width - INDENT, break_long_words=False, break_on_hyphens=False) or [""]
    console.line(f"{name:<{INDENT}}" + ("\n" + " " * INDENT).join(lines))


def _stages(names: list[str]) -> list[str]:
    """Blocks, those of a stage together: ``stages.0: 1 2 4``."""
    stages: dict[str, list[str]] = {}
    for name in names:
        stage, _, block = name.rpartition(".")
        stages.setdefault(stage or name, []).extend([block] if stage else [])
    return [f"{stage}: {' '.join(blocks)}" if blocks else stage for stage, blocks in stages.items()]


def _percent(share: Mapping[str, Any]) -> str:
    value = share["share"]
    return "<1%" if 0 < value < 0.01 else ">99%" if 0.99 < value < 1 else f"{value:.0%}"
