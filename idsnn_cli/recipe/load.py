"""From a command's words, files and what they extend, or from a checkpoint's metadata, to a validated recipe."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from idsnn_cli.errors import RecipeError
from idsnn_cli.recipe import library
from idsnn_cli.recipe.library import locate
from idsnn_cli.recipe.nodes import Entry, Fault, Items, Leaf, Node, Place, Table, merge, render, shown
from idsnn_cli.recipe.overrides import apply_overrides
from idsnn_cli.recipe.schema import Recipe
from idsnn_cli.recipe.source import MAX_DEPTH, Unreadable, display, parse, read_text
from idsnn_cli.recipe.validation import validate
from idsnn_cli.text import shorten

# Longer chains are no recipe's; the bound keeps them from exhausting the stack.
MAX_CHAIN = 32


def read_tree(path: Path, text: str, faults: list[Fault]) -> tuple[Table, bool]:
    """The tree of ``text``, the content of ``path``, on top of its parents, and whether all of it could be read.

    What is wrong is added to ``faults``.
    ``extends`` is a file or a list of them, later ones winning over earlier ones and the file itself over all.
    A parent is relative to the file that names it; a word without slash or .yaml is a recipe that ships.
    """
    reader = _Reader(faults)
    tree = reader.tree(path, text, (path,))
    return tree, reader.complete


class _Reader:
    def __init__(self, faults: list[Fault]) -> None:
        self.faults = faults
        self.done: dict[str, Table] = {}
        self.complete = True

    def stop(self, fault: Fault) -> Table:
        """Notes a fault that leaves a part of the recipe unread."""
        self.faults.append(fault)
        self.complete = False
        return Table({}, fault.place)

    def tree(self, path: Path, text: str, chain: tuple[Path, ...]) -> Table:
        name = display(path)
        start = Place(name, 1, 1)
        try:
            node = parse(text, name, self.faults)
        except Unreadable as error:
            return self.stop(error.fault)
        if not isinstance(node, Table):
            found = "empty" if isinstance(node, Leaf) and not node.text else f"not a mapping but {shown(node)}"
            return self.stop(Fault(start, "", f"the recipe is {found}; it needs at least a data section"))
        entries = dict(node.entries)
        entry = entries.pop("extends", None)
        tree: Node = Table({}, start)
        for parent in [] if entry is None else self.parents(entry.node):
            tree = merge(tree, self.parent(parent, chain))
        merged = merge(tree, Table(entries, start))
        assert isinstance(merged, Table)
        return merged

    def parents(self, node: Node) -> list[Leaf]:
        found = node.items if isinstance(node, Items) else (node,)
        named = [item for item in found if isinstance(item, Leaf) and isinstance(item.value, str) and item.value]
        for item in found:
            if item not in named:
                self.stop(Fault(item.place, "extends", f"given {shown(item)}; allowed a file, or a list of files"))
        return named

    def parent(self, leaf: Leaf, chain: tuple[Path, ...]) -> Table:
        def refuse(text: str) -> Table:
            return self.stop(Fault(leaf.place, "extends", text))

        try:
            path = _parent_path(str(leaf.value), chain[-1])
            identity = os.path.realpath(path)
            if any(identity == os.path.realpath(above) for above in chain):
                return refuse(f"goes round in a circle: {' -> '.join(display(step) for step in (*chain, path))}")
            if len(chain) >= MAX_CHAIN:
                return refuse(f"a chain of more than {MAX_CHAIN} files")
            if identity not in self.done:
                self.done[identity] = self.tree(path, read_text(path), (*chain, path))
            return self.done[identity]
        except RecipeError as error:
            return refuse(f"given {shown(leaf)}; {error.message}")
        except (OSError, ValueError) as error:  # a NUL, or a name too long, before the file is opened
            return refuse(f"given {shown(leaf)}; {shorten(str(error))}")


def _parent_path(word: str, child: Path) -> Path:
    if "/" not in word and not word.endswith(library.SUFFIXES):
        return library.find(word)
    path = child.parent / word
    return library.find(word) if word in library.names() and not path.is_file() else path


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
