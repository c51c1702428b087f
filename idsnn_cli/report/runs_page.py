"""Runs side by side as one self-contained HTML page without a script, and as Markdown."""

from __future__ import annotations

from idsnn_cli.report.chart import Chart, Series, draw, legend
from idsnn_cli.report.markup import escaped, make_page, table_of
from idsnn_cli.report.page_view import Table
from idsnn_cli.report.run_tables import Document, remarks, run_tables
from idsnn_cli.report.runs import arm_name


def render_runs(document: Document) -> str:
    """The page of a document of :func:`describe_runs`; it carries the document itself, in the element ``document``."""
    names = [arm["name"] for arm in document["arms"]]
    count = len({network["run"] for network in document["networks"]})
    return make_page(
        "runs.html",
        f"{count} run{'' if count == 1 else 's'} side by side",
        document,
        styles=("page.css", "runs.css"),
        notes="".join(f"<li>{escaped(note)}</li>" for note in remarks(document)),
        legend=legend(names),
        charts="".join(_figure(chart) for chart in charts_of(document)),
        tables="".join(table_of(table) for table in run_tables(document)),
    )


def _figure(chart: Chart) -> str:
    svg = draw(chart)
    return svg and f'<figure><figcaption>{escaped(chart.title)}</figcaption><div class="scroll">{svg}</div></figure>'


def charts_of(document: Document) -> list[Chart]:
    """Learning curves by epoch, by operations with the teacher's, and accuracy by energy; of what is known."""
    styles = {arm["name"]: style for style, arm in enumerate(document["arms"])}
    levels = {target["top1"] for target in document["targets"]}
    level = levels.pop() if len(levels) == 1 else None
    marked = None if level is None else (level, f"{level:.2f} %")
    by_epoch, by_macs = [], []
    for network in document["networks"]:
        name = arm_name(network)
        words, style = f"{name}, seed {network['seed']}", styles[name]
        seen = [point for point in network["curve"] if point["top1"] is not None]
        by_epoch.append(Series(words, style, tuple((point["epoch"], point["top1"]) for point in seen)))
        before = network["teacher"]["macs"]
        if before is not None and all(point["macs"] is not None for point in seen):
            by_macs.append(Series(words, style, tuple((before + point["macs"], point["top1"]) for point in seen)))
    energies = tuple(
        Series(arm["name"], style, ((arm["energy_uj"]["mean"], arm["measured"]["mean"]),))
        for style, arm in enumerate(document["arms"])
        if arm["energy_uj"] is not None and arm["measured"] is not None
    )
    top1 = "top-1 %"
    return [
        Chart("epochs", "Accuracy by epoch", "epoch", top1, tuple(by_epoch), marked, whole_x=True),
        Chart("macs", "Accuracy by operations, the teacher's training included", "MACs", top1, tuple(by_macs), marked),
        Chart("energy", "Accuracy by energy", "microjoules an image", top1, energies, dots=True),
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
    plain = text.encode(errors="backslashreplace").decode().replace("\n", " ")
    return "".join(f"\\{letter}" if letter in "\\`*_[]<>|" else letter for letter in plain)
