"""What an open checkpoint offers, whatever its format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor

from idsnn_cli.architecture import Neuron


class CheckpointFile(ABC):
    """A checkpoint that is open for reading; a context manager.

    ``metadata`` is the parsed ``idsnn`` JSON of our own files, else None; ``others`` holds what is no tensor: the
    leaves of a pickle by dotted name, or the other metadata strings of a safetensors file. ``normalisation`` is the
    (mean, std) of its input where that is known from where the file came from. ``notes`` say how it was read, where
    that is not plain. ``told_neuron`` is the neuron of a foreign spiking network whose file tells it.
    """

    path: Path
    metadata: dict[str, Any] | None
    others: dict[str, Any]
    normalisation: tuple[Sequence[float], Sequence[float]] | None = None
    notes: tuple[str, ...] = ()
    told_neuron: Neuron | None = None

    @abstractmethod
    def keys(self) -> tuple[str, ...]:
        """The tensors' names, in the file's order; those of nested dictionaries are joined by dots."""

    @abstractmethod
    def shape(self, key: str) -> tuple[int, ...]:
        """The shape of a tensor, without reading it."""

    @abstractmethod
    def dtype(self, key: str) -> torch.dtype:
        """The element type of a tensor, without reading it."""

    @abstractmethod
    def get(self, key: str, device: torch.device | str = "cpu") -> Tensor:
        """One tensor on ``device``. Raises KeyError for a name that is not in :meth:`keys`.

        On the CPU it may share the file's mapped memory: copy it before changing it in place.
        """

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor's shape by name, as the recogniser takes them."""
        keys = self.keys()
        return {key: self.shape(key) for key in keys}

    @abstractmethod
    def close(self) -> None:
        """Give the file back. Tensors that were read stay good."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class HeldTensors(CheckpointFile):
    """A checkpoint whose tensors have all been read, in ``_tensors`` by name."""

    _tensors: dict[str, Tensor]

    def keys(self) -> tuple[str, ...]:
        return tuple(self._tensors)

    def shape(self, key: str) -> tuple[int, ...]:
        return tuple(self._tensors[key].shape)

    def dtype(self, key: str) -> torch.dtype:
        return self._tensors[key].dtype

    def get(self, key: str, device: torch.device | str = "cpu") -> Tensor:
        return self._tensors[key].to(device)

    def close(self) -> None:
        self._tensors = {}
