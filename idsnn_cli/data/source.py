"""What every data set offers before an image is read: its labels, its classes and a way to read chosen rows."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from idsnn_cli.recipe.data_section import Data, DataNeeds

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Part = str
"""``train``, ``validation`` or ``test``: a part as the data set ships it, or a split as the run uses it."""

Rows = tuple[Part, "Tensor"]
"""The shipped part that a split is taken from, and the int64 rows (n,) of it, rising."""

Say = Callable[[str], None]


def shuffled(count: int, seed: int) -> Tensor:
    """int64 (count,), the numbers from 0 in an order of their own for each ``seed``, the same on every machine."""
    import torch

    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))


@dataclass(frozen=True)
class Crop:
    """RandomResizedCrop as torchvision's: shares of the file's area, and the least and the greatest width / height.

    Each image of an epoch has a seed of its own, which ``seed`` and the image's row give: so its crop is the same in
    whatever batch, process or order it comes.
    """

    seed: int
    scale: tuple[float, float]
    ratio: tuple[float, float]


class FileImages(ABC):
    """Images that stay in their files and become pixels each time that they are used.

    They stand where others have uint8 (N, C, H, W), and have the same ``shape``, ``dim()`` and slices.
    """

    shape: tuple[int, int, int, int]

    def __len__(self) -> int:
        return self.shape[0]

    def dim(self) -> int:
        return len(self.shape)

    @abstractmethod
    def __getitem__(self, rows: slice) -> Tensor:
        """uint8 (n, C, H, W) of some rows, on the CPU, as they are measured: resized and cut from the centre."""

    @abstractmethod
    def read(self, wanted: Sequence[Tensor], device: torch.device, crop: Crop | None) -> Generator[Tensor]:
        """uint8 (n, C, H, W) on ``device`` for each int64 (n,) of ``wanted``, in order; later ones are read ahead.

        With ``crop`` a part of each file is drawn instead of the centre. Raises :class:`DataError` for a file that is
        not an image or not there.
        """

    @abstractmethod
    def order(self, seed: int) -> Tensor:
        """int64 (N,), the order in which an epoch reads the rows."""

    @abstractmethod
    def identity(self) -> bytes:
        """What tells these images from others without reading them: names and sizes of the files, and the geometry."""


@dataclass(frozen=True, eq=False)
class Source:
    """A data set whose labels are known and whose images are still to be read.

    ``labels`` holds int64 (N,) of each shipped part. ``read`` takes the rows of every split that the run uses, all
    at once so that it can judge their size together, and gives uint8 (n, C, H, W) for each, or :class:`FileImages`; of
    recordings frames, (n, T, 2, H, W).
    """

    name: str
    classes: tuple[str, ...]
    labels: Mapping[Part, Tensor]
    image_size: tuple[int, int]
    read: Callable[[Mapping[Part, Rows]], Mapping[Part, Tensor | FileImages]]


@dataclass(frozen=True)
class DataPlan:
    """What loading would do, found without reading images.

    ``files`` are there and would be read; ``missing`` are not and would be made from ``downloads``, of ``download_mb``
    (10^6 bytes) in all. ``counts`` holds the images of each split; ``image_bytes`` is what they take as uint8, of
    ``channels`` each, 0 where they stay in their files. ``num_classes`` and ``image_size`` (height, width) are None
    where only the images would tell, and ``classes``, their names, empty. ``frames`` are the T frames of a recording,
    None of images.
    """

    name: str
    files: tuple[Path, ...]
    counts: Mapping[Part, int]
    image_bytes: int
    num_classes: int | None
    image_size: tuple[int, int] | None
    missing: tuple[Path, ...] = ()
    downloads: tuple[str, ...] = ()
    download_mb: float = 0.0
    notes: tuple[str, ...] = field(default=())
    classes: tuple[str, ...] = ()
    channels: int = 3
    frames: int | None = None


class DataSet(DataNeeds, ABC):
    """A data set: what it needs of the ``data`` section (:class:`DataNeeds`), and how its images are had."""

    @abstractmethod
    def plan(self, section: Data) -> DataPlan:
        """What reading ``section`` takes, found without reading images.

        Raises :class:`DataError` where a file is missing and may not be downloaded, where one is not what it should be,
        or where a split asks for more images than there are (``splits.split_sizes``).
        """

    @abstractmethod
    def open(self, section: Data, *, max_memory_gb: float, say: Say | None) -> Source:
        """The data set with its labels read and its images to be read, downloaded where ``section`` allows it.

        ``max_memory_gb`` (10^9 bytes each) is the most that decoded images may take in memory; ``say`` hears one line
        about each thing worth knowing before it is done. Raises :class:`DataError` for data that is missing or damaged.
        """


def cache_folder() -> Path:
    """``~/.cache/idsnn``, or under ``XDG_CACHE_HOME`` where that is set."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "idsnn"


def data_root(root: Path | None) -> Path:
    """The folder of the downloaded data sets: ``root``, else the variable IDSNN_DATA, else :func:`cache_folder`."""
    if root is not None:
        return root.expanduser()
    named = os.environ.get("IDSNN_DATA")
    return Path(named).expanduser() if named else cache_folder()


def take(arrays: Mapping[Part, Tensor], rows: Mapping[Part, Rows]) -> dict[Part, Tensor]:
    """The chosen rows of images that are in memory; a part that is used whole is not copied."""
    chosen = {}
    for split, (part, index) in rows.items():
        images = arrays[part]
        chosen[split] = images if len(index) == len(images) else images[index]
    return chosen
