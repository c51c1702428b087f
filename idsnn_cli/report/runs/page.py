"""Runs side by side as tables for a terminal, as one HTML page without a script, and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from idsnn_cli.figures import LineChart, Series
from idsnn_cli.report.html.charts import draw, legend
from idsnn_cli.report.html.line_chart import short_number
from idsnn_cli.report.html.markup import Table, escaped, make_page, table_of
from idsnn_cli.report.runs.side_by_side import arm_name
from idsnn_cli.text import visible

Document = Mapping[str, Any]


def run_tables(document: Document) -> list[Table]:
    """Accuracy, the paper's values where a row is claimed, what it took to reach the target, and energy."""
    arms = document["arms"]
    tables = [_accuracy(arms)] if arms else []
    claimed = [arm for arm in arms if arm["paper"] is not None]
    tables += [_paper(claimed)] if claimed else []
    for target in document["targets"]:
        if target["top1"] is not None:
            several = sum(each["dataset"] == target["dataset"] for each in document["targets"]) > 1
            tables.append(_reach([arm for arm in arms if arm["name"] in target["arms"]], target, several))
    measured = [arm for arm in arms if arm["energy_uj"] is not None]
    return tables + ([_energy(measured)] if measured else [])


def remarks(document: Document) -> list[str]:
    """The document's notes, and that no energy was measured where that is so."""
    measured = any(arm["energy_uj"] is not None for arm in document["arms"])
    return [*document["notes"], *([] if measured else ["Energy: not measured (idsnn eval ... --measure energy)."])]


def percent(figures: Mapping[str, Any] | None) -> str:
    """``67.28 ± 0.31``; one value without a spread."""
    if figures is None:
        return "-"
    spread = "" if figures["spread"] is None else f" ± {figures['spread']:.2f}"
    return f"{figures['mean']:.2f}{spread}"


def _accuracy(arms: list[Document]) -> Table:
    splits = " and ".join(sorted({arm["split"] for arm in arms}))
    evaluated = {arm["measured"]["split"] for arm in arms if arm["measured"]}
    columns = [f"eval ({', '.join(sorted(evaluated))})"] if evaluated else []
    rows = tuple(
        (
            arm["name"],
            str(arm["runs"]),
            str(arm["timesteps"]),
            percent(arm["last"]),
            percent(arm["best"]),
            *(percent(arm["measured"]) for _ in columns),
        )
        for arm in arms
    )
    head = ("run", "seeds", "T", "last epoch", "best epoch", *columns)
    return Table(f"Top-1 % of students, {splits} images: mean ± std over seeds", head, rows, len(head) - 1)


def _paper(arms: list[Document]) -> Table:
    rows = []
    for arm in arms:
        paper = arm["paper"]
        row = f"table {paper['table']}, {paper['row']}"
        ours = "-" if paper["ours"] is None else f"{paper['ours']:.2f}"
        difference = "-" if paper["difference"] is None else f"{paper['difference']:+.2f}"
        rows.append((arm["name"], row, f"{paper['top1']:.2f}", ours, difference))
    return Table("Top-1 % beside the paper's", ("run", "row", "paper", "ours", "difference"), tuple(rows), 3)


def _reach(arms: list[Document], target: Document, several: bool) -> Table:
    of = "" if target["of"] == "given" else ", the baseline's best"
    of += f" at T = {target['timesteps']}" if of and several else ""
    rows = []
    for arm in arms:
        found = arm["reach"]
        epochs = (
            "-" if found["epoch"] is None else f"{found['epoch']:g}" if arm["runs"] == 1 else f"{found['epoch']:.1f}"
        )
        macs, seconds = ([found[name], found[f"{name}_with_teacher"]] for name in ("macs", "seconds"))
        costs = [_cost(value, found["reached"]) for value in (*macs, *seconds)]
        rows.append((arm["name"], f"{found['reached']} of {arm['runs']}", epochs, *costs))
    head = ("run", "reached", "epochs", "MACs", "+ teacher", "seconds", "+ teacher")
    return Table(
        f"To reach {target['top1']:.2f} % on the {target['split']} images of {target['dataset']}{of}",
        head,
        tuple(rows),
        6,
    )


def _cost(value: float | None, reached: int) -> str:
    if not reached:
        return "-"
    return "unknown" if value is None else short_number(value)


def _energy(arms: list[Document]) -> Table:
    rows = tuple(
        (arm["name"], str(arm["timesteps"]), f"{arm['energy_uj']['mean']:#.4g}".rstrip("."), percent(arm["measured"]))
        for arm in arms
    )
    return Table("Energy of an image, and top-1 %", ("run", "T", "microjoules", "top-1 %"), rows, 3)


def render_runs(document: Document, refresh: int | None = None, progress: Sequence[str] = ()) -> str:
    """The page of a document of :func:`describe_runs`; it carries the document itself, in the element ``document``.

    With ``refresh`` it loads itself anew after so many seconds, and says so with the lines of ``progress``.
    """
    told = [] if refresh is None else [*progress, f"The runs go on: this page loads itself anew every {refresh} s."]
    names = [arm["name"] for arm in document["arms"]]
    count = len({network["run"] for network in document["networks"]})
    return make_page(
        "runs.html",
        f"{count} run{'' if count == 1 else 's'} side by side",
        document,
        styles=("colours.css", "page.css", "chart.css", "runs.css"),
        refresh=refresh,
        notes="".join(f"<li>{escaped(note)}</li>" for note in [*told, *remarks(document)]),
        legend=legend(names),
        charts="".join(_figure(chart) for chart in charts_of(document)),
        tables="".join(table_of(table) for table in run_tables(document)),
    )


def _figure(chart: LineChart) -> str:
    svg = draw(chart)
    return svg and f"<figure><figcaption>{escaped(chart.title)}</figcaption>{svg}</figure>"


def charts_of(document: Document) -> list[LineChart]:
    """Learning curves by epoch, by operations with the teacher's, and accuracy by energy; of what is known."""
    styles = {arm["name"]: style for style, arm in enumerate(document["arms"])}
    levels = {target["top1"] for target in document["targets"]}
    level = levels.pop() if len(levels) == 1 else None
    marked = None if level is None else (level, f"{level:.2f} %")
    by_epoch, by_macs, unknown = [], [], set[str]()
    for network in document["networks"]:
        name = arm_name(network)
        words, style = f"{name}, seed {network['seed']}", styles[name]
        seen = [point for point in network["curve"] if point["top1"] is not None]
        by_epoch.append(Series(words, style, tuple((point["epoch"], point["top1"]) for point in seen)))
        before = network["teacher"]["macs"]
        if all(point["macs"] is not None for point in seen):
            unknown |= {name} if before is None else set()
            words += ", the teacher's own training not known and not counted" if before is None else ""
            spent = before or 0
            by_macs.append(Series(words, style, tuple((spent + point["macs"], point["top1"]) for point in seen)))
    energies = tuple(
        Series(arm["name"], style, ((arm["energy_uj"]["mean"], arm["measured"]["mean"]),))
        for style, arm in enumerate(document["arms"])
        if arm["energy_uj"] is not None and arm["measured"] is not None
    )
    top1 = "top-1 %"
    operations = "Accuracy by operations, the teacher's training included"
    if unknown:
        operations += f"; not known, and not counted, for {', '.join(name for name in styles if name in unknown)}"
    return [
        LineChart("epochs", "Accuracy by epoch", "epoch", top1, tuple(by_epoch), marked, whole_x=True),
        LineChart("macs", operations, "MACs", top1, tuple(by_macs), marked),
        LineChart("energy", "Accuracy by energy", "microjoules an image", top1, energies, dots=True),
    ]


def render_markdown(document: Document) -> str:
    """The tables and notes as Markdown."""
    notes = remarks(document)
    parts = [_markdown_table(table) for table in run_tables(document)]
    parts += ["\n".join(f"- {_inline(note)}" for note in notes)] if notes else []
    return "\n\n".join(["# Runs side by side", *parts]) + "\n"


def _markdown_table(table: Table) -> str:
    first = len(table.head) - table.numbers
    lines = [table.head, tuple("---:" if i >= first else "---" for i in range(len(table.head))), *table.rows]
    written = [f"| {' | '.join(map(_inline, line))} |" for line in lines]
    return "\n".join([f"## {_inline(table.caption)}", "", *written])


def _inline(text: str) -> str:
    """``text`` with what Markdown would read as markup made plain."""
    plain = visible(text).replace("\n", " ")
    return "".join(f"\\{letter}" if letter in "\\`*_[]<>|" else letter for letter in plain)
