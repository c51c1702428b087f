"""What the page shows of a layer map (teacher left, student right) and of a comparison (A left, B right)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from idsnn_cli.report.html.markup import Table
from idsnn_cli.report.inspect.source_use import block_of


@dataclass(frozen=True, slots=True)
class Node:
    """A block: its ``name``, a line of ``words``, how full its bar is (0 to 1, None without one), and its details.

    ``lines`` names the blocks of the other network that it is joined to; ``empty`` says that nothing was taken.
    """

    name: str
    words: str
    bar: float | None
    lines: tuple[str, ...]
    paragraphs: tuple[tuple[str, str], ...] = ()
    tables: tuple[Table, ...] = ()
    empty: bool = False


@dataclass(frozen=True, slots=True)
class Side:
    heading: str
    words: str
    nodes: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Heat:
    """A measure of each layer: its ``values`` in the order of the layers, and what counts as the hottest."""

    name: str
    words: str
    values: tuple[float | None, ...]
    hottest: float

    def heat(self, row: int) -> float | None:
        value = self.values[row]
        return None if value is None else min(1.0, value / self.hottest) if self.hottest > 0 else 0.0


@dataclass(frozen=True, slots=True)
class View:
    title: str
    facts: tuple[tuple[str, str], ...]
    left: Side
    right: Side
    layers: tuple[str, ...]
    heats: tuple[Heat, ...]
    notes: tuple[str, ...] = field(default=())


FIGURES = ("mean", "std", "min", "max")


def figures(statistics: Mapping[str, Any] | None) -> tuple[str, ...]:
    """A tensor's statistics as cells of a table."""
    if statistics is None:
        return ("-",) * len(FIGURES)
    if not statistics["finite"]:
        return ("not finite", *("-",) * (len(FIGURES) - 1))
    return tuple("-" if statistics[key] is None else f"{statistics[key]:.3g}" for key in FIGURES)


def figure(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.4g}"


def percent(share: float) -> str:
    """``12 %``; a share that is neither nothing nor all is never rounded to it."""
    if 0 < share < 0.01:
        return "under 1 %"
    return "over 99 %" if 0.99 < share < 1 else f"{share:.0%}".replace("%", " %")


def share_words(share: Mapping[str, Any]) -> str:
    return f"{share['used']:,} of {share['of']:,} trained values, {percent(share['share'])}"


def index_words(channels: Sequence[int | Sequence[int]]) -> str:
    """The source channels of each target channel, long runs of equal steps shortened.

    ``3+7`` is an average of two; ``own`` is the target's own start.
    """
    words = []
    for run in _runs(channels):
        step = run[1] - run[0] if len(run) > 1 and isinstance(run[0], int) else 0
        if len(run) < (4 if step == 1 else 5) or not step:
            words += [str(each) for each in run]
        elif step == 1:
            words.append(f"{run[0]} to {run[-1]}")
        else:
            words.append(f"{run[0]}, {run[1]} … {run[-1]}")
    return ", ".join(words)


def _runs(channels: Sequence[int | Sequence[int]]) -> Iterator[list[Any]]:
    run: list[Any] = []
    for each in channels:
        value = each if isinstance(each, int) else "+".join(map(str, each)) or "own"
        whole = isinstance(value, int) and run and isinstance(run[-1], int)
        if run and not (whole and (len(run) == 1 or value - run[-1] == run[1] - run[0])):
            # Two numbers of an unfinished run may begin the next one.
            keep = run[-1:] if len(run) == 2 and whole else []
            yield run[: len(run) - len(keep)]
            run = keep
        run.append(value)
    if run:
        yield run


Document = Mapping[str, Any]


def mapping_view(document: Document) -> View:
    """The page of what :func:`describe_checkpoint` or :func:`describe_plan` gave, with a mapping."""
    mapping = document["mapping"]
    planned = document["kind"] == "plan"
    file = document["source"]["file"] if planned else document["file"]
    facts = [("file", file), ("kind", "a plan: nothing is written yet" if planned else document["kind"])]
    facts += [("rules", ", ".join(f"{key} {value}" for key, value in mapping["rules"].items()))]
    facts += [("student's values", ", ".join(f"{count:,} {action}" for action, count in mapping["values"].items()))]
    if mapping["share"] is not None:
        facts.append(("teacher used", share_words(mapping["share"])))
    if mapping["lambdas"]:
        facts.append(
            ("a spike stands for", ", ".join(f"{space} {value:.4g}" for space, value in mapping["lambdas"].items()))
        )
    if document.get("decays"):
        decays = document["decays"].items()
        facts.append(("learnt decays", ", ".join(f"{layer} {figure(decay)}" for layer, decay in decays)))
    notes = [f"{note['tensors']} {note['of']} {note['words']}" for note in mapping["notes"]]
    notes += [f"{note['block']}: {note['words']}" for note in mapping["left_out"]]
    left = Side("Teacher", mapping["source"] or "none: the student started at random", _teacher(document))
    right = Side("Student", mapping["target"], _student(document))
    name = Path(file).name
    title = f"From {name} to {document['description'].partition(',')[0]}" if planned else f"Layer map of {name}"
    layers = tuple(layer["name"] for layer in mapping["layers"])
    return View(title, tuple(facts), left, right, layers, _heats(document), tuple(notes))


def _teacher(document: Document) -> tuple[Node, ...]:
    mapping, statistics = document["mapping"], document["source_statistics"]
    nodes = []
    for block in mapping["source_blocks"]:
        share, taken_by = block["share"], tuple(block["taken_by"])
        words = percent(share["share"]) + " used" if share["used"] else "not used"
        paragraphs = [("Taken by", ", ".join(taken_by) or "no block of the student"), ("Used", share_words(share))]
        names = [name for name in statistics or {} if block_of(name) == block["name"]]
        rows = tuple((_short(name, block["name"]), *figures(statistics[name])) for name in names)
        tables = (Table("Values of the teacher", ("tensor", *FIGURES), rows, len(FIGURES)),) if rows else ()
        nodes.append(
            Node(block["name"], words, share["share"], taken_by, tuple(paragraphs), tables, empty=not share["used"])
        )
    return tuple(nodes)


def _student(document: Document) -> tuple[Node, ...]:
    known = {block["name"] for block in document["mapping"]["source_blocks"]}
    nodes = []
    for block in document["mapping"]["blocks"]:
        takes, share = block["takes"], block["share"]
        trained = sum(block["values"].values())
        if not trained:
            continue
        taken = (block["values"]["copied"] + block["values"]["interpolated"]) / trained
        words = "random" if takes is None else f"from {takes}"
        paragraphs = [("Takes", takes or "nothing: it keeps its own start")]
        paragraphs += [("Of its trained values taken", percent(taken))] if takes else []
        paragraphs += [("Uses of that block", share_words(share))] if share else []
        for part in block["parts"]:
            paragraphs.append((" ".join(part["modules"]), part["words"]))
            paragraphs += _channel_sets(part, document["mapping"]["selections"])
        lines = (takes,) if takes in known else ()
        nodes.append(
            Node(block["name"], words, taken, lines, tuple(paragraphs), _tables(block, document), empty=takes is None)
        )
    return tuple(nodes)


def _channel_sets(part: Document, selections: list[Document]) -> list[tuple[str, str]]:
    """The index sets along both axes, where they are not all channels in order."""
    sets = []
    for axis, key in (("outputs", "output"), ("inputs", "input")):
        channels = part[key]
        if channels is None or channels["rule"] == "whole":
            continue
        if channels["selection"] is not None:
            chosen = selections[channels["selection"]]
            words = f"{index_words(chosen['channels'])} (of {chosen['source']}'s {chosen['of']})"
        elif channels["rule"] == "first":
            words = f"0 to {channels['to'] - 1} (of {channels['of']})"
        else:
            words = f"channel c takes c mod {channels['of']}, for c from 0 to {channels['to'] - 1}"
        sets.append((f"{axis} made of channels", words))
    return sets


def _tables(block: Document, document: Document) -> tuple[Table, ...]:
    """The statistics of a block's tensors, each above those of what it was made from."""
    statistics, theirs = document["statistics"], document["source_statistics"]
    rows = []
    for name in statistics or {}:
        if block_of(name) != block["name"]:
            continue
        rows.append((_short(name, block["name"]), *figures(statistics[name])))
        origins = document["mapping"]["origins"].get(name, ()) if theirs is not None else ()
        rows += [(_theirs(origin, name, block), *figures(theirs.get(origin))) for origin in origins]
    return (Table("Values of the student", ("tensor", *FIGURES), tuple(rows), len(FIGURES)),) if rows else ()


def _heats(document: Document) -> tuple[Heat, ...]:
    layers = document["mapping"]["layers"]
    heats = [
        Heat(
            "not the teacher's",
            "how much of the layer's trained values is random or constant",
            tuple(1 - layer["taken"] for layer in layers),
            1.0,
        ),
        Heat(
            "left out",
            "how much of the teacher's layers that it was made from has no place in it",
            tuple(layer["left_out"] for layer in layers),
            1.0,
        ),
    ]
    if document["kind"] != "plan" and document["source_statistics"] is not None:
        moved = tuple(layer.get("change") for layer in layers)
        words = "how far the values that were taken are from their start, ||b - a|| / ||a||"
        heats.append(Heat("moved since", words, moved, max((value for value in moved if value), default=0.0)))
    return tuple(heats)


def _theirs(origin: str, name: str, block: Document) -> str:
    """A source tensor in a table; by its own name only where that says more than the line above it."""
    same = origin == f"{block['takes']}{name.removeprefix(block['name'])}"
    return "the teacher's" if same else f"teacher's {_short(origin, str(block['takes']))}"


def _short(name: str, block: str) -> str:
    return name.removeprefix(f"{block}.")


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
