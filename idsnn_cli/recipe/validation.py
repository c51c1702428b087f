"""A located tree to a :class:`Recipe`, or one error that lists every fault at its place in plain words."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import ValidationError

from idsnn_cli.errors import RecipeError, did_you_mean
from idsnn_cli.recipe.fields import admits, allowed, annotation_at, literals, meant, model_of, owners
from idsnn_cli.recipe.nodes import Fault, Items, Leaf, Node, Place, Table, dotted, plain, shown
from idsnn_cli.recipe.schema import Recipe

KeyPath = tuple[str | int, ...]

_FIX = "Correct what is named above, or change it with an override: section.key=value."
_LISTED = 100
_SWITCHES = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}


def validate(tree: Table, faults: Sequence[Fault] = (), *, complete: bool = True, fix: str = _FIX) -> Recipe:
    """The recipe that ``tree`` describes.

    ``faults`` are those found while reading; ``complete`` False says that a part could not be read, so that a
    missing key proves nothing. Raises :class:`RecipeError` with all faults, in the order of their places.
    """
    found: list[Fault] = []
    recipe = None
    try:
        # Strict JSON: no number from a string or a boolean, yet lists become tuples and text becomes paths.
        recipe = Recipe.model_validate_json(json.dumps(plain(tree)), strict=True)
    except ValidationError as error:
        found += _faults(tree, error, complete)
    found += _misfits(tree, ())
    unread = {fault.place for fault in faults}  # what could not be read there is no fault of its own
    found = [*faults, *(fault for fault in found if fault.place not in unread)]
    if found or recipe is None:
        lines = list(dict.fromkeys(str(fault) for fault in sorted(found, key=_order)))
        if len(lines) > _LISTED:
            lines[_LISTED:] = [f"and {len(lines) - _LISTED} more"]
        raise RecipeError("\n".join(lines), fix)
    return recipe


def _order(fault: Fault) -> tuple[bool, str, int, int]:
    place = fault.place
    return place.line is None, place.source, place.line or 0, place.column or 0


def _faults(tree: Table, error: ValidationError, complete: bool) -> Iterator[Fault]:
    groups: dict[KeyPath, Any] = {}
    for detail in error.errors(include_url=False, include_input=False):
        path = _path_in(tree, detail["loc"], detail["type"] == "missing")
        groups.setdefault(path, detail)
    above = {path[:end] for path in groups for end in range(len(path))}
    for path, detail in groups.items():
        # Where a part of a value is at fault, the alternatives that were not meant complain about the whole.
        if path in above and detail["type"] != "value_error":
            continue
        if complete or detail["type"] not in ("missing", "value_error"):
            yield _fault(tree, path, detail)


def _path_in(tree: Node, loc: tuple[str | int, ...], missing: bool) -> KeyPath:
    """``loc`` without pydantic's names for the alternatives of a union."""
    node = tree
    path: KeyPath = ()
    for at, part in enumerate(loc):
        if isinstance(node, Table) and part in node.entries:
            node, path = node.entries[str(part)].node, (*path, part)
        elif isinstance(node, Items) and isinstance(part, int) and part < len(node.items):
            node, path = node.items[part], (*path, part)
        elif missing and isinstance(node, Table) and at == len(loc) - 1:
            path = (*path, part)
    return path


def _look(tree: Node, path: KeyPath) -> tuple[Node, Place] | None:
    """The value at ``path`` and the place of its key (of itself, in a list), or None where it was not given."""
    node, key = tree, tree.place
    for part in path:
        if isinstance(node, Table) and part in node.entries:
            entry = node.entries[str(part)]
            node, key = entry.node, entry.key
        elif isinstance(node, Items) and isinstance(part, int):
            node = node.items[part]
            key = node.place
        else:
            return None
    return node, key


def _fault(tree: Table, path: KeyPath, detail: Any) -> Fault:
    found = _look(tree, path)
    if found is None:
        above = next(near for end in range(len(path) - 1, -1, -1) if (near := _look(tree, path[:end])))
        return Fault(above[1], dotted(path), f"missing; allowed {allowed(annotation_at(path))}.")
    node, key = found
    if detail["type"] == "extra_forbidden":
        return Fault(key, dotted(path), _unknown(path, node))
    if detail["type"] == "value_error":
        said = str(detail["ctx"]["error"])
        said += "" if said.endswith((".", "?")) else "."
        if isinstance(node, Leaf):
            return Fault(node.place, dotted(path), f"given {shown(node)}; {said}")
        return Fault(_named_in(said, node, path) or key, dotted(path), said)
    return _misfit(path, node)


def _named_in(said: str, node: Node, path: KeyPath) -> Place | None:
    """The place of the first key that a section's message names, and that was given."""
    section = f"{dotted(path)}."
    for word in re.findall(r"[a-z_]+(?:\.[a-z_]+)*", said):
        keys = tuple(word.removeprefix(section).split(".")) if path else tuple(word.split("."))
        found = _look(node, keys)
        if found is not None and isinstance(found[0], Leaf | Items):
            return found[1]
    return None


def _unknown(path: KeyPath, node: Node) -> str:
    *section, key = path
    model = model_of(annotation_at(tuple(section)))
    keys = [*(model.model_fields if model else ())]
    keys += [] if section else ["extends"]
    text = f"unknown key, given {shown(node)}; allowed {', '.join(keys)}."
    other = next((each for each in meant(str(key)) if each in keys), None)
    if other is not None:
        return f"{text} Did you mean '{dotted((*section, other))}'?"
    homes = owners(str(key))
    if homes:
        named = " and of ".join(dotted(home) or "the top level" for home in homes)
        return f"{text} '{key}' is a key of {named}."
    return text + did_you_mean(str(key).lower(), keys)


def _misfit(path: KeyPath, node: Node) -> Fault:
    annotation = annotation_at(path)
    text = f"given {shown(node)}; allowed {allowed(annotation)}."
    if isinstance(node, Leaf) and isinstance(node.value, float) and not math.isfinite(node.value):
        text += " It must be finite."
    if isinstance(node, Leaf) and isinstance(node.value, str):
        word = node.value.lower()
        if admits(annotation, bool) and word in _SWITCHES:
            text += f" Did you mean '{_SWITCHES[word]}'?"
        text += did_you_mean(word, literals(annotation))
    return Fault(node.place, dotted(path), text)


def _misfits(node: Node, path: KeyPath) -> Iterator[Fault]:
    """Booleans and fractions that pydantic takes for the integers of a ``Literal``: true == 1."""
    if isinstance(node, Table):
        for key, entry in node.entries.items():
            yield from _misfits(entry.node, (*path, key))
    elif isinstance(node, Items):
        for index, item in enumerate(node.items):
            yield from _misfits(item, (*path, index))
    elif isinstance(node.value, bool | float):
        annotation = annotation_at(path)
        if annotation is not None and not admits(annotation, type(node.value)):
            yield _misfit(path, node)
