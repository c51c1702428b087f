"""numpy arrays and scalars out of pickles, without running numpy's own unpickling.

torch's safe reader meets the names under which numpy pickles its objects; these stand-ins take their place, keep
plain data, and check every size against the bytes that are there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

_KINDS = "biufc"


class DtypeRecord:
    """Stands for ``numpy.dtype``: keeps the description of an element type, such as ``f4``."""

    def __init__(self, description: str, align: object = False, copy: object = True) -> None:
        if not isinstance(description, str):
            raise ValueError("a numpy dtype without a name")
        self.description = description
        self.big_endian = False

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.big_endian = state[1] == ">"

    def build(self) -> np.dtype[Any]:
        """The real dtype; ValueError for one whose elements are not numbers or truth values."""
        dtype = np.dtype(self.description)
        if dtype.kind not in _KINDS:
            raise ValueError(f"numpy elements of type {self.description}")
        return dtype.newbyteorder(">" if self.big_endian else "<")


class ArrayRecord:
    """Stands for ``numpy.ndarray`` while it is unpickled."""

    def __init__(self) -> None:
        self._array: np.ndarray[Any, Any] | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, column_major, content = state
        element = dtype.build()
        shape = tuple(int(size) for size in shape)
        if min(shape, default=0) < 0 or math.prod(shape) * element.itemsize != len(content):
            raise ValueError("a numpy array whose bytes do not fill its shape")
        flat = np.frombuffer(content, element)
        self._array = flat.reshape(shape, order="F" if column_major else "C")

    def tensor(self) -> Tensor:
        """The array as a tensor of the same shape and values, in native byte order."""
        if self._array is None:
            raise ValueError("a numpy array without content")
        native = self._array.astype(self._array.dtype.newbyteorder("="), order="C", copy=True)
        return torch.from_numpy(native)


def _reconstruct(kind: object, shape: object, code: object) -> ArrayRecord:
    if kind is not ArrayRecord:
        raise ValueError("a numpy array of a class of its own")
    return ArrayRecord()


def _scalar(dtype: DtypeRecord, content: bytes) -> bool | int | float | complex:
    element = dtype.build()
    if len(content) != element.itemsize:
        raise ValueError("a numpy number of another size than its type's")
    number: bool | int | float | complex = np.frombuffer(content, element)[0].item()
    return number


def _encode(text: str, encoding: str) -> bytes:
    # Protocol 2 has no bytes: numpy's come as text that is to be encoded as Latin-1.
    if encoding != "latin1":
        raise ValueError(f"bytes in the encoding {encoding!r}")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    return b""


# (stand-in, the name in the pickle), for numpy 2 and for numpy 1.
STAND_INS: list[tuple[Callable[..., Any], str]] = [
    (DtypeRecord, "numpy.dtype"),
    (ArrayRecord, "numpy.ndarray"),
    (_encode, "_codecs.encode"),
    (_no_bytes, "builtins.bytes"),  # the content of an empty array
    *(
        (function, f"{module}.multiarray.{name}")
        for module in ("numpy._core", "numpy.core")
        for function, name in ((_reconstruct, "_reconstruct"), (_scalar, "scalar"))
    ),
]
