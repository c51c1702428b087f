"""What is added by adding a file: each module of a package is one entry, named as its file is.

``early_exit.py`` in ``evaluation/measures`` is the measure ``early-exit``: it is found without being listed anywhere.
Names alone are read off the folder, so that a recipe can be checked without importing what computes.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from typing import Any, TypeVar

from idsnn_cli.errors import UsageError, did_you_mean

T = TypeVar("T")


@cache
def names(package: str) -> tuple[str, ...]:
    """The names of a package's entries, sorted, without importing them; ``base`` and a leading underscore are none."""
    path = import_module(package).__path__
    found = (each.name for each in pkgutil.iter_modules(path))
    return tuple(sorted(name.replace("_", "-") for name in found if name != "base" and not name.startswith("_")))


def find(package: str, name: str, kind: type[T]) -> T:
    """The entry ``name`` of ``package``: the one object of type ``kind`` in its module.

    Raises :class:`UsageError` for a name that there is not, with the nearest and the list, and :class:`TypeError` for
    a module without such an object or with two: a fault of who added it.
    """
    known = names(package)
    if name not in known:
        what = package.rpartition(".")[2]
        raise UsageError(
            f"'{name}' is none of the {what} that are known.{did_you_mean(name, known)}",
            f"Give one of {', '.join(known)}.",
        )
    module = import_module(f"{package}.{name.replace('-', '_')}")
    entries = [value for key, value in vars(module).items() if isinstance(value, kind) and not key.startswith("_")]
    if len(entries) != 1:
        raise TypeError(f"{module.__name__} holds {len(entries)} objects of type {kind.__name__}, not one")
    return entries[0]


def entries(package: str, kind: type[T]) -> dict[str, T]:
    """Every entry of ``package`` by its name, sorted; each is imported."""
    return {name: find(package, name, kind) for name in names(package)}


def handed_out(package: str, homes: Mapping[str, tuple[str, ...]]) -> Callable[[str], Any]:
    """A package's ``__getattr__`` that hands out the names of its modules, ``homes``, on their first use.

    So a recipe can read what is declared in a folder of the package without importing all that computes in it.
    """
    home_of = {name: module for module, names_there in homes.items() for name in names_there}

    def hand_out(name: str) -> Any:
        if name not in home_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{home_of[name]}"), name)

    return hand_out
