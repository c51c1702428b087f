"""numpy's ``.npz`` archives as checkpoints, and the element types that tensors are stored as.

Headers are read at once, arrays one at a time, and nothing is ever unpickled.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from idsnn_cli.checkpoint.file import CheckpointFile
from idsnn_cli.errors import CheckpointError
from idsnn_cli.text import excerpt

_AGAIN = "Download or copy it again."
# Weights hardly compress, so an archive that claims far more than it has is damaged or made to harm.
_MOST_BEYOND_FILE = 200_000_000
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def is_npz(path: Path) -> bool:
    """Whether the zip archive at ``path`` holds numpy arrays and nothing else; False for one that is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception:  # zipfile raises many kinds; the reader that is tried next says what is wrong
        return False
    return bool(names) and all(name.endswith(".npy") for name in names)


class NpzFile(CheckpointFile):
    """A state dict that ``numpy.savez`` wrote. Raises :class:`CheckpointError` for one of Python objects."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metadata = None
        self.others = {}
        self._entries: dict[str, zipfile.ZipInfo] = {}
        self._described: dict[str, tuple[tuple[int, ...], torch.dtype]] = {}
        try:
            self._archive = zipfile.ZipFile(path)
            self._look(path.stat().st_size)
        except CheckpointError:
            raise
        except Exception as error:  # a damaged archive raises whatever its bytes happen to mean
            raise self._damaged(error) from error
        if not self._described:
            raise CheckpointError(f"{path}: there are no named tensors in it.", "Give a file that holds a state dict.")

    def _look(self, size: int) -> None:
        # Before any header is read: one may claim to be as long as its file is unpacked.
        claimed = sum(entry.file_size for entry in self._archive.infolist())
        if claimed > size + _MOST_BEYOND_FILE:
            raise ValueError(f"its arrays claim {claimed:,} bytes, the file has {size:,}")
        for entry in self._archive.infolist():
            name = entry.filename.removesuffix(".npy")
            with self._archive.open(entry) as member:
                shape, dtype = _header(member)
                start = member.tell()
            if dtype.hasobject:
                raise CheckpointError(
                    f"{self.path}: the array '{excerpt(name)}' holds Python objects, which could run code; "
                    "it was not opened.",
                    "Save plain numbers, one array for each tensor: numpy.savez(FILE, **arrays).",
                )
            if math.prod(shape) * dtype.itemsize != entry.file_size - start or name in self._described:
                raise ValueError(f"the array '{name}' does not fill its shape, or stands there twice")
            kind = _torch_dtype(dtype)
            if kind is None:
                self.others[name] = f"{dtype} array of shape {list(shape)}"
            else:
                self._entries[name] = entry
                self._described[name] = (shape, kind)

    def keys(self) -> tuple[str, ...]:
        return tuple(self._described)

    def shape(self, key: str) -> tuple[int, ...]:
        return self._described[key][0]

    def dtype(self, key: str) -> torch.dtype:
        return self._described[key][1]

    def get(self, key: str, device: torch.device | str = "cpu") -> Tensor:
        entry = self._entries[key]
        try:
            with self._archive.open(entry) as member:
                array = np.lib.format.read_array(member, allow_pickle=False)
        except Exception as error:
            raise self._damaged(error) from error
        native = array.astype(array.dtype.newbyteorder("="), order="C", copy=False)
        return torch.from_numpy(native).to(device)

    def close(self) -> None:
        self._archive.close()

    def _damaged(self, error: Exception) -> CheckpointError:
        reason = excerpt(str(error), 120) or type(error).__name__
        return CheckpointError(f"{self.path}: a truncated or damaged numpy archive: {reason.rstrip('.')}.", _AGAIN)


def _header(member: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(member)
    if version not in _HEADERS:
        raise ValueError(f"arrays of format version {version}")
    shape, _, dtype = _HEADERS[version](member)
    if min(shape, default=0) < 0:
        raise ValueError("a negative size")
    return tuple(int(size) for size in shape), dtype


def _torch_dtype(dtype: np.dtype[Any]) -> torch.dtype | None:
    """torch's name for a numpy element type; None for text, dates, records and numbers that torch does not have."""
    if dtype.kind not in "biufc":
        return None
    try:
        return torch.from_numpy(np.empty(0, dtype.newbyteorder("="))).dtype
    except TypeError:
        return None


# From the narrowest to the widest, in the order of the safetensors package.
TORCH_DTYPES: dict[str, torch.dtype] = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E4M3": torch.float8_e4m3fn,
    "I16": torch.int16,
    "U16": torch.uint16,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I32": torch.int32,
    "U32": torch.uint32,
    "F32": torch.float32,
    "C64": torch.complex64,
    "F64": torch.float64,
    "I64": torch.int64,
    "U64": torch.uint64,
}
DTYPE_NAMES = {dtype: name for name, dtype in TORCH_DTYPES.items()}


def is_plain(tensor: Tensor) -> bool:
    """True for a dense tensor with bytes: not sparse, quantized, nested or on the meta device."""
    return tensor.layout == torch.strided and not tensor.is_quantized and not tensor.is_nested and not tensor.is_meta


def refuse_odd(path: Path, others: Mapping[str, object]) -> None:
    """Raise :class:`CheckpointError` where tensors that are not plain stand among ``others``, the unread leaves."""
    odd = [name for name, value in others.items() if isinstance(value, Tensor)]
    if odd:
        more = f" and {len(odd) - 1} more" if len(odd) > 1 else ""
        raise CheckpointError(
            f"{path}: '{excerpt(odd[0])}'{more} cannot be read: quantised, sparse, or saved without values.",
            "Save them as plain tensors: tensor.dequantize(), tensor.to_dense().",
        )


def dtype_name(name: str, tensor: Tensor) -> str:
    """The safetensors name of the element type; :class:`CheckpointError` for a tensor that has no plain bytes."""
    if not is_plain(tensor) or tensor.dtype not in DTYPE_NAMES:
        raise CheckpointError(
            f"tensor '{name}' ({tensor.dtype}, {tensor.layout}, on {tensor.device}) has no plain bytes to store.",
            "Give dense tensors of an ordinary type.",
        )
    return DTYPE_NAMES[tensor.dtype]


def raw_bytes(tensor: Tensor) -> memoryview:
    """The elements in row-major order as bytes; copied only where they are not so already in this machine's memory."""
    plain = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
    return plain.reshape(-1).view(torch.uint8).numpy().data
