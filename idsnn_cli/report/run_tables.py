"""The tables of runs side by side, the same for terminal, Markdown and page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from idsnn_cli.report.chart import short_number
from idsnn_cli.report.page_view import Table

Document = Mapping[str, Any]


def run_tables(document: Document) -> list[Table]:
    """Accuracy, the paper's values where a row is claimed, what it took to reach the target, and energy."""
    arms = document["arms"]
    tables = [_accuracy(arms)] if arms else []
    claimed = [arm for arm in arms if arm["paper"] is not None]
    tables += [_paper(claimed)] if claimed else []
    for target in document["targets"]:
        members = [arm for arm in arms if (arm["dataset"], arm["split"]) == (target["dataset"], target["split"])]
        if target["top1"] is not None:
            tables.append(_reach(members, target))
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
    return Table(f"Top-1 %, {splits} images: mean ± standard deviation over seeds", head, rows, len(head) - 1)


def _paper(arms: list[Document]) -> Table:
    rows = []
    for arm in arms:
        paper = arm["paper"]
        row = f"table {paper['table']}, {paper['row']}"
        ours = "-" if paper["ours"] is None else f"{paper['ours']:.2f}"
        difference = "-" if paper["difference"] is None else f"{paper['difference']:+.2f}"
        rows.append((arm["name"], row, f"{paper['top1']:.2f}", ours, difference))
    return Table("Top-1 % beside the paper's", ("run", "row", "paper", "ours", "difference"), tuple(rows), 3)


def _reach(arms: list[Document], target: Document) -> Table:
    of = "" if target["of"] == "given" else ", the baseline's best"
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
