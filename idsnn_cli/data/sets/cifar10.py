"""CIFAR-10: 50,000 training and 10,000 test images of ten classes, 32x32; or some of them in ROOT/cifar10.npz."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from idsnn_cli.data.sets._torchvision import TorchvisionSet
from idsnn_cli.data.source import DataPlan, Say, Source, data_root
from idsnn_cli.recipe.data_section import Data

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


class Cifar10(TorchvisionSet):
    """The packed file, with the keys of data set npz, goes first where it is there."""

    hub = "uoft-cs/cifar10"

    def plan(self, section: Data) -> DataPlan:
        from idsnn_cli.data.npz_file import plan_npz

        packed = self._packed(section)
        if packed is not None:
            return plan_npz(section, packed, CLASSES)
        return replace(super().plan(section), classes=CLASSES)

    def open(self, section: Data, *, max_memory_gb: float, say: Say | None) -> Source:
        from idsnn_cli.data.npz_file import open_npz

        packed = self._packed(section)
        if packed is not None:
            return open_npz(section, packed, CLASSES)
        return super().open(section, max_memory_gb=max_memory_gb, say=say)

    def also(self) -> str:
        return " nor cifar10.npz"

    def _packed(self, section: Data) -> Path | None:
        path = data_root(section.root) / "cifar10.npz"
        return path if path.is_file() else None


CIFAR10 = Cifar10(
    reader="CIFAR10",
    folder="cifar-10-batches-py",
    url="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    archive_bytes=170_498_071,
    num_classes=10,
    shipped={"train": 50_000, "test": 10_000},
    size=32,
)
