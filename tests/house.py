"""The house as data: its floors from the ground up, and what every file of the package imports, read from the code.

``tests/test_house.py`` checks the one against the other; ``tests/pictures.py`` draws them for docs/architecture.md.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import idsnn_cli

PACKAGE = "idsnn_cli"
ROOT = Path(idsnn_cli.__file__).parent

# From the ground up. A part imports from itself and from what stands on a line below its own. A folder of a part that a
# recipe reads, because each of its files declares an addition, is a part of its own on a lower floor; the modules of
# torch that a network family's description leads to stand on a higher one.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("errors", "version", "systems"),
    ("registry", "results", "figures", "text", "extras"),
    ("rulebook", "hub"),
    ("spiking.surrogates", "sources.names"),
    ("sources.kinds",),
    ("architecture", "seeding", "rules", "outputs"),
    ("networks", "training.losses", "training.trackers"),
    ("exchange",),
    ("checkpoint",),
    ("recipe", "spiking"),
    ("families",),
    ("data",),
    ("models",),
    ("networks.resnet.modules",),
    ("networks.resnet.joined",),
    ("networks.resnet.network", "networks.vgg.network"),
    ("sources",),
    ("initializer", "export"),
    ("evaluation",),
    ("doctor", "report"),
    ("training",),
    ("pipeline",),
    ("cli",),
    ("__main__",),
)
# What a recipe is read with and --help reaches: no torch, no arrays.
LIGHT = (
    *(
        "errors",
        "systems",
        "registry",
        "results",
        "figures",
        "text",
        "rulebook",
        "rules",
        "architecture",
        "networks",
        "seeding",
        "recipe",
    ),
    *("sources.names", "outputs", "hub"),
)
FLOOR = {part: floor for floor, parts in enumerate(FLOORS) for part in parts}
BUILT = {part for part in FLOOR if part.startswith("networks.")}
DECLARED = {part for part in FLOOR if "." in part} - BUILT
# What a part must not know although it stands on a lower floor.
MUST_NOT_KNOW = {
    "spiking": {"recipe", "checkpoint"},
    "families": {"recipe", "checkpoint", "spiking", "exchange"},
    "initializer": {"recipe", "data"},
    "evaluation": {"recipe"},
    "models": {"recipe", "data"},
    "training": {"families", "initializer", "report"},
    "report": {"training"},
}
# The public names that the package itself hands out, on their first use.
HANDED_OUT = {"version", "registry", "initializer", "models", "pipeline", "training"}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in FILES.items()}


def part_of(module: str) -> str:
    """``idsnn_cli.recipe.schema`` -> ``recipe``; the package itself is the empty part."""
    names = module.split(".")[1:]
    prefixes = [".".join(names[:length]) for length in range(len(names), 0, -1)]
    return next((prefix for prefix in prefixes if prefix in FLOOR), names[0] if names else "")


def imports(tree: ast.Module, *, lazy: bool = True) -> Iterator[str]:
    """The modules that a file imports, absolute; with ``lazy``, those inside functions too."""
    for node in ast.walk(tree) if lazy else _at_import(tree.body):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in FILES else str(node.module)


def _at_import(body: list[ast.stmt]) -> Iterator[ast.AST]:
    """What runs when a module is imported: not the bodies of functions, nor what only the type checker sees."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from _at_import(node.orelse)
            continue
        inner = [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]
        yield from _at_import(inner)
        yield node


def own_imports(module: str) -> list[str]:
    return [name for name in imports(TREES[module]) if name.split(".")[0] == PACKAGE]
