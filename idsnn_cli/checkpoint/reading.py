"""Checkpoint files, opened: names, shapes and metadata at once, tensors only when they are asked for."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from idsnn_cli.checkpoint.dtypes import TORCH_DTYPES
from idsnn_cli.checkpoint.pickles import read_pickle
from idsnn_cli.checkpoint.sniffing import excerpt, sniff, unreadable
from idsnn_cli.checkpoint.writing import FORMAT_VERSION, METADATA_KEY
from idsnn_cli.errors import CheckpointError

_AGAIN = "Download or copy it again."
_safe_open: Any = safe_open  # the package's stubs leave its methods untyped


class CheckpointFile(ABC):
    """A checkpoint that is open for reading; a context manager.

    ``metadata`` is the parsed ``idsnn`` JSON of our own files, else None; ``others`` holds what is no tensor: the
    leaves of a pickle by dotted name, or the other metadata strings of a safetensors file.
    """

    path: Path
    metadata: dict[str, Any] | None
    others: dict[str, Any]

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


def open_checkpoint(path: Path) -> CheckpointFile:
    """Open a ``.safetensors`` file, or one of torch.save (zip or legacy), whichever its content says.

    Raises :class:`CheckpointError` in one line that says what the file is, where it is none of these.
    """
    path = Path(path)
    kind = sniff(path)
    try:
        return _SafetensorsFile(path) if kind == "safetensors" else _PickleFile(path, *read_pickle(path, kind))
    except OSError as error:
        raise unreadable(path, error) from error


def load_state(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All tensors, on the CPU, and the metadata of one of our own checkpoints.

    Raises :class:`CheckpointError` where the file cannot be read or another program wrote it.
    """
    with open_checkpoint(path) as checkpoint:
        if checkpoint.metadata is None:
            raise CheckpointError(
                f"{path}: no checkpoint that idsnn wrote: the metadata key '{METADATA_KEY}' is missing.",
                "Give a checkpoint that an idsnn command made.",
            )
        return {key: checkpoint.get(key) for key in checkpoint.shapes()}, checkpoint.metadata


class _SafetensorsFile(CheckpointFile):
    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._handle = _safe_open(str(path), framework="pt", device="cpu")
            self._keys = tuple(self._handle.keys())
            slices = {key: self._handle.get_slice(key) for key in self._keys}
            self._shapes = {key: tuple(int(size) for size in part.get_shape()) for key, part in slices.items()}
            self._names = {key: str(part.get_dtype()) for key, part in slices.items()}
            strings = dict(self._handle.metadata() or {})
        except SafetensorError as error:
            raise _explain(path, error) from error
        except RuntimeError as error:  # torch could not map it
            raise unreadable(path, error) from error
        ours = strings.pop(METADATA_KEY, None)
        self.metadata = None if ours is None else _parse(path, ours)
        self.others = strings

    def keys(self) -> tuple[str, ...]:
        return self._keys

    def shape(self, key: str) -> tuple[int, ...]:
        return self._shapes[key]

    def dtype(self, key: str) -> torch.dtype:
        name = self._names[key]
        if name not in TORCH_DTYPES:
            raise CheckpointError(f"{self.path}: tensor '{excerpt(key)}' has elements of type {name}.", "Convert it.")
        return TORCH_DTYPES[name]

    def get(self, key: str, device: torch.device | str = "cpu") -> Tensor:
        self.dtype(key)
        try:
            tensor: Tensor = self._handle.get_tensor(key)
        except SafetensorError as error:
            raise _explain(self.path, error) from error
        except RuntimeError as error:
            raise unreadable(self.path, error) from error
        return tensor.to(device)

    def close(self) -> None:
        self._handle.__exit__(None, None, None)


class _PickleFile(CheckpointFile):
    def __init__(self, path: Path, tensors: dict[str, Tensor], others: dict[str, Any]) -> None:
        self.path = path
        self.metadata = None
        self.others = others
        self._tensors = tensors

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


def _parse(path: Path, text: str) -> dict[str, Any]:
    try:
        metadata = json.loads(text)
        version = metadata["format_version"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise CheckpointError(f"{path}: the metadata that idsnn keeps in it is damaged.", _AGAIN) from error
    if version != FORMAT_VERSION or not isinstance(version, int) or not isinstance(metadata, dict):
        raise CheckpointError(
            f"{path}: a checkpoint of format version {excerpt(str(version))}; this program reads {FORMAT_VERSION}.",
            "Upgrade idsnn-cli.",
        )
    return metadata


def _explain(path: Path, error: SafetensorError) -> CheckpointError:
    return CheckpointError(
        f"{path}: a truncated or damaged safetensors file: {excerpt(str(error), 120).rstrip('.')}.", _AGAIN
    )
