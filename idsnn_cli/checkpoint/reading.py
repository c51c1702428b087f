"""Checkpoint files, opened: names, shapes and metadata at once, tensors only when they are asked for."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from idsnn_cli.checkpoint.arrays import TORCH_DTYPES, NpzFile, is_npz
from idsnn_cli.checkpoint.file import CheckpointFile, HeldTensors
from idsnn_cli.checkpoint.pickles import read_pickle
from idsnn_cli.checkpoint.provenance import file_sha256
from idsnn_cli.checkpoint.settings_beside import settings_beside
from idsnn_cli.checkpoint.sharded import SUFFIX, ShardedFile, index_in, shard_paths
from idsnn_cli.checkpoint.sniffing import NIR, sniff, unreadable
from idsnn_cli.checkpoint.writing import FORMAT_VERSION, METADATA_KEY
from idsnn_cli.errors import CheckpointError
from idsnn_cli.extras import require_extra
from idsnn_cli.sources.names import Published, Source
from idsnn_cli.text import excerpt

_AGAIN = "Download or copy it again."
# What transformers and timm call the file of a network that is not split, the safe form first.
_WHOLE = ("model.safetensors", "pytorch_model.bin")
_safe_open: Any = safe_open  # the package's stubs leave its methods untyped


def open_checkpoint(path: Source, *, download: bool = True) -> CheckpointFile:
    """Open a checkpoint: safetensors, torch.save's (zip or legacy), numpy's ``.npz``, NIR, or several files with an
    index.

    The content says which of the first four a file is. For several files ``path`` is their ``*.index.json``, or a
    folder with exactly one of these; a folder of transformers with all in one file stands for that. Of these two the
    settings that ``config.json`` beside them holds are among ``others``. A published network is
    downloaded where this machine does not have it; without ``download`` such a file has names and shapes alone, where
    these are known without it. Raises :class:`CheckpointError` in one line that says what the file is, where it is none
    of these, and :class:`MissingPackageError` for NIR where its packages are not installed.
    """
    if isinstance(path, Published):
        there = download or path.needed_download() is None or path.foresight() is None
        file = open_checkpoint(path.fetch()) if there else _NamesOnly(path)
        file.normalisation = path.normalisation()
        return file
    try:
        index = _index_of(path)
        one = _one_of(path) if index is None else index
        file = _open_single(one) if index is None else ShardedFile(index, _open_single)
    except OSError as error:
        raise unreadable(path, error) from error
    if index is not None or one.name in _WHOLE:
        file.others = {**file.others, **settings_beside(one)}
    return file


def checkpoint_files(path: Source) -> tuple[Path, ...]:
    """The files behind ``path``: itself, an index and all its shards, or what is downloaded for it.

    Raises :class:`CheckpointError`.
    """
    if isinstance(path, Published):
        return checkpoint_files(path.fetch())
    try:
        index = _index_of(path)
        return (_one_of(path),) if index is None else (index, *shard_paths(index))
    except OSError as error:
        raise unreadable(path, error) from error


def checkpoint_sha256(path: Source) -> str:
    """The SHA-256 of a checkpoint's bytes; of several files, that of their own hashes' lines in the index's order."""
    hashes = [file_sha256(file) for file in checkpoint_files(path)]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def _index_of(path: Path) -> Path | None:
    if path.is_dir():
        return index_in(path)
    return path if path.name.endswith(SUFFIX) and path.is_file() else None


def _one_of(path: Path) -> Path:
    """The one file of all tensors in a folder as transformers writes it; any other ``path`` itself."""
    inside = (path / name for name in _WHOLE) if path.is_dir() else ()
    return next((file for file in inside if file.is_file()), path)


def _open_single(path: Path) -> CheckpointFile:
    kind = sniff(path)
    if kind == "safetensors":
        return _SafetensorsFile(path)
    if kind == "nir":
        require_extra("nir", f"{path}, a NIR file,", *NIR)
        # numpy and HDF5 are loaded for those who have such files.
        from idsnn_cli.checkpoint.nir_file import NirFile

        return NirFile(path)
    return NpzFile(path) if kind == "zip" and is_npz(path) else _PickleFile(path, *read_pickle(path, kind))


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
        self.metadata = None if ours is None else parse_metadata(path, ours)
        self.others = strings

    def keys(self) -> tuple[str, ...]:
        return self._keys

    def shape(self, key: str) -> tuple[int, ...]:
        return self._shapes[key]

    def dtype(self, key: str) -> torch.dtype:
        return _torch_dtype(self.path, key, self._names[key])

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


class _PickleFile(HeldTensors):
    def __init__(
        self, path: Path, tensors: dict[str, Tensor], others: dict[str, Any], notes: tuple[str, ...] = ()
    ) -> None:
        self.path = path
        self.metadata = None
        self.others = others
        self.notes = notes
        self._tensors = tensors


class _NamesOnly(CheckpointFile):
    """What the file of a published network will hold, known without it: names, shapes and types, but no values."""

    def __init__(self, source: Published) -> None:
        self.path = source.cached_file
        self._source = source
        self._state: dict[str, Any] = source.tensors()
        strings = source.strings()
        ours = strings.pop(METADATA_KEY, None)
        self.metadata = None if ours is None else parse_metadata(self.path, ours)
        self.others = {**strings, **(settings_beside(self.path) if self.path.name in _WHOLE else {})}

    def keys(self) -> tuple[str, ...]:
        return tuple(self._state)

    def shape(self, key: str) -> tuple[int, ...]:
        return tuple(self._state[key].shape)

    def dtype(self, key: str) -> torch.dtype:
        return _torch_dtype(self.path, key, self._state[key].dtype)

    def get(self, key: str, device: torch.device | str = "cpu") -> Tensor:
        raise CheckpointError(f"{self._source} is not downloaded yet.", "Leave --dry-run out.")

    def close(self) -> None:
        self._state = {}


def _torch_dtype(path: Path, key: str, name: torch.dtype | str) -> torch.dtype:
    """An element type, by its name in safetensors. Raises :class:`CheckpointError` for one that is not known."""
    if isinstance(name, torch.dtype):
        return name
    if name not in TORCH_DTYPES:
        raise CheckpointError(f"{path}: tensor '{excerpt(key)}' has elements of type {excerpt(name)}.", "Convert it.")
    return TORCH_DTYPES[name]


# What holds keys of its own, in the metadata of a checkpoint of ours.
_MAPPINGS = ("architecture", "data", "mapping", "metrics", "provenance", "recipe", "versions")


def _no_json(constant: str) -> float:
    raise ValueError(f"{constant} is no JSON")


def parse_metadata(path: Path, text: str) -> dict[str, Any]:
    try:
        metadata = json.loads(text, parse_constant=_no_json)
        version = metadata["format_version"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise CheckpointError(f"{path}: the metadata that idsnn keeps in it is damaged.", _AGAIN) from error
    if version != FORMAT_VERSION or not isinstance(version, int) or not isinstance(metadata, dict):
        raise CheckpointError(
            f"{path}: a checkpoint of format version {excerpt(str(version))}; this program reads {FORMAT_VERSION}.",
            "Upgrade idsnn-cli.",
        )
    for key in _MAPPINGS:
        if not isinstance(metadata.get(key, {}), dict):
            raise CheckpointError(f"{path}: its metadata hold a {key} that is no mapping of keys to values.", _AGAIN)
    return metadata


def _explain(path: Path, error: SafetensorError) -> CheckpointError:
    return CheckpointError(
        f"{path}: a truncated or damaged safetensors file: {excerpt(str(error), 120).rstrip('.')}.", _AGAIN
    )
