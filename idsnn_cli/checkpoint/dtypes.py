"""The element types of safetensors, and how a tensor's bytes are reached."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from idsnn_cli.errors import CheckpointError
from idsnn_cli.text import excerpt

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
