"""What a checkpoint was made from, as hashes that do not depend on the device or on a file's layout."""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Self

from torch import Tensor

from idsnn_cli.checkpoint.arrays import dtype_name, raw_bytes
from idsnn_cli.checkpoint.sniffing import check_is_file, unreadable

# Tensors that are kept until they are hashed: enough that small ones hide behind large ones.
_WAITING = 8


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal. Raises :class:`CheckpointError` where it cannot be read."""
    check_is_file(path)
    try:
        with path.open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError as error:
        raise unreadable(path, error) from error


def tensors_sha256(items: Iterable[tuple[str, Tensor]]) -> str:
    """One SHA-256 over names, element types, shapes and bytes, in hexadecimal.

    The order of ``items``, the device and the memory layout do not matter. Each tensor is hashed as it comes, so a
    generator that reads one at a time keeps no more than a few. Raises ValueError where a name comes twice.
    """
    with TensorsDigest() as digest:
        for name, tensor in items:
            digest.add(name, tensor)
        return digest.hexdigest()


class TensorsDigest:
    """:func:`tensors_sha256` of tensors that are given one at a time, hashed in a thread of its own; a context manager.

    At most :data:`_WAITING` tensors wait for it; they must not be changed before :meth:`hexdigest` has returned.
    """

    def __init__(self) -> None:
        self._lines: dict[str, Future[str]] = {}
        self._waiting: deque[Future[str]] = deque()
        self._thread = ThreadPoolExecutor(1)

    def __contains__(self, name: str) -> bool:
        return name in self._lines

    def add(self, name: str, tensor: Tensor) -> None:
        """Raises ValueError where ``name`` was given before."""
        if name in self._lines:
            raise ValueError(f"tensor '{name}' was given twice")
        if len(self._waiting) == _WAITING:
            self._waiting.popleft().result()
        self._lines[name] = self._thread.submit(_line, name, tensor)
        self._waiting.append(self._lines[name])

    def hexdigest(self) -> str:
        whole = hashlib.sha256()
        for name in sorted(self._lines):
            whole.update(self._lines[name].result().encode() + b"\n")
        return whole.hexdigest()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._thread.shutdown(cancel_futures=True)


def _line(name: str, tensor: Tensor) -> str:
    dtype = dtype_name(name, tensor)
    digest = hashlib.sha256(raw_bytes(tensor)).hexdigest()
    return json.dumps([name, dtype, list(tensor.shape), digest], separators=(",", ":"))
