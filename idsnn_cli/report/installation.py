"""Whether the installed libraries are there, new enough, and fit each other."""

from __future__ import annotations

import importlib
import importlib.metadata
import operator
import platform
import re
import sys
from collections.abc import Callable

from idsnn_cli.report.checks import Check, first_line
from idsnn_cli.version import __version__

PYTHON = (3, 11)
# The oldest release of each library that this version works with.
LIBRARIES = {
    "torch": "2.11",
    "torchvision": "0.26",
    "typer": "0.26",
    "rich": "13.7",
    "safetensors": "0.5",
    "pydantic": "2.8",
    "numpy": "1.26",
    "ruamel.yaml": "0.18",
    "filelock": "3.13",
}
_OPERATORS: dict[str, Callable[[tuple[int, ...], tuple[int, ...]], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}


def check_versions() -> list[Check]:
    """Python, idsnn and every library, by what their packages say of themselves: nothing is imported."""
    found = platform.python_version()
    python = (
        Check("versions", "python", "ok", found)
        if sys.version_info >= PYTHON
        else Check("versions", "python", "missing", f"{found}, which is too old", "Install Python 3.11 or newer.")
    )
    return [python, Check("versions", "idsnn", "ok", __version__), *map(_library, LIBRARIES)]


def _library(name: str) -> Check:
    oldest = LIBRARIES[name]
    version = installed(name)
    if version is None:
        return Check("versions", name, "missing", "not installed", f"pip install '{name}>={oldest}'")
    if release(version) < release(oldest):
        found = f"{version}, older than {oldest}"
        return Check("versions", name, "missing", found, f"pip install --upgrade '{name}>={oldest}'")
    return Check("versions", name, "ok", version)


def check_torch() -> list[Check]:
    """Whether torch and torchvision can be imported, and were made for each other."""
    if installed("torch") is None or installed("torchvision") is None:
        return []  # said already
    try:
        importlib.import_module("torch")
    except Exception as error:  # a broken build raises whatever its libraries hit first
        found = f"cannot be imported: {first_line(error)}"
        return [Check("versions", "import torch", "missing", found, mending_command(force=True))]
    unmet = unmet_requirement()
    try:
        importlib.import_module("torchvision")
    except Exception as error:  # made for another torch, its operators fail to register: RuntimeError, OSError, ...
        found = f"torchvision does not fit torch {installed('torch')}: {first_line(error)}"
        return [Check("versions", "torchvision fits", "missing", found, mending_command(force=unmet is None))]
    if unmet is not None:
        found = f"torchvision asks for torch {unmet}, but {installed('torch')} is installed"
        return [Check("versions", "torchvision fits", "warn", found, mending_command(force=False))]
    return [Check("versions", "torchvision fits", "ok", f"torch {installed('torch')}")]


def mending_command(*, force: bool) -> str:
    """The pip command that brings torch and torchvision that fit, from where the installed torch came."""
    version = installed("torch")
    if version is None:
        return f"pip install 'torch>={LIBRARIES['torch']}' 'torchvision>={LIBRARIES['torchvision']}'"
    local = version.partition("+")[2]
    index = f" --index-url https://download.pytorch.org/whl/{local}" if local else ""
    how = "--force-reinstall" if force else "--upgrade"
    return f"pip install {how} 'torch=={version}' torchvision{index}"


def unmet_requirement() -> str | None:
    """What torchvision's package asks of torch, where the installed torch is not that; else None."""
    version = installed("torch")
    for line in importlib.metadata.requires("torchvision") or []:
        requirement, _, marker = line.partition(";")
        match = re.fullmatch(r"torch\b\s*\(?([^()]*)\)?\s*", requirement.strip())
        if match is None or marker.strip() or version is None:
            continue
        for clause in filter(None, (part.strip() for part in match[1].split(","))):
            compared = re.match(r"(==|!=|>=|<=|>|<)\s*([\w.+]+)$", clause)
            if compared and not _OPERATORS[compared[1]](release(version), release(compared[2])):
                return match[1].strip()
    return None


def installed(name: str) -> str | None:
    """The version of a package, None where it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def release(version: str) -> tuple[int, ...]:
    """The numbers of a version that order it, three at least: 2.11.0+cpu gives (2, 11, 0)."""
    match = re.match(r"\d+(?:\.\d+)*", version)
    numbers = [int(part) for part in match[0].split(".")] if match else []
    return tuple(numbers + [0] * (3 - len(numbers)))
