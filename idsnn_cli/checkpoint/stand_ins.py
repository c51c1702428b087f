"""Whole pickled modules (torch.save(model)), read without their classes: every class is an empty one that runs nothing.

torch's safe reader stays the only reader; it is given an inert class for each name that it does not know, and what a
module holds is taken from its state as ``Module.state_dict`` would take it.
"""

from __future__ import annotations

import io
import pickletools
import sys
from _compat_pickle import IMPORT_MAPPING
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

# More classes than any network has, and more steps; torch looks through all classes at each step.
_MOST_NAMES = 300
_MOST_WORK = 20_000_000
# Python's own functions and classes that honest modules call when they are unpickled; another is the sign of an attack.
_HARMLESS = frozenset(
    (
        "functools.partial",
        *(f"builtins.{name}" for name in ("complex", "dict", "frozenset", "list", "range", "set", "slice", "tuple")),
        *(f"collections.{name}" for name in ("Counter", "OrderedDict", "defaultdict", "deque")),
        *(f"pathlib.{name}" for name in ("Path", "PosixPath", "PurePosixPath", "PureWindowsPath", "WindowsPath")),
        *(f"datetime.{name}" for name in ("date", "datetime", "timedelta", "timezone")),
        *("decimal.Decimal", "fractions.Fraction", "uuid.UUID"),
    )
)
# Attributes of layers that their tensors do not tell and that change what they compute.
_TOLD = ("dilation", "eps", "padding", "padding_mode", "stride")
CLASS = "__class__"


class CalledError(Exception):
    """A pickle calls ``name``, a function of Python that no module needs; it was not called."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class _InertType(type):
    def __call__(cls, *_: Any, **__: Any) -> Any:
        inert: Any = cls
        path: str = inert.path
        if path.partition(".")[0] in sys.stdlib_module_names and path not in _HARMLESS:
            raise CalledError(path)
        return inert.__new__(inert)


class Inert(metaclass=_InertType):
    """Stands for an object of the class ``path``: keeps the state that was stored, and does nothing."""

    path: ClassVar[str] = ""
    dump_patches = False  # torch would write the sources that an old file brings along to disk
    state: Any = None

    def __new__(cls, *_: Any) -> Inert:
        return object.__new__(cls)

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __repr__(self) -> str:
        return f"<{self.path}>"

    @property
    def is_module(self) -> bool:
        """Whether its state is that of a torch.nn.Module."""
        return isinstance(self.state, Mapping) and {"_modules", "_parameters", "_buffers"} <= self.state.keys()

    def children(self) -> list[tuple[Any, Any]]:
        """What a module's state dict takes from it, its modules, its class and the functions that it keeps by name, and
        what else no tensor tells of it.
        """
        state = self.state
        passing = state.get("_non_persistent_buffers_set") or ()
        tensors = [
            (name, value)
            for part in ("_parameters", "_buffers")
            for name, value in _items(state[part])
            if isinstance(value, Tensor) and not (part == "_buffers" and name in passing)
        ]
        modules = [(name, value) for name, value in _items(state["_modules"]) if value is not None]
        told = [(name, state[name]) for name in _TOLD if isinstance(state.get(name), float | str | tuple)]
        functions = [
            (f"{name}.{CLASS}", value.path)
            for name, value in state.items()
            if isinstance(value, type) and issubclass(value, Inert)
        ]
        return [(CLASS, self.path), *told, *functions, *tensors, *modules]


def stand_ins(content: bytes) -> list[tuple[Any, str]]:
    """(inert class, name) for every name that the pickles at the beginning of ``content`` import, as torch takes them.

    Empty where there are more names or steps than a network has.
    """
    names: dict[str, str] = {}
    steps, stream = 0, io.BytesIO(content)
    while stream.tell() < len(content):
        try:
            for opcode, argument, _ in pickletools.genops(stream):
                if opcode.name in ("GLOBAL", "REDUCE", "BUILD", "NEWOBJ"):
                    steps += 1
                if opcode.name == "GLOBAL":
                    module, _, name = str(argument).partition(" ")
                    names[f"{module}.{name}"] = f"{IMPORT_MAPPING.get(module, module)}.{name}"
                if len(names) > _MOST_NAMES or steps * len(names) > _MOST_WORK:
                    return []
        except Exception:  # no pickle any more
            break
    # torch takes some of the names that Python 2 had as those of today, and others as they are written.
    paths = {**names, **{path: path for path in names.values()}}
    return [
        (_InertType("Inert", (Inert,), {"path": path, "__module__": "pickled"}), name) for name, path in paths.items()
    ]


def _items(value: Any) -> list[tuple[Any, Any]]:
    return list(value.items()) if isinstance(value, Mapping) else []
