"""The page of a comparison: A on the left, B on the right."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from idsnn_cli.report.origins import block_of
from idsnn_cli.report.page_view import FIGURES, Heat, Node, Side, Table, View, figures

Document = Mapping[str, Any]
COUNTER = "num_batches_tracked"


def comparison_view(document: Document) -> View:
    """The page of what :func:`compare_checkpoints` gave."""
    summary = ", ".join(f"{status} {count:,}" for status, count in document["summary"].items())
    facts = [(side.upper(), f"{document[side]['file']}: {document[side]['description']}") for side in ("a", "b")]
    facts += [("tensors", summary), ("in all", "identical" if document["identical"] else "different")]
    overall = document["parameters"]["relative_change"]
    facts += [] if overall is None else [("trained values of equal shape", f"relative change {overall:.4g}")]
    notes = tuple(f"{each['key']}: {each['a']} in A, {each['b']} in B" for each in document["architecture"])
    moved = tuple(layer["change"] for layer in document["layers"])
    statuses = [layer["tensors"] for layer in document["layers"]]
    differing = tuple(1 - counts.get("same", 0) / sum(counts.values()) for counts in statuses)
    most = max(filter(None, moved), default=0.0)
    heats = (
        Heat("change", "||b - a|| / ||a|| over trained values of equal shape", moved, most),
        Heat("differing", "how many of the layer's tensors differ, or are in one file only", differing, 1.0),
    )
    title = " and ".join(Path(document[side]["file"]).name for side in ("a", "b"))
    layers = tuple(layer["name"] for layer in document["layers"])
    return View(title, tuple(facts), _side("a", document), _side("b", document), layers, heats, notes)


def _side(side: Literal["a", "b"], document: Document) -> Side:
    rows: dict[str, list[Document]] = {}
    for row in document["tensors"]:
        if not row["name"].endswith(COUNTER) and row[f"{side}_shape"] is not None:
            rows.setdefault(block_of(row["name"]), []).append(row)
    nodes = tuple(_node(name, inside, side) for name, inside in rows.items())
    return Side(side.upper(), document[side]["file"], nodes)


def _node(name: str, rows: list[Document], side: Literal["a", "b"]) -> Node:
    other = "b" if side == "a" else "a"
    differ = sum(row["status"] != "same" for row in rows)
    shared = [row for row in rows if row[f"{other}_shape"] is not None]
    words = f"{differ} of {len(rows)} differ" if differ else "the same"
    if not shared:
        words = f"only in {side.upper()}"
    cells = tuple(
        (row["name"].removeprefix(f"{name}."), _status(row), *figures(row[f"{side}_statistics"])) for row in rows
    )
    table = Table(f"Values in {side.upper()}", ("tensor", "status, change", *FIGURES), cells, len(FIGURES))
    paragraphs = (("Tensors", words),)
    lines = (name,) if shared else ()
    return Node(name, words, 1 - differ / len(rows), lines, paragraphs, (table,), empty=not shared)


def _status(row: Document) -> str:
    if row["status"] == "shape differs":
        return f"{'x'.join(map(str, row['a_shape']))} / {'x'.join(map(str, row['b_shape']))}"
    change = row["relative_change"]
    return row["status"] if row["status"] != "changed" or change is None else f"changed, {change:.4g}"
