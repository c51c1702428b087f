"""Decoded images on disk, for sets larger than memory: written whole or not at all, found again by the next run."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from idsnn_cli.data.decode import decode_chunks
from idsnn_cli.data.source import cache_folder
from idsnn_cli.errors import WriteError

_FORMAT = "1"


def mapped_images(files: Sequence[Path], size: int) -> Tensor:
    """uint8 (N, 3, size, size) on the CPU, read from disk as they are used.

    The file's name is a hash of the paths, sizes and modification times of ``files`` and of ``size``, so changed
    images are decoded anew. Raises :class:`WriteError` where the disk has no room, :class:`DataError` for a file that
    is not an image.
    """
    path = cache_folder() / "folder" / f"{_key(files, size)}.npy"
    shape = (len(files), 3, size, size)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # The processes of one machine wait for the first of them instead of decoding the same files.
        with FileLock(path.with_suffix(".lock")):
            if not path.is_file():
                _write(path, files, shape)
        # Mode c gives private pages: torch asks for writable memory, and nothing ever reaches the file.
        return torch.from_numpy(np.load(path, mmap_mode="c"))
    except OSError as error:
        raise WriteError(
            f"the memory map {path} cannot be kept: {error}",
            "Free disk space, set XDG_CACHE_HOME to a larger disk, or lower data.image_size or data.subset.",
        ) from error


def _write(path: Path, files: Sequence[Path], shape: tuple[int, ...]) -> None:
    needed, free = int(np.prod(shape)), shutil.disk_usage(path.parent).free
    if needed > free:
        raise OSError(f"it takes {needed / 1e9:.3g} GB and the disk has {free / 1e9:.3g} GB free")
    temporary = path.with_suffix(".tmp")  # one name, written under the lock: a killed run's leftover is overwritten
    try:
        # Plain writes, for a full disk then is an error; under a writable map it would kill the process.
        with temporary.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
            for chunk in decode_chunks(files, shape[-1]):
                file.write(np.ascontiguousarray(chunk).data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _key(files: Sequence[Path], size: int) -> str:
    digest = hashlib.sha256(f"{_FORMAT} {size}\n".encode())
    for file in files:
        state = file.stat()
        digest.update(f"{file.resolve()}\0{state.st_size}\0{state.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()[:32]
