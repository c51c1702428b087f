"""Checkpoints in several files with an index of which tensor is where, as transformers and accelerate write them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor

from idsnn_cli.checkpoint.file import CheckpointFile
from idsnn_cli.errors import CheckpointError
from idsnn_cli.text import excerpt

SUFFIX = ".index.json"
_LARGEST_INDEX = 10_000_000  # some 50,000 tensors of the longest names
_AGAIN = "Download or copy all files of it again."


class ShardedFile(CheckpointFile):
    """The tensors of all shards that the index at ``path`` names; each shard is opened, and read where it is asked.

    ``open_shard`` opens one of them. Raises :class:`CheckpointError` where index and shards do not fit together.
    """

    def __init__(self, path: Path, open_shard: Callable[[Path], CheckpointFile]) -> None:
        self.path = path
        self.metadata = None
        self.others = {}
        self._home: dict[str, CheckpointFile] = {}
        self._shards: list[CheckpointFile] = []
        weight_map = _weight_map(path)
        try:
            for name in dict.fromkeys(weight_map.values()):
                self._shards.append(open_shard(_shard_path(path, name)))
            shards = dict(zip(dict.fromkeys(weight_map.values()), self._shards, strict=True))
            self._home = {key: shards[name] for key, name in weight_map.items()}
            self._check(weight_map, shards)
        except BaseException:
            self.close()
            raise

    def _check(self, weight_map: Mapping[str, str], shards: Mapping[str, CheckpointFile]) -> None:
        held = {name: set(shard.keys()) for name, shard in shards.items()}
        for key, name in weight_map.items():
            if key not in held[name]:
                raise CheckpointError(
                    f"{self.path}: the index says that '{excerpt(key)}' is in {excerpt(name)}, but it is not.", _AGAIN
                )
        for name, keys in held.items():
            for key in keys:
                if weight_map.get(key) != name:
                    raise CheckpointError(
                        f"{self.path}: {excerpt(name)} holds '{excerpt(key)}', which the index does not place there.",
                        _AGAIN,
                    )

    def keys(self) -> tuple[str, ...]:
        return tuple(self._home)

    def shape(self, key: str) -> tuple[int, ...]:
        return self._home[key].shape(key)

    def dtype(self, key: str) -> torch.dtype:
        return self._home[key].dtype(key)

    def get(self, key: str, device: torch.device | str = "cpu") -> Tensor:
        return self._home[key].get(key, device)

    def close(self) -> None:
        for shard in self._shards:
            shard.close()


def index_in(folder: Path) -> Path | None:
    """The index of the sharded checkpoint in ``folder``; None where there is none. :class:`CheckpointError` for two."""
    found = sorted(path for path in folder.iterdir() if path.name.endswith(SUFFIX))
    if len(found) > 1:
        names = ", ".join(excerpt(path.name) for path in found[:3])
        raise CheckpointError(f"{folder}: there are {len(found)} sharded checkpoints in it ({names}).", "Name one.")
    return found[0] if found else None


def shard_paths(index: Path) -> tuple[Path, ...]:
    """The files that an index names, in its order. Raises :class:`CheckpointError` for an index that makes no sense."""
    return tuple(_shard_path(index, name) for name in dict.fromkeys(_weight_map(index).values()))


def _weight_map(path: Path) -> dict[str, str]:
    if path.stat().st_size > _LARGEST_INDEX:
        raise CheckpointError(f"{path}: an index of more than {_LARGEST_INDEX:,} bytes.", _AGAIN)
    try:
        document: Any = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: the index of a sharded checkpoint, damaged: it is no JSON.", _AGAIN) from error
    weight_map = document.get("weight_map") if isinstance(document, dict) else None
    if not isinstance(weight_map, dict) or not weight_map or not all(isinstance(n, str) for n in weight_map.values()):
        raise CheckpointError(
            f"{path}: the index of a sharded checkpoint without a 'weight_map' from tensors to files.",
            "Give one that transformers, accelerate or timm wrote, or one file that holds all tensors.",
        )
    return weight_map


def _shard_path(index: Path, name: str) -> Path:
    """By its words alone: the files of a hub's cache are links that lead elsewhere, and may."""
    parts = PurePosixPath(name).parts
    if not parts or PurePosixPath(name).is_absolute() or ".." in parts or "\0" in name or "\\" in name:
        raise CheckpointError(
            f"{index}: the index names '{excerpt(name)}', which is not inside its folder.",
            "Use an index whose files lie beside it.",
        )
    path = index.parent / name
    if not path.exists():
        raise CheckpointError(f"{index}: the shard {excerpt(name)} is not there.", f"Put it beside {index.name}.")
    return path
