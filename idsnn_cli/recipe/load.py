"""From a command's words, or from a checkpoint's metadata, to a validated recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from idsnn_cli.errors import RecipeError
from idsnn_cli.recipe.extends import read_tree
from idsnn_cli.recipe.library import locate
from idsnn_cli.recipe.nodes import Entry, Fault, Items, Leaf, Node, Place, Table
from idsnn_cli.recipe.overrides import apply_overrides
from idsnn_cli.recipe.scalars import render
from idsnn_cli.recipe.schema import Recipe
from idsnn_cli.recipe.source import MAX_DEPTH, read_text
from idsnn_cli.recipe.validation import validate
from idsnn_cli.text import shorten

_EMBEDDED_FIX = (
    "Give what is named above as an override (section.key=value); unknown keys come from another version of idsnn."
)


@dataclass(frozen=True, slots=True)
class LoadedRecipe:
    """A recipe that was read.

    ``recipe`` is resolved: parents, overrides and defaults included. ``name`` is the file's name without suffix,
    ``text`` the file as given (without parents and overrides), ``path`` the file.
    """

    recipe: Recipe
    name: str
    text: str
    path: Path | None


def load_recipe(word_or_path: str | Path, overrides: Sequence[str] = ()) -> LoadedRecipe:
    """The recipe that a RECIPE word (a shipped name or a path) or a path names, with overrides on top.

    Raises :class:`RecipeError` with every fault at its file, line and column, and :class:`UsageError` for an
    override that does not have the form ``section.key=value``.
    """
    path = word_or_path if isinstance(word_or_path, Path) else locate(word_or_path)
    text = read_text(path)
    faults: list[Fault] = []
    tree, complete = read_tree(path, text, faults)
    recipe = validate(apply_overrides(tree, overrides, faults), faults, complete=complete)
    return LoadedRecipe(recipe, path.stem, text, path)


def recipe_from_mapping(plain: Mapping[str, Any], overrides: Sequence[str] = (), *, origin: str) -> Recipe:
    """The recipe embedded in a checkpoint (``Recipe.portable()``) or made by a program, with overrides on top.

    ``origin`` stands where messages otherwise name a file. Raises as :func:`load_recipe` does; keys that this
    version does not know are faults.
    """
    faults: list[Fault] = []
    try:
        tree = _located(plain, Place(origin), 0)
    except ValueError as error:
        raise RecipeError(f"{origin}: {error}", _EMBEDDED_FIX) from None
    if not isinstance(tree, Table):
        raise RecipeError(f"{origin}: the recipe is not a mapping", _EMBEDDED_FIX)
    return validate(apply_overrides(tree, overrides, faults), faults, fix=_EMBEDDED_FIX)


def _located(value: Any, place: Place, depth: int) -> Node:
    if depth > MAX_DEPTH:
        raise ValueError(f"nested more than {MAX_DEPTH} levels deep")
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise ValueError(f"key {shorten(repr(key))} is not text")
        return Table({key: Entry(place, _located(inner, place, depth + 1)) for key, inner in value.items()}, place)
    if isinstance(value, list | tuple):
        return Items(tuple(_located(item, place, depth + 1) for item in value), place)
    if value is None or isinstance(value, str | int | float):
        return Leaf(value, place, render(value))
    raise ValueError(f"{shorten(repr(value))} is no value of a recipe")
