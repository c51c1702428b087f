"""Tar files of webdataset as a store: where each image lies in them, found once, so that any can be read at any time.

webdataset itself reads a stream, whose order hangs on the number of processes and cannot be taken up in its middle.
Here it says which files a pattern means, and which members are a sample.
"""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from idsnn_cli.checkpoint import write_bytes
from idsnn_cli.data.source import cache_folder
from idsnn_cli.data.streamed import Store
from idsnn_cli.errors import DataError
from idsnn_cli.extras import require_extra

Array = np.ndarray[Any, np.dtype[Any]]
IMAGES = ("jpg", "jpeg", "png", "webp", "ppm", "pgm", "bmp", "tif", "tiff")
_META = re.compile(r"__[^/]*__($|/)")  # what webdataset passes over
_BLOCK = 512
_FORMAT = "1"
_AGAIN = "Copy or make it again."


@dataclass(frozen=True, eq=False)
class ShardIndex:
    """Where the images of some shards lie: for each its shard, place and size in bytes, class and key."""

    shards: tuple[Path, ...]
    shard: Array
    offset: Array
    size: Array
    label: Array
    key: Array

    def __len__(self) -> int:
        return len(self.label)


class ShardStore(Store):
    """The images of ``index``. An epoch takes the shards in an order of its own and mixes ``window`` of them at a time,
    so that what is read lies together.
    """

    def __init__(self, index: ShardIndex, window: int) -> None:
        self.index = index
        self.window = window

    def name(self, row: int) -> str:
        return f"{self._shard(row)}: {self.index.key[row]}"

    def read(self, row: int) -> bytes:
        place, size = int(self.index.offset[row]), int(self.index.size[row])
        with self._shard(row).open("rb", buffering=0) as file:
            file.seek(place)
            content = file.read(size)
        if len(content) < size:
            raise OSError(f"it ends {size - len(content):,} bytes too early")
        return content

    def identity(self, row: int) -> str:
        return f"{self._shard(row).name}\0{self.index.key[row]}\0{self.index.size[row]}"

    def order(self, rows: Tensor, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        shard_of = torch.from_numpy(self.index.shard)[rows]
        shards = torch.unique(shard_of)
        turns = torch.empty(len(self.index.shards), dtype=torch.int64)
        turns[shards[torch.randperm(len(shards), generator=generator)]] = torch.arange(len(shards)) // self.window
        mixed = torch.randperm(len(rows), generator=generator)
        return mixed[turns[shard_of[mixed]].sort(stable=True).indices]

    def _shard(self, row: int) -> Path:
        return self.index.shards[int(self.index.shard[row])]


def expand(pattern: str) -> tuple[Path, ...]:
    """The files that ``pattern`` names, by webdataset's rules: ranges in braces, several patterns set apart by ``::``.

    Raises :class:`DataError` for one that is not there or not on a file system, and :class:`MissingPackageError` where
    webdataset is not installed.
    """
    require_extra("webdataset", "a webdataset", "webdataset")
    from webdataset.shardlists import expand_urls

    found = expand_urls(pattern)
    remote = [each for each in found if re.match(r"(pipe:|[a-z0-9]+://)", each)]
    if remote:
        raise DataError(
            f"{remote[0]} is no file: shards are read at places of their own, which a stream does not have",
            "Mount or download the shards, and give their paths.",
        )
    files = tuple(Path(each).expanduser() for each in found)
    gone = [path for path in files if not path.is_file()]
    if gone or not files:
        listed = ", ".join(map(str, gone[:3])) + (", ..." if len(gone) > 3 else "")
        raise DataError(
            f"{len(gone)} of the {len(files)} shards that {pattern} names are not there: {listed}",
            "Correct data.shards; {000..146} stands for a range.",
        )
    return files


def index_of(shards: Sequence[Path]) -> ShardIndex:
    """Where the images of ``shards`` lie, from the user's cache or found now, by reading the headers of all members.

    Raises :class:`DataError` for a shard that is damaged or compressed, or a sample without its image or class.
    """
    files = tuple(path.resolve() for path in shards)
    path = cache_folder() / "webdataset" / f"{_cache_key(files)}.npz"
    arrays = _cached(path)
    if arrays is None:
        with ThreadPoolExecutor(max_workers=8) as pool:
            parts = list(pool.map(_look_through, files))
        columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        arrays = columns | {"shard": np.repeat(np.arange(len(files)), [len(part["label"]) for part in parts])}
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **arrays)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, buffer.getvalue())
    return ShardIndex(files, **arrays)


def _cache_key(files: Sequence[Path]) -> str:
    digest = hashlib.sha256(f"{_FORMAT}\n".encode())
    for file in files:
        state = file.stat()
        digest.update(f"{file}\0{state.st_size}\0{state.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()[:32]


def _cached(path: Path) -> dict[str, Array] | None:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as held:
            return {name: held[name] for name in ("shard", "offset", "size", "label", "key")}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _look_through(path: Path) -> dict[str, Array]:
    """The columns of one shard's images, in their order."""
    from webdataset.tariterators import group_by_keys

    places, sizes, labels, keys = [], [], [], []
    try:
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for sample in group_by_keys(_members(path, tar)):
                member = _image_of(path, sample)
                places.append(member[0])
                sizes.append(member[1])
                keys.append(sample["__key__"])
                labels.append(_label_of(path, sample, file))
    except (tarfile.TarError, ValueError, EOFError, OSError) as error:
        raise DataError(f"{path} cannot be read as an uncompressed tar file: {error}", _AGAIN) from error
    if not labels:
        raise DataError(f"{path} holds no images", "Remove it from data.shards.")
    numbers = {"offset": places, "size": sizes, "label": labels}
    return {name: np.array(each, dtype=np.int64) for name, each in numbers.items()} | {"key": np.array(keys)}


def _members(path: Path, tar: tarfile.TarFile) -> Iterator[dict[str, Any]]:
    """Each file as webdataset groups them, with its place and size instead of its content."""
    length, end = path.stat().st_size, 0
    for member in tar:
        end = member.offset_data + -(-member.size // _BLOCK) * _BLOCK
        if member.offset_data + member.size > length:
            raise EOFError(f"it ends within {member.name}")
        if member.isreg() and not _META.match(member.name):
            yield {"fname": member.name, "data": (member.offset_data, member.size), "__url__": str(path)}
    # Two blocks of zeros stand at the end of a whole one: a copy that was cut between two files has none.
    if length < end + _BLOCK:
        raise EOFError("the mark of its end is missing")


def _image_of(path: Path, sample: dict[str, Any]) -> tuple[int, int]:
    found = [member for suffix, member in sample.items() if suffix in IMAGES]
    if len(found) != 1:
        held = ", ".join(sorted(suffix for suffix in sample if not suffix.startswith("__")))
        raise DataError(
            f"{path}: {sample['__key__']} holds {len(found)} images ({held}), and a sample is one",
            f"Its endings may be {', '.join(IMAGES)}.",
        )
    place: tuple[int, int] = found[0]
    return place


def _label_of(path: Path, sample: dict[str, Any], file: BinaryIO) -> int:
    if "cls" not in sample:
        raise DataError(
            f"{path}: {sample['__key__']} has no class", "Give each image a .cls, its number from 0, as text."
        )
    place, size = sample["cls"]
    back = file.tell()
    file.seek(place)
    text = file.read(min(size, 32)).strip()
    file.seek(back)
    if not text.isdigit():
        raise DataError(f"{path}: the class of {sample['__key__']} is {text!r}, and not a number from 0", _AGAIN)
    return int(text)
