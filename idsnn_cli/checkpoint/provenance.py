"""What a checkpoint was made from, as hashes that do not depend on the device or on a file's layout."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from torch import Tensor

from idsnn_cli.checkpoint.dtypes import dtype_name, raw_bytes
from idsnn_cli.checkpoint.sniffing import check_is_file, unreadable


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
    generator that reads one at a time keeps one at a time. Raises ValueError where a name comes twice.
    """
    lines: dict[str, list[object]] = {}
    for name, tensor in items:
        if name in lines:
            raise ValueError(f"tensor '{name}' was given twice")
        digest = hashlib.sha256(raw_bytes(tensor)).hexdigest()
        lines[name] = [name, dtype_name(name, tensor), list(tensor.shape), digest]
    whole = hashlib.sha256()
    for name in sorted(lines):
        whole.update(json.dumps(lines[name], separators=(",", ":")).encode() + b"\n")
    return whole.hexdigest()
