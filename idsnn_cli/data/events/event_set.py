"""What all sets of recordings have in common: found in folders, looked at, binned, read as frames."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from idsnn_cli.data.source import DataPlan, DataSet, Part, Rows, Say, Source
from idsnn_cli.errors import DataError
from idsnn_cli.recipe.data_section import Data

if TYPE_CHECKING:
    from torch import Tensor

    from idsnn_cli.data.events.frames import Binning

SUFFIXES = (".bin", ".aedat", ".aedat4", ".npz", ".npy")
WORDS = {"count": "many events", "time": "much time"}
# The most recordings of each part that are read to see whether they can be, before anything is done.
_LOOKED_AT = 20


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of one part, and the class of each."""

    files: tuple[Path, ...]
    labels: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """``folders`` are where the files of ``parts`` were found."""

    classes: tuple[str, ...]
    parts: Mapping[Part, Listing]
    folders: tuple[Path, ...]


class EventSet(DataSet):
    """Recordings of a sensor as frames: uint8 (N, T, 2, H, W), counts of events by polarity."""

    frames: ClassVar[bool] = True
    image_size: ClassVar[bool] = True

    @abstractmethod
    def size_of(self, section: Data) -> tuple[int, int]:
        """The sensor's (height, width)."""

    @abstractmethod
    def find(self, section: Data) -> Found:
        """The files. Raises :class:`DataError` where they are not there, or not in folders that are known."""

    def plan(self, section: Data) -> DataPlan:
        from idsnn_cli.data.events.recordings import read_recording, require_readers
        from idsnn_cli.data.splits import split_sizes

        binning, found = self.binning(section), self.find(section)
        require_readers({file.suffix for each in found.parts.values() for file in each.files})
        for each in found.parts.values():
            for file in each.files:
                if file.stat().st_size == 0:
                    raise DataError(f"{file} is empty", "Remove it, or replace it with a whole one.")
            for file in each.files[:: -(-len(each.files) // _LOOKED_AT)]:
                read_recording(file, binning.sensor)
        counts = split_sizes(section, {part: len(each.files) for part, each in found.parts.items()})
        frames, channels, height, width = binning.shape
        return DataPlan(
            name=section.dataset,
            files=found.folders,
            counts=counts,
            image_bytes=sum(counts.values()) * frames * channels * height * width,
            num_classes=len(found.classes),
            image_size=(height, width),
            notes=(f"{frames} frames each, of as {WORDS[section.slicing]} (data.slicing={section.slicing})",),
            classes=found.classes,
            channels=channels,
            frames=frames,
        )

    def open(self, section: Data, *, max_memory_gb: float, say: Say | None) -> Source:
        import torch

        from idsnn_cli.data.events.maps import mapped_frames

        binning, found = self.binning(section), self.find(section)

        def read(rows: Mapping[Part, Rows]) -> dict[Part, Tensor]:
            return {
                split: mapped_frames([found.parts[part].files[row] for row in index.tolist()], binning, say)
                for split, (part, index) in rows.items()
            }

        labels = {part: torch.tensor(each.labels, dtype=torch.int64) for part, each in found.parts.items()}
        return Source(section.dataset, found.classes, labels, binning.shape[-2:], read)

    def binning(self, section: Data) -> Binning:
        """Raises :class:`DataError` for a size to which the sensor's pixels cannot be put together."""
        from idsnn_cli.data.events.frames import Binning

        height, width = self.size_of(section)
        size = section.image_size or height
        side = height // size
        if side * size != height or width % side:
            fitting = [height // n for n in range(1, height + 1) if height % n == 0 == width % n and height // n >= 8]
            raise DataError(
                f"data.image_size is {size}, and pixels of a sensor of {height}x{width} are only put together whole",
                f"Give one of {', '.join(map(str, fitting))}.",
            )
        if section.frames is None:  # a recipe says at least the student's T
            raise DataError("how many frames a recording has is not said", "Give data.frames=T, the time steps.")
        return Binning(section.frames, (height, width), side, section.slicing)


def sort_key(path: Path) -> tuple[str | int, ...]:
    """Numbers in names by their size: cifar10_dog_2 stands before cifar10_dog_10."""
    return tuple(int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", path.name))


def visible_folders(folder: Path) -> list[str]:
    """The names of the folders in ``folder``, sorted, but for hidden ones; none where it is not there."""
    if not folder.is_dir():
        return []
    return sorted(each.name for each in folder.iterdir() if each.is_dir() and not each.name.startswith("."))


def in_class_folders(folder: Path, classes: Sequence[str], *, every_class: bool) -> Listing:
    """The recordings of ``folder``/CLASS, class by class, in the order of their names and numbers.

    Raises :class:`DataError` for a folder that is no class, a class without recordings where there must be
    ``every_class``, and a folder without any.
    """
    for name in visible_folders(folder):
        if name not in classes:
            raise DataError(f"{folder / name} is a folder of no class", f"The classes are {', '.join(classes)}.")
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        inside = folder / name
        there = list(inside.iterdir()) if inside.is_dir() else []
        found = sorted((each for each in there if each.suffix in SUFFIXES and each.name[0] != "."), key=sort_key)
        if every_class and not found:
            raise DataError(
                f"{inside} holds no recording",
                f"Put them there ({', '.join(SUFFIXES)}), or name the folder of another set with data.root.",
            )
        files += found
        labels += [label] * len(found)
    if not files:
        raise DataError(f"{folder} holds no recordings", f"Put them into {folder}/CLASS ({', '.join(SUFFIXES)}).")
    return Listing(tuple(files), tuple(labels))


def first_there(root: Path, places: Sequence[str], inside: str) -> Path | None:
    """The first of the folders ``places`` below ``root`` that holds a folder ``inside``; None where none does."""
    return next((root / place for place in places if (root / place / inside).is_dir()), None)
