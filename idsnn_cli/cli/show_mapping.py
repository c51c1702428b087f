"""How a layer map looks on a terminal of any width."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from idsnn_cli.cli.console import Console

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
