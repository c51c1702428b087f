"""How checkpoints look on a terminal: what is in one, and how two differ."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from idsnn_cli.architecture import read_description
from idsnn_cli.cli.console import Console
from idsnn_cli.cli.show import field, show_mapping
from idsnn_cli.rules import OF_RULES, Rules
from idsnn_cli.training.losses import losses

MOST_ENTRIES = 8
# Counted, but not listed: nothing that is computed reads them, and their names are the longest of all.
COUNTER = ".num_batches_tracked"
# What a reader wants to know of a recipe at a glance, in this order.
RECIPE_KEYS = {
    "data": ("dataset", "subset", "validation"),
    "teacher": ("arch", "width", "epochs"),
    "student": ("arch", "width", "timesteps", "block", "coding"),
    "init": ("rule", "blocks", "shortcut", "head", "reestimate"),
    "pretrain": (),
    "distill": ("alpha", "temperature", "epochs", "batch_size", "optimizer", "lr", "schedule"),
}
_RULES = {key: getattr(Rules(), key) for key in OF_RULES}
# What is named where it is not as in most recipes, given here.
UNUSUAL: dict[str, dict[str, Any]] = {
    "teacher": {"activation": "relu", "levels": None},
    "pretrain": {"epochs": 0},
    "init": {
        **{key: list(value) if isinstance(value, tuple) else value for key, value in _RULES.items()},
        "calibrate": 0,
    },
    "distill": {key: info.default for each in losses() for key, info in type(each).model_fields.items()},
}


def show_contents(console: Console, document: Mapping[str, Any]) -> None:
    """One checkpoint, as :func:`idsnn_cli.report.inspect.checkpoint.describe_checkpoint` found it."""
    foreign = document["kind"] == "foreign"
    field(console, "file", f"{document['file']} ({_size(document['file_bytes'])})")
    if document["certainty"] is not None:
        field(console, "kind", "foreign, names unknown: inferred from shapes and order")
        sure = document["certainty"]
        field(console, "certainty", f"{sure['words']} ({sure['number']:g}): {'; '.join(sure['reasons'])}")
    else:
        field(console, "kind", f"foreign, tensors named as in {document['scheme']}" if foreign else document["kind"])
    if document["choice"] is not None:
        field(console, "weights", document["choice"])
    field(console, "network", document["description"])
    field(console, "parameters", f"{document['parameters']:,}")
    console.line()
    console.table(
        ["part", "tensors", "values", "size", "types"],
        [
            [each["name"], each["tensors"], each["values"], _size(each["bytes"]), _counts(each["dtypes"])]
            for each in document["stages"]
        ],
    )
    total = f"{document['tensors']:,} tensors, {document['values']:,} values, {_size(document['bytes'])}"
    console.line(f"in the network: {total}")
    console.line()
    if document["decays"] is not None:
        rows = [
            [layer, "not finite" if decay is None else f"{decay:.4g}"] for layer, decay in document["decays"].items()
        ]
        console.table(["layer of neurons", "learnt decay"], rows)
        console.line()
    if document["missing"]:
        field(console, "not in it", ", ".join(document["missing"]))
    for reason, keys in _by_reason(document["dropped"]).items():
        more = f" and {len(keys) - 3:,} more" if len(keys) > 3 else ""
        field(console, "dropped", f"{', '.join(keys[:3])}{more}: {reason}")
    if document["unknown"]:
        field(console, "not told", "; ".join(document["unknown"]))
    _show_origin(console, document)
    if document["mapping"] is not None:
        show_mapping(console, document["mapping"])
    if foreign:
        student = read_description(document["architecture"]).usual_student
        console.say(f"Next: idsnn inspect --plan {document['file']} --to {student}")
        console.say(f"      idsnn init --from {document['file']} --arch {student} -o init.safetensors")


def _show_origin(console: Console, document: Mapping[str, Any]) -> None:
    for name in ("provenance", "metrics"):
        for line in _flat(document[name] or {}):
            field(console, name, line)
            name = ""
    recipe = document["recipe"] or {}
    name = "recipe"
    for section, keys in RECIPE_KEYS.items():
        given, usual = recipe.get(section, {}), UNUSUAL.get(section, {})
        keys = (*keys, *(key for key, value in usual.items() if key not in keys and given.get(key, value) != value))
        words = [f"{key} {_value(given[key])}" for key in keys if given.get(key) is not None]
        if words:
            field(console, name, f"{section}: {', '.join(words)}")
            name = ""
    if "seed" in recipe:
        field(console, name, f"seed: {recipe['seed']}")
    data = document["data"]
    if data is not None:
        classes = len(data.get("classes", ()))
        field(console, "data", f"{data.get('name')}, {classes} classes, fingerprint {data.get('fingerprint')}")
    if document["versions"]:
        field(console, "made with", ", ".join(f"{key} {value}" for key, value in document["versions"].items()))


def show_comparison(console: Console, document: Mapping[str, Any]) -> None:
    """Two checkpoints, as :func:`idsnn_cli.report.inspect.comparison.compare_checkpoints` found them."""
    for side in ("a", "b"):
        about = document[side]
        kind = f"foreign ({about['scheme']})" if about["kind"] == "foreign" else about["kind"]
        field(console, side.upper(), f"{about['file']}: {kind}, {about['description']}")
        if about["choice"] is not None:
            field(console, "", about["choice"])
    for each in document["architecture"]:
        field(console, "differs", f"{each['key']}: {_value(each['a'])} in A, {_value(each['b'])} in B")
    console.line()
    listed = [each for each in document["tensors"] if not each["name"].endswith(COUNTER)]
    console.table(
        ["tensor", "status, or shapes", "change", "cosine"],
        [[each["name"], _status(each), *_figures(each)] for each in listed],
    )
    console.line()
    summary = document["summary"]
    counts = ", ".join(f"{status} {count:,}" for status, count in summary.items())
    field(console, "tensors", f"{sum(summary.values()):,} with batch counters: {counts}")
    overall = document["parameters"]
    if overall["relative_change"] is not None:
        change, cosine = _figure(overall["relative_change"]), _figure(overall["cosine"])
        field(console, "parameters", f"of equal shape: relative change {change}, cosine {cosine}")
    field(console, "in all", "identical" if document["identical"] else "different")
    console.say("change is ||b - a|| / ||a||; a dash stands where a norm is zero or a value not finite.")


def _status(row: Mapping[str, Any]) -> str:
    if row["status"] == "shape differs":
        return f"{_shape(row['a_shape'])} / {_shape(row['b_shape'])}"
    if row["status"] == "changed" and row["a_dtype"] != row["b_dtype"]:
        return f"{row['a_dtype']} / {row['b_dtype']}"
    return f"{row['status']}{'' if row['finite'] else ', not finite'}"


def _figures(row: Mapping[str, Any]) -> list[str]:
    """Change and cosine, left out where they say nothing new."""
    if row["status"] != "changed":
        return ["", ""]
    return [_figure(row["relative_change"]), _figure(row["cosine"])]


def _shape(shape: Iterable[int]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _figure(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if value == 0 or 1e-4 <= abs(value) < 1000 else f"{value:.1e}"


def _flat(plain: Mapping[str, Any], prefix: str = "") -> list[str]:
    """``key: value`` lines; of a dictionary that is longer than a reader wants, only how long it is."""
    lines: list[str] = []
    for key, value in plain.items():
        if not isinstance(value, Mapping):
            lines.append(f"{prefix}{key}: {_value(value)}")
        elif len(value) > MOST_ENTRIES:
            lines.append(f"{prefix}{key}: {len(value):,} entries")
        else:
            lines += _flat(value, f"{prefix}{key}.")
    return lines


def _value(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value)


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def _by_reason(dropped: Mapping[str, str]) -> dict[str, list[str]]:
    reasons: dict[str, list[str]] = {}
    for key, reason in dropped.items():
        reasons.setdefault(reason, []).append(key)
    return reasons


def _size(count: int) -> str:
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} B"
