"""Frames kept on disk as memory maps: written whole or not at all, found again by the next run, damage noticed.

A map is an .npy file with the SHA-256 of all before it as its last 32 bytes.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from idsnn_cli.data.events.frames import MOST, Binning, bin_events
from idsnn_cli.data.events.recordings import read_recording
from idsnn_cli.data.source import Say, cache_folder
from idsnn_cli.errors import WriteError
from idsnn_cli.systems import replace, sync_file

_FORMAT = "1"
_DIGEST = 32
_BLOCK = 1 << 22


def mapped_frames(files: Sequence[Path], binning: Binning, say: Say | None) -> Tensor:
    """uint8 (N, T, 2, H, W) on the CPU, read from disk as they are used.

    The map's name is a hash of the paths, sizes and modification times of ``files`` and of ``binning``, so changed
    recordings are binned anew; so is a map that is not what was written, which is told. Raises :class:`DataError` for a
    recording that cannot be used and :class:`WriteError` where the disk has no room; then no map is there.
    """
    path = cache_folder() / "events" / f"{_key(files, binning)}.npy"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # The processes of one machine wait for the first of them instead of binning the same files.
        with FileLock(path.with_suffix(".lock")):
            if path.is_file() and not _is_whole(path):
                if say is not None:
                    say(f"the memory map {path} is damaged: its recordings are binned anew")
                path.unlink()
            if not path.is_file():
                _write(path, files, binning, say)
        # Mode c gives private pages: torch asks for writable memory, and nothing ever reaches the file.
        return torch.from_numpy(np.load(path, mmap_mode="c"))
    except OSError as error:
        raise WriteError(
            f"the memory map {path} cannot be kept: {error}",
            "Free disk space, set XDG_CACHE_HOME to a larger disk, or lower data.image_size or data.subset.",
        ) from error


def _write(path: Path, files: Sequence[Path], binning: Binning, say: Say | None) -> None:
    shape = (len(files), *binning.shape)
    needed, free = int(np.prod(shape)), shutil.disk_usage(path.parent).free
    if needed + _BLOCK > free:
        raise OSError(f"it takes {needed / 1e9:.3g} GB and the disk has {free / 1e9:.3g} GB free")
    if say is not None:
        size = f"{needed / 1e6:,.0f} MB, kept in {path}"
        say(f"binning {len(files):,} recordings to {binning.frames} frames each ({size})")
    temporary = path.with_suffix(".tmp")  # one name, written under the lock: a killed run's leftover is overwritten
    lost = 0
    try:
        # Plain writes, for a full disk then is an error; under a writable map it would kill the process.
        with temporary.open("wb") as file:
            out = _Digesting(file)
            np.lib.format.write_array_header_1_0(out, {"descr": "|u1", "fortran_order": False, "shape": shape})
            for each in files:
                frames, above = bin_events(read_recording(each, binning.sensor), binning)
                out.write(frames.tobytes())
                lost += above
            file.write(out.digest.digest())
        sync_file(temporary)
        replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    if lost and say is not None:
        say(f"{lost:,} events are left out: a pixel of a frame holds {MOST}, and more frames would hold more")


class _Digesting:
    """A file that is written, and the digest of what was written."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.digest = file, hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        return self.file.write(data)


def _is_whole(path: Path) -> bool:
    """Whether the file ends in the digest of all that stands before it."""
    digest, left = hashlib.sha256(), path.stat().st_size - _DIGEST
    with path.open("rb") as file:
        for block in _blocks(file, left):
            digest.update(block)
            left -= len(block)
        return left == 0 and file.read() == digest.digest()


def _blocks(file: BinaryIO, size: int) -> Iterator[bytes]:
    while size > 0 and (block := file.read(min(size, _BLOCK))):
        size -= len(block)
        yield block


def _key(files: Sequence[Path], binning: Binning) -> str:
    digest = hashlib.sha256(f"{_FORMAT} {binning.words()}\n".encode())
    for file in files:
        state: Any = file.stat()
        digest.update(f"{file.resolve()}\0{state.st_size}\0{state.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()[:32]
