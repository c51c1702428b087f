"""A checkpoint opened as the network it holds: its tensors under canonical names, none of them read yet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from idsnn_cli.architecture import Architecture
from idsnn_cli.checkpoint import CheckpointFile
from idsnn_cli.families import Reading
from idsnn_cli.models import Network
from idsnn_cli.sources.names import Source
from idsnn_cli.sources.opened import OpenedSource, open_source

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class OpenNetwork:
    """An opened source and the network in it; tensors go by their canonical names."""

    opened: OpenedSource

    @property
    def file(self) -> CheckpointFile:
        return self.opened.file

    @property
    def found(self) -> Network:
        return self.opened.network

    @property
    def architecture(self) -> Architecture:
        return self.found.architecture

    @property
    def names(self) -> Mapping[str, str]:
        """Canonical names, in network order -> the file's keys."""
        return self.found.names

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What the checkpoint says about itself; empty for a foreign one."""
        return self.opened.metadata

    @property
    def kind(self) -> str:
        return self.opened.kind

    @property
    def description(self) -> str:
        """The network in one line of words."""
        words = self.architecture.describe()
        return words if self.found.has_head else words.replace(", 1 classes", ", no linear layer")

    def shape(self, name: str) -> Shape:
        """The shape of a canonical tensor, without axes of one that only some libraries write."""
        if self.names[name] in self.found.parts:
            return self.architecture.tensors()[name]
        stored = self.file.shape(self.names[name])
        usual = self.architecture.tensors().get(name, stored)
        return usual if [n for n in stored if n > 1] == [n for n in usual if n > 1] else stored

    def dtype(self, name: str) -> torch.dtype:
        return self.file.dtype(self.stored(self.names[name])[0])

    def stored(self, key: str) -> tuple[str, ...]:
        """The keys of the file that a tensor is read from: mostly its own."""
        return self.found.parts.get(key, (key,))

    def get(self, name: str) -> Tensor:
        """A canonical tensor on the CPU, read now."""
        return self.found.read(self.names[name])


@contextmanager
def open_network(path: Source, reading: Reading | None = None, *, only_foreign: bool = False) -> Iterator[OpenNetwork]:
    """Open ``path``, one of our checkpoints or a network's in any scheme that is recognised.

    ``reading`` says what to do where a file leaves a choice; with ``only_foreign`` it does not speak of our own.
    Raises :class:`CheckpointError` for a file that cannot be read and :class:`FamilyError` for one that is no ResNet.
    """
    with open_source(path, reading, only_foreign=only_foreign) as opened:
        yield OpenNetwork(opened)


def place_of(name: str) -> str:
    """Where in the network a canonical tensor stands: ``input``, ``stem``, ``stages.0`` and so on, ``head``."""
    first, *rest = name.split(".")
    return f"{first}.{rest[0]}" if first == "stages" and rest else first


def is_parameter(name: str) -> bool:
    """Whether a canonical tensor is trained (a kernel, a gamma, a beta, the linear layer) and not counted."""
    return name.endswith((".weight", ".bias"))


def merged_order(first: Sequence[str], second: Sequence[str]) -> list[str]:
    """The names of both in network order: those of ``first``, and each other one behind its neighbour in ``second``."""
    known = set(first)
    followers: dict[str | None, list[str]] = {}
    previous: str | None = None
    for name in second:
        if name in known:
            previous = name
        else:
            followers.setdefault(previous, []).append(name)
    order = list(followers.get(None, []))
    for name in first:
        order += [name, *followers.get(name, [])]
    return order
