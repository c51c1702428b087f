"""What a format is, and the one way in which all are written: chosen by name or ending, checked, whole or not."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from idsnn_cli import registry
from idsnn_cli.architecture import Architecture
from idsnn_cli.checkpoint import file_sha256, open_checkpoint
from idsnn_cli.errors import CheckpointError, MissingInputError, UsageError
from idsnn_cli.models import Model, described_in, load
from idsnn_cli.outputs import check_output
from idsnn_cli.results import Result

FORMATS = "idsnn_cli.export"


@dataclass(frozen=True, slots=True)
class Student:
    """What is exported: the ``model`` in evaluation mode on the CPU, its file, and what that says about itself."""

    model: Model
    path: Path
    metadata: Mapping[str, Any]
    sha256: str

    @property
    def architecture(self) -> Architecture:
        return self.model.architecture


@dataclass(frozen=True, slots=True)
class Exported(Result):
    """What ``idsnn export`` wrote."""

    source: Annotated[str, "the checkpoint"]
    file: Annotated[str, "the file that was written"]
    format: Annotated[str, "the format's name"]
    architecture: Annotated[str, "the network in it, in words"]
    facts: Annotated[dict[str, Any], "what the format tells of it, under a key that is the format's own"]
    key: Annotated[str, "no key of the JSON: the one that the facts stand under"] = "facts"

    def to_dict(self) -> dict[str, Any]:
        found = {key: value for key, value in super(Exported, self).to_dict().items() if key not in ("facts", "key")}
        return found | {self.key: self.facts}


class Format(ABC):
    """A form in which a student leaves. Its name is its file's; ``suffixes`` are the endings that stand for it, and
    ``words`` say in the help what it is; ``key`` is that of its facts in the command's JSON.
    """

    suffixes: tuple[str, ...]
    words: str
    key: str = "facts"

    @abstractmethod
    def require(self, architecture: Architecture, path: Path) -> None:
        """Raise :class:`UsageError` where the network in ``path`` cannot be said in this format, naming what."""

    @abstractmethod
    def write(self, student: Student, target: Path) -> tuple[str, dict[str, Any]]:
        """Write ``target``, whole or not at all; the network in it in words, and what is worth telling of it."""

    @abstractmethod
    def tell(self, facts: Mapping[str, Any]) -> str:
        """The line for a person that ``facts`` become."""


def format_of(target: Path, name: str | None = None) -> str:
    """The format ``name``, or the one that the ending of ``target`` stands for.

    Raises :class:`UsageError` for a name or an ending that there is not.
    """
    if name is not None:
        registry.find(FORMATS, name, Format)
        return name
    known = registry.entries(FORMATS, Format)
    for each, form in known.items():
        if target.suffix in form.suffixes:
            return each
    ending = f"ends in {target.suffix}, which" if target.suffix else "has no ending that"
    listed = "; ".join(f"{each} ({_endings(form)}): {form.words}" for each, form in known.items())
    raise UsageError(
        f"{target} {ending} stands for no format",
        f"Name the format with --format, or end FILE as it does. There are: {listed}.",
    )


def _endings(form: Format) -> str:
    return " or ".join(suffix or "no ending" for suffix in form.suffixes)


def export(source: Path, target: Path, *, format: str | None = None, force: bool = False) -> Exported:
    """Write the student in ``source`` to ``target`` in a format, by its name or the ending of ``target``.

    Raises :class:`MissingInputError` where ``source`` is not there, :class:`CheckpointError` where idsnn did not write
    it, :class:`UsageError` where the format cannot say the network or ``target`` is ``source``, and
    :class:`WriteError` where ``target`` is there and not ``force``, or cannot be.
    """
    name = format_of(target, format)
    form = registry.find(FORMATS, name, Format)
    if not source.exists():
        raise MissingInputError(f"the checkpoint is not there: {source}", "Correct its path.")
    if os.path.realpath(source) == os.path.realpath(target):
        raise UsageError(f"{target} would be read and replaced by the same command", "Give another -o FILE.")
    check_output(target, force=force)
    with open_checkpoint(source) as file:
        metadata = file.metadata
        architecture = described_in(metadata)
    if metadata is None or architecture is None:
        raise CheckpointError(
            f"{source} is not a checkpoint of idsnn, so it holds no student to export",
            "Give a student that idsnn trained.",
        )
    form.require(architecture, source)
    words, facts = form.write(Student(load(source), source, metadata, file_sha256(source)), target)
    return Exported(str(source), str(target), name, words, facts, form.key)
