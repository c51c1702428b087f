"""One's own images as arrays in one .npz file, ``data.path``."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from idsnn_cli.data.source import DataPlan, DataSet, Say, Source
from idsnn_cli.recipe.data_section import Data


class Npz(DataSet):
    """What is in the file is said in :mod:`idsnn_cli.data.npz_file`."""

    path: ClassVar[bool] = True
    image_size: ClassVar[bool] = True
    own_validation: ClassVar[bool] = True

    def plan(self, section: Data) -> DataPlan:
        from idsnn_cli.data.npz_file import plan_npz

        return plan_npz(section, _path(section))

    def open(self, section: Data, *, max_memory_gb: float, say: Say | None) -> Source:
        from idsnn_cli.data.npz_file import open_npz

        return open_npz(section, _path(section))


def _path(section: Data) -> Path:
    assert section.path is not None  # the recipe's own validation asks for it
    return section.path.expanduser()


NPZ = Npz()
