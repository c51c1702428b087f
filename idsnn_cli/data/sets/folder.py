"""One's own images in torchvision's ImageFolder layout: path/train/CLASS/*, path/test/CLASS/*, optionally path/val."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from idsnn_cli.data.source import DataPlan, DataSet, FileImages, Part, Rows, Say, Source
from idsnn_cli.errors import DataError, did_you_mean
from idsnn_cli.recipe.data_section import Data

if TYPE_CHECKING:
    from torch import Tensor


DEFAULT_IMAGE_SIZE = 32
EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
# Formats of images that are not read: to be missed where they are passed over.
_OTHERS = (".jfif", ".gif", ".avif", ".heic", ".heif", ".jp2", ".jxl", ".npy", ".dcm", ".svg")
_LOOKED_AT = 500
"""The most images of each part that are decoded to see whether they can be, before anything is done."""
_GREY = (
    "the images looked at are grey, shown in three equal channels; data.channels=1 gives one, and networks that read it"
)
_FOLDERS: dict[Part, str] = {"train": "train", "validation": "val", "test": "test"}


@dataclass(frozen=True, eq=False)
class _Listing:
    """The files of one part, class by class and in alphabetical order, and the class of each.

    ``passed`` counts, by their endings, the images in formats that are not read.
    """

    files: tuple[Path, ...]
    labels: tuple[int, ...]
    passed: Mapping[str, int]

    def sample(self) -> tuple[Path, ...]:
        """All of them, or as many as are looked at, spread evenly over all classes."""
        return self.files[:: -(-len(self.files) // _LOOKED_AT)]


class Folder(DataSet):
    """The images of ``data.path``, decoded once, when rows are chosen, or each time that they are used.

    The short side is resized to ``data.resize``, and the centre cropped to a square of ``data.image_size`` (32 where it
    is not given, and so is the short side), of three channels or, with ``data.channels`` 1, the mean of the three. With
    ``data.decode`` always they stay in their files (:class:`~idsnn_cli.data.streamed.StreamedImages`).
    Where the chosen images take more than ``max_memory_gb`` they are decoded into a memory map in the user's cache,
    which the next run reads; ``say`` hears the size first. Raises :class:`DataError` for a layout that is not the above
    and, when reading, for a file that is not an image.
    """

    path: ClassVar[bool] = True
    image_size: ClassVar[bool] = True
    files: ClassVar[bool] = True
    own_validation: ClassVar[bool] = True

    def plan(self, section: Data) -> DataPlan:
        from idsnn_cli.data.image_files import decode_chunks
        from idsnn_cli.data.splits import split_sizes

        path, size, channels = _path(section), section.image_size or DEFAULT_IMAGE_SIZE, section.channels or 3
        classes, parts = _list_parts(path)
        grey = True
        for each in parts.values():
            for chunk in decode_chunks(each.sample(), size, short=section.resize):
                grey = grey and bool((chunk == chunk[:, :1]).all())
        counts = split_sizes(section, {part: len(each.files) for part, each in parts.items()})
        return DataPlan(
            name="folder",
            files=tuple(path / name for name in _folders(path).values()),
            counts=counts,
            image_bytes=0 if section.decodes_always else sum(counts.values()) * channels * size * size,
            num_classes=len(classes),
            image_size=(size, size),
            notes=_passed_over(parts) + ((_GREY,) if grey and section.channels is None else ()),
            classes=classes,
            channels=channels,
        )

    def open(self, section: Data, *, max_memory_gb: float, say: Say | None) -> Source:
        import torch

        from idsnn_cli.data.decoding import View
        from idsnn_cli.data.image_files import decode_all, mapped_images
        from idsnn_cli.data.image_store import FileStore
        from idsnn_cli.data.streamed import StreamedImages

        path, size, channels = _path(section), section.image_size or DEFAULT_IMAGE_SIZE, section.channels or 3
        classes, parts = _list_parts(path)

        def stream(rows: Mapping[Part, Rows]) -> dict[Part, FileImages]:
            view = View(size, section.resize or size, channels)
            stores = {part: FileStore(path, each.files) for part, each in parts.items()}
            settings: dict[str, Any] = {"workers": section.workers, "nvjpeg": section.nvjpeg, "say": say}
            found: dict[Part, FileImages] = {
                split: StreamedImages(stores[part], index, view, **settings) for split, (part, index) in rows.items()
            }
            if say is not None:
                number = sum(map(len, found.values()))
                say(f"{path}: {number:,} images stay in their files and are decoded each time, to {size}x{size}")
                for note in _passed_over(parts):
                    say(f"{path}: {note}")
            return found

        def read(rows: Mapping[Part, Rows]) -> dict[Part, Tensor]:
            chosen = {
                split: [parts[part].files[row] for row in index.tolist()] for split, (part, index) in rows.items()
            }
            number = sum(map(len, chosen.values()))
            gigabytes = number * channels * size * size / 1e9
            mapped = gigabytes > max_memory_gb
            if say is not None:
                where = f"more than {max_memory_gb:g} GB: through a memory map on disk" if mapped else "in memory"
                say(f"{path}: {number:,} images of {size}x{size} take {gigabytes:.3g} GB, {where}")
                for note in _passed_over(parts):
                    say(f"{path}: {note}")
            decode = mapped_images if mapped else decode_all
            return {split: decode(files, size, channels, section.resize) for split, files in chosen.items()}

        labels = {part: torch.tensor(each.labels, dtype=torch.int64) for part, each in parts.items()}
        return Source("folder", classes, labels, (size, size), stream if section.decodes_always else read)


FOLDER = Folder()


def _path(section: Data) -> Path:
    assert section.path is not None  # the recipe's own validation asks for it
    return section.path.expanduser()


def _list_parts(path: Path) -> tuple[tuple[str, ...], dict[Part, _Listing]]:
    folders = _folders(path)
    for part in ("train", "test"):
        if part not in folders:
            raise DataError(
                f"there is no folder {path / part}",
                f"Arrange the images as {path}/train/CLASS/FILE and {path}/test/CLASS/FILE.",
            )
    classes = _class_names(path / "train")
    if not classes:
        raise DataError(f"{path / 'train'} has no folder for a class", f"Arrange images as {path}/train/CLASS/FILE.")
    if len(classes) == 1:
        raise _one_class(path / "train" / classes[0])
    parts = {part: _list_images(path / name, classes, every_class=part == "train") for part, name in folders.items()}
    return classes, parts


def _folders(path: Path) -> dict[Part, str]:
    """The folder of each part that is there. Without ``test``, as of ImageNet, ``val`` is what is tested on."""
    found = {part: name for part, name in _FOLDERS.items() if (path / name).is_dir()}
    if "test" not in found and "validation" in found:
        found["test"] = found.pop("validation")
    return found


def _class_names(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(each.name for each in folder.iterdir() if each.is_dir() and not each.name.startswith(".")))


def _list_images(folder: Path, classes: tuple[str, ...], *, every_class: bool) -> _Listing:
    for name in _class_names(folder):
        if name not in classes:
            raise DataError(
                f"{folder / name} is a class without training images.{did_you_mean(name, classes)}",
                f"Rename or remove it, or add train/{name}.",
            )
    files: list[Path] = []
    labels: list[int] = []
    passed = Counter[str]()
    for label, name in enumerate(classes):
        found = []
        for path in _visible_files(folder / name):
            if path.name.lower().endswith(EXTENSIONS):
                found.append(path)
            elif path.suffix.lower() in _OTHERS:
                passed[path.suffix.lower()] += 1
        if every_class and not found:
            raise DataError(
                f"{folder / name} holds no image", f"Put images into it ({', '.join(EXTENSIONS)}), or remove it."
            )
        files += found
        labels += [label] * len(found)
    if not files:
        raise DataError(f"{folder} holds no images", f"Put images into {folder}/CLASS.")
    return _Listing(tuple(files), tuple(labels), passed)


def _one_class(folder: Path) -> DataError:
    """Of a set with one class, of which every answer is right; an unpacked archive is often a folder too deep."""
    inner = _class_names(folder)
    if inner:
        listed = ", ".join(inner[:3]) + (", ..." if len(inner) > 3 else "")
        return DataError(
            f"{folder} is the only class, and holds folders itself ({listed}): the images lie one folder too deep",
            f"Move what is in {folder} to {folder.parent}.",
        )
    return DataError(f"{folder} is the only class, so every answer would be right", "Add the images of other classes.")


def _passed_over(parts: Mapping[Part, _Listing]) -> tuple[str, ...]:
    counts = sum((Counter(each.passed) for each in parts.values()), Counter[str]())
    if not counts:
        return ()
    listed = ", ".join(f"{count:,} {suffix}" for suffix, count in sorted(counts.items()))
    return (f"passed over, for what is read is {', '.join(EXTENSIONS)}: {listed}",)


def _visible_files(folder: Path) -> list[Path]:
    """Every file below ``folder`` in the order of torchvision's ImageFolder, but what is hidden by a dot.

    Links to folders are followed. Raises :class:`DataError` for one that leads back to where it stands, and for what is
    no file though it has an image's name.
    """
    found: list[Path] = []
    walked: set[tuple[int, int]] = set()
    for root, folders, names in sorted(_walk(folder, walked)):
        del folders
        for name in sorted(names):
            path = Path(root, name)
            if name.startswith("."):
                continue
            if name.lower().endswith(EXTENSIONS) and path.exists() and not stat.S_ISREG(path.stat().st_mode):
                raise DataError(f"{path} is no file, though it has an image's name", "Remove it.")
            found.append(path)
    return found


def _walk(folder: Path, walked: set[tuple[int, int]]) -> Iterator[tuple[str, list[str], list[str]]]:
    for root, folders, names in os.walk(folder, followlinks=True):
        state = os.stat(root)
        if (state.st_dev, state.st_ino) in walked:
            raise DataError(f"{root} is a link to a folder that is read already", "Remove the link.")
        walked.add((state.st_dev, state.st_ino))
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in folders:
            path = Path(root, name)
            if path.is_symlink() and path.resolve() in (Path(root).resolve(), *Path(root).resolve().parents):
                raise DataError(f"{path} is a link to a folder that holds it", "Remove the link.")
        yield root, folders, names
