"""Our own checkpoints: safetensors files whose bytes depend on nothing but what is stored.

The format is written here instead of by the safetensors package: one tensor at a time leaves the device and
is written, so the peak is the largest tensor, and tied or non-contiguous tensors need no copy of the whole.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from idsnn_cli.checkpoint.arrays import TORCH_DTYPES, dtype_name, raw_bytes
from idsnn_cli.checkpoint.atomic import atomic_path, dump_json

FORMAT_VERSION = 1
METADATA_KEY = "idsnn"
# The package's order: the widest elements first, so that each tensor starts at a multiple of its element's size.
_RANKS = {name: rank for rank, name in enumerate(TORCH_DTYPES)}


def write_checkpoint(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write ``tensors`` (any device, layout or tying) and ``metadata`` to ``path``.

    The file is safetensors with one metadata key, ``idsnn``: sorted compact JSON of ``metadata`` with
    ``format_version``. The same input gives the same bytes, whatever its order. The file is written whole or not at
    all. Raises :class:`WriteError`; :class:`NonFiniteError` for a NaN in ``metadata`` (tensors are not looked at);
    :class:`CheckpointError` for a tensor that has no plain bytes.
    """
    document = dump_json({**metadata, "format_version": FORMAT_VERSION}, path)
    ranks = {name: _RANKS[dtype_name(name, tensor)] for name, tensor in tensors.items()}
    order = sorted(tensors, key=lambda name: (-ranks[name], name))
    header = _header(order, tensors, document)
    with atomic_path(path) as temporary, temporary.open("wb") as handle:
        handle.write(header)
        for name in order:
            handle.write(raw_bytes(tensors[name]))


def _header(order: list[str], tensors: Mapping[str, Tensor], document: str) -> bytes:
    """The length and the JSON that open a safetensors file, padded with spaces to a multiple of 8 bytes."""
    entries: dict[str, Any] = {"__metadata__": {METADATA_KEY: document}}
    offset = 0
    for name in order:
        if name == "__metadata__":
            raise ValueError("'__metadata__' is the format's own key, not a tensor's name")
        tensor = tensors[name]
        end = offset + tensor.numel() * tensor.element_size()
        entries[name] = {
            "dtype": dtype_name(name, tensor),
            "shape": list(tensor.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
