"""A recipe back to YAML with every default, and the difference of two recipes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from idsnn_cli.recipe.nodes import render
from idsnn_cli.recipe.schema import Recipe
from idsnn_cli.sources.names import Published


def dump_resolved(recipe: Recipe) -> str:
    """``recipe`` as YAML with every default: the same text for equal recipes, and it loads to an equal recipe."""
    return "\n".join([*_lines(recipe.model_dump(mode="json"), 0), ""])


def dump_portable(recipe: Recipe) -> str:
    """``recipe`` as YAML for others: without paths and what is of one machine, which a comment lists. Published
    networks stay.
    """
    whole, plain = recipe.model_dump(mode="json"), recipe.portable()
    named = {("teacher", "checkpoint"): recipe.teacher.checkpoint, ("init", "source"): recipe.init.source}
    for (section, key), source in named.items():
        if isinstance(source, Published):
            plain[section][key] = str(source)
    places = (("data", "root"), ("data", "path"), ("teacher", "scheme"), *named)
    left_out = [f"{s}.{key}" for s, key in places if whole[s][key] is not None and key not in plain[s]]
    left_out += [f"data.shards.{key}" for key, pattern in whole["data"]["shards"].items() if pattern is not None]
    said = [f"# Left out, for they name files of one machine: {', '.join(left_out)}."] if left_out else []
    return "\n".join([*said, *_lines(plain, 0), ""])


def dump_mapping(plain: Mapping[str, Any]) -> str:
    """The recipe that a checkpoint carries, as YAML."""
    return "\n".join([*_lines(plain, 0), ""])


def _lines(table: Mapping[str, Any], depth: int) -> Iterator[str]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield f"{'  ' * depth}{key}:"
            yield from _lines(value, depth + 1)
        else:
            items = f"[{', '.join(map(render, value))}]" if isinstance(value, list) else render(value)
            yield f"{'  ' * depth}{key}: {items}"


@dataclass(frozen=True, slots=True)
class Change:
    """A key whose value differs; ``old`` or ``new`` is ``ABSENT`` where one side lacks the key."""

    key: str
    old: Any
    new: Any

    def __str__(self) -> str:
        return f"{self.key}: {_shown(self.old)} -> {_shown(self.new)}"


class _Absent:
    def __repr__(self) -> str:
        return "absent"


ABSENT = _Absent()


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """The values that differ between two ``model_dump(mode="json")`` dicts, in the order of their keys."""
    before, after = dict(_flat(old, "")), dict(_flat(new, ""))
    return [
        Change(key, before.get(key, ABSENT), after.get(key, ABSENT))
        for key in dict.fromkeys([*before, *after])
        if before.get(key, ABSENT) != after.get(key, ABSENT)
    ]


def changed_keys(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The dotted keys of :func:`changes`."""
    return [change.key for change in changes(old, new)]


def _flat(table: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return json.dumps(value)
    return repr(value) if value is ABSENT else render(value)
