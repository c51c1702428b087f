"""Image files as a store: their paths in one block of bytes, which worker processes share without copying."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from idsnn_cli.data.streamed import Store


class FileStore(Store):
    """The files below ``folder``, by their paths as seen from it, in order."""

    def __init__(self, folder: Path, files: Sequence[Path]) -> None:
        # A list of a million paths would be copied into each worker, page by page, as references are counted.
        names = [os.fsencode(os.path.relpath(file, folder)) for file in files]
        self.folder = folder
        self._bytes = b"".join(names)
        self._ends = np.cumsum([len(name) for name in names], dtype=np.int64)

    def path(self, row: int) -> Path:
        return self.folder / os.fsdecode(self._relative(row))

    def name(self, row: int) -> str:
        return str(self.path(row))

    def read(self, row: int) -> bytes:
        return self.path(row).read_bytes()

    def identity(self, row: int) -> str:
        return f"{os.fsdecode(self._relative(row))}\0{self.path(row).stat().st_size}"

    def _relative(self, row: int) -> bytes:
        start = int(self._ends[row - 1]) if row else 0
        return self._bytes[start : int(self._ends[row])]
