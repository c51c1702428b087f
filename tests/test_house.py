"""The house: imports only go down the floors, never in a circle; one place prints; torch stays out of the hall."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import idsnn_cli
from idsnn_cli import rulebook

PACKAGE = "idsnn_cli"
ROOT = Path(idsnn_cli.__file__).parent

# From the ground up. A part imports from itself and from what stands on a line below its own. A folder of a part that a
# recipe reads, because each of its files declares an addition, is a part of its own on a lower floor; the modules of
# torch that a network family's description leads to stand on a higher one.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("errors", "version"),
    ("registry", "results", "figures", "text"),
    ("rulebook",),
    ("spiking.surrogates", "sources.names"),
    ("sources.kinds",),
    ("architecture", "seeding", "rules", "outputs"),
    ("networks", "training.losses"),
    ("checkpoint",),
    ("recipe", "spiking"),
    ("families",),
    ("data",),
    ("models",),
    ("networks.resnet.modules",),
    ("networks.resnet.network",),
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
    *("sources.names", "outputs"),
)
FLOOR = {part: floor for floor, parts in enumerate(FLOORS) for part in parts}
BUILT = {part for part in FLOOR if part.startswith("networks.")}
DECLARED = {part for part in FLOOR if "." in part} - BUILT
# What a part must not know although it stands on a lower floor.
MUST_NOT_KNOW = {
    "spiking": {"recipe", "checkpoint"},
    "families": {"recipe", "checkpoint", "spiking"},
    "initializer": {"recipe", "data"},
    "evaluation": {"recipe"},
    "models": {"recipe", "data"},
    "training": {"families", "initializer", "report"},
    "report": {"training"},
}
# The public names that the package itself hands out, on their first use.
HANDED_OUT = {"version", "initializer", "models"}


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


def test_every_part_has_its_floor() -> None:
    assert {part_of(module) for module in FILES} - {""} == set(FLOOR)


def test_imports_only_go_down() -> None:
    wrong = []
    for module in FILES:
        mine = part_of(module)
        for imported in own_imports(module):
            theirs = part_of(imported)
            if mine == "":
                fits = theirs in HANDED_OUT
            elif mine == theirs:
                fits = True
            else:
                # The package itself is for users: an import from it leads back to the importer.
                fits = theirs != "" and FLOOR[theirs] < FLOOR[mine] and theirs not in MUST_NOT_KNOW.get(mine, set())
            if not fits:
                wrong.append(f"{module} imports {imported}")
    assert wrong == []


def test_there_is_no_circle() -> None:
    # A package's __init__ hands on its modules, so only what a file names is an edge.
    graph = {module: set(own_imports(module)) - {module} for module in FILES}
    graphlib.TopologicalSorter(graph).prepare()


def test_only_the_console_prints() -> None:
    calls = {"print", "pprint", "rich.print", "typer.echo", "typer.secho", "click.echo", "warnings.warn"}
    found = set()
    for module, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                if called in calls or called.startswith(("sys.stdout.write", "sys.stderr.write", "logging.")):
                    found.add((module, called))
    # --version is answered before there is a console.
    found.discard((f"{PACKAGE}.cli.main", "typer.echo"))
    assert {module for module, _ in found} <= {f"{PACKAGE}.cli.console"}, found


def test_each_library_stays_where_it_belongs() -> None:
    """The terminal's libraries in the command line; torch and arrays in what computes; PIL where files are decoded."""
    entry = {"", "__main__", "errors", "version", "cli"}
    light = entry | set(LIGHT) | {"families"}
    everything = set(FLOOR) | {""}
    kept_out = {
        "typer": everything - {"cli"},
        "rich": everything - {"cli"},
        "torch": light,
        "torchvision": light,
        "numpy": light,
        "safetensors": everything - {"checkpoint"},
        "PIL": everything - {"data"},
        "packaging": everything - {"doctor"},
        "matplotlib": everything,
    }
    wrong = [
        f"{module} imports {imported}"
        for module in FILES
        for imported in imports(TREES[module])
        if part_of(module) in kept_out.get(imported.split(".")[0], set())
    ]
    assert wrong == []


def test_starting_up_imports_nothing_that_computes() -> None:
    """All that `idsnn --help` reaches before a command runs."""
    reached, pending = set[str](), [f"{PACKAGE}.__main__", f"{PACKAGE}.cli.main"]
    while pending:
        module = pending.pop()
        if module not in reached:
            reached.add(module)
            packages = [module.rsplit(".", n)[0] for n in range(1, module.count(".") + 1)]
            pending += [name for name in (*packages, *imports(TREES[module], lazy=False)) if name in FILES]
    # A package whose __init__ imports nothing but the registry is only the way to a folder of declarations in it.
    ways = {module for module in reached if FILES[module].name == "__init__.py" and not _computes(module)}
    assert {part_of(module) for module in reached - ways} <= {"", "__main__", "version", "cli", *LIGHT, *DECLARED}


def _computes(module: str) -> bool:
    return bool({*imports(TREES[module], lazy=False)} - {"__future__", "typing", f"{PACKAGE}.registry"})


def test_help_and_recipes_do_without_torch() -> None:
    """Torch takes seconds to import; ``--help`` and a recipe's faults are to be had at once."""
    light = (*LIGHT, *DECLARED)
    modules = [PACKAGE, *(module for module in FILES if part_of(module) in light), f"{PACKAGE}.cli.main"]
    modules += [module for module in FILES if module.startswith((f"{PACKAGE}.data.sets.", rulebook.PACKAGE))]
    program = (
        "import importlib, sys\n"
        f"for name in {modules!r}:\n"
        "    importlib.import_module(name)\n"
        "    heavy = {'torch', 'torchvision', 'numpy', 'safetensors', 'PIL'} & set(sys.modules)\n"
        "    assert not heavy, f'{name} brought in {sorted(heavy)}'\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
