"""The house: imports only go down the floors, never in a circle; one place prints; torch stays out of the hall."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys

from house import (
    DECLARED,
    FILES,
    FLOOR,
    HANDED_OUT,
    LIGHT,
    MUST_NOT_KNOW,
    PACKAGE,
    TREES,
    imports,
    own_imports,
    part_of,
)

from idsnn_cli import rulebook


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
    # Who calls the layers without a command has no console: Python's warnings tell that a GPU does without kernels.
    found.discard((f"{PACKAGE}.spiking.kernels", "warnings.warn"))
    # The same of images that are not in 0 to 1.
    found.discard((f"{PACKAGE}.models.channels", "warnings.warn"))
    # The same of a file of the hub that was taken because the cache has no other.
    found.discard((f"{PACKAGE}.hub.reading", "warnings.warn"))
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
        "huggingface_hub": everything - {"hub"},
        "timm": everything - {"sources.kinds"},
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
