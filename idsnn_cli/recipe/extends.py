"""A recipe file and the files that it extends, merged into one located tree."""

from __future__ import annotations

import os
from pathlib import Path

from idsnn_cli.errors import RecipeError
from idsnn_cli.recipe import library
from idsnn_cli.recipe.nodes import Fault, Items, Leaf, Node, Place, Table, merge, shown
from idsnn_cli.recipe.source import Unreadable, display, parse, read_text
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
