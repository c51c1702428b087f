"""Whether the installed libraries are there, new enough, and fit each other."""

from __future__ import annotations

import importlib
import importlib.metadata
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion

from idsnn_cli.results import Result
from idsnn_cli.version import __version__

PACKAGE = "idsnn-cli"
Status = Literal["ok", "warn", "missing"]


@dataclass(frozen=True, slots=True)
class Check(Result):
    """Something that was looked at."""

    group: Annotated[Literal["versions", "devices", "data", "disk"], "what kind of thing it is"]
    name: Annotated[str, "what was looked at"]
    status: Annotated[Status, "`missing`: commands fail without it; `warn`: some do less"]
    found: Annotated[str, "what was found, in words"]
    fix: Annotated[str | None, "the command that mends it, or what to do in a sentence; null where all is well"] = None


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__


def check_versions() -> list[Check]:
    """Python, idsnn, every library that it asks for and its extras, by what the packages say of themselves.

    Nothing is imported. What idsnn asks for stands in its own package; where only its source is on the path, the one
    check says so.
    """
    python = Check("versions", "python", "ok", platform.python_version())
    own = Check("versions", "idsnn", "ok", __version__)
    try:
        metadata = importlib.metadata.metadata(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        found = "idsnn runs from its source and is not installed, so what it needs is not known"
        return [python, own, Check("versions", "requirements", "warn", found, "pip install -e .  # in its folder")]
    wanted = SpecifierSet("".join(metadata.get_all("Requires-Python") or []))
    if not wanted.contains(python.found, prereleases=True):
        found, fix = f"{python.found}, which is not {wanted}", f"Install Python {wanted}."
        python = Check("versions", "python", "missing", found, fix)
    libraries = [_library(each) for each in requirements(PACKAGE)]
    extras = [_extra(name) for name in sorted(metadata.get_all("Provides-Extra") or [])]
    return [python, own, *libraries, *extras]


def requirements(package: str, extra: str = "") -> Iterator[Requirement]:
    """What an installed package asks for here, or what it asks for beyond that with its ``extra``."""
    try:
        lines = importlib.metadata.requires(package) or []
    except importlib.metadata.PackageNotFoundError:
        lines = []
    for line in lines:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:  # of another's package; nothing that could be compared
            continue
        marker = requirement.marker
        always = marker is None or marker.evaluate({"extra": ""})
        if always if not extra else marker is not None and not always and marker.evaluate({"extra": extra}):
            yield requirement


def _library(requirement: Requirement) -> Check:
    name, words = requirement.name, f"{requirement.name}{requirement.specifier}"
    version = installed(name)
    if version is None:
        return Check("versions", name, "missing", "not installed", f"pip install '{words}'")
    if not _meets(version, requirement.specifier):
        found = f"{version}, but {requirement.specifier} is needed"
        return Check("versions", name, "missing", found, f"pip install --upgrade '{words}'")
    return Check("versions", name, "ok", version)


def _extra(name: str) -> Check:
    """An extra: a warning where one of its libraries is not there or does not fit, for the rest works without it."""
    asked = list(requirements(PACKAGE, name))
    lacking = [each.name for each in asked if _library(each).status != "ok"]
    title = f"extra {name}"
    if not lacking:
        return Check("versions", title, "ok", ", ".join(each.name for each in asked) or "nothing more")
    found = f"optional; not there or too old: {', '.join(lacking)}"
    return Check("versions", title, "warn", found, f"pip install '{PACKAGE}[{name}]'")


def _meets(version: str, specifier: SpecifierSet) -> bool:
    try:
        return specifier.contains(version, prereleases=True)
    except InvalidVersion:
        return False


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
        both = [f"'{each.name}{each.specifier}'" for each in requirements(PACKAGE) if each.name.startswith("torch")]
        return f"pip install {' '.join(both) or 'torch torchvision'}"
    local = version.partition("+")[2]
    index = f" --index-url https://download.pytorch.org/whl/{local}" if local else ""
    how = "--force-reinstall" if force else "--upgrade"
    return f"pip install {how} 'torch=={version}' torchvision{index}"


def unmet_requirement() -> str | None:
    """What torchvision's package asks of torch, where the installed torch is not that; else None."""
    version = installed("torch")
    for requirement in requirements("torchvision"):
        if requirement.name == "torch" and version is not None and not _meets(version, requirement.specifier):
            return str(requirement.specifier)
    return None


def installed(name: str) -> str | None:
    """The version of a package, None where it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
