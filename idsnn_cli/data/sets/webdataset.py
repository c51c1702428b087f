"""Images in tar files as webdataset writes them, a class beside each: for large sets and several machines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from idsnn_cli.data.source import DataPlan, DataSet, FileImages, Part, Rows, Say, Source
from idsnn_cli.errors import DataError
from idsnn_cli.recipe.data_section import Data

if TYPE_CHECKING:
    from idsnn_cli.data.tar_shards import ShardIndex

DEFAULT_IMAGE_SIZE = 224


class WebDataset(DataSet):
    """The samples of ``data.shards``: an image (``KEY.jpg`` or another format) and its class (``KEY.cls``, from 0).

    They stay in the shards, and each is read where it lies, so that every process reads the images of its own share
    and no others. An index of the places is kept in the user's cache. Raises :class:`DataError` for shards that are
    not there, damaged or compressed, and for samples without image or class.
    """

    image_size: ClassVar[bool] = True
    files: ClassVar[bool] = True
    shards: ClassVar[bool] = True
    own_validation: ClassVar[bool] = True

    def plan(self, section: Data) -> DataPlan:
        from idsnn_cli.data.splits import split_sizes

        parts, classes = _parts(section)
        size = section.image_size or DEFAULT_IMAGE_SIZE
        return DataPlan(
            name="webdataset",
            files=tuple(path for index in parts.values() for path in index.shards),
            counts=split_sizes(section, {part: len(index) for part, index in parts.items()}),
            image_bytes=0,
            num_classes=len(classes),
            image_size=(size, size),
            classes=classes,
            channels=section.channels or 3,
        )

    def open(self, section: Data, *, max_memory_gb: float, say: Say | None) -> Source:
        import torch

        from idsnn_cli.data.decoding import View
        from idsnn_cli.data.streamed import StreamedImages
        from idsnn_cli.data.tar_shards import ShardStore

        parts, classes = _parts(section)
        size = section.image_size or DEFAULT_IMAGE_SIZE
        view = View(size, section.resize or size, section.channels or 3)

        def read(rows: Mapping[Part, Rows]) -> dict[Part, FileImages]:
            stores = {part: ShardStore(index, section.window) for part, index in parts.items()}
            return {
                split: StreamedImages(
                    stores[part], index, view, workers=section.workers, nvjpeg=section.nvjpeg, say=say
                )
                for split, (part, index) in rows.items()
            }

        if say is not None:
            counts = ", ".join(f"{part} {len(each):,} images in {len(each.shards):,}" for part, each in parts.items())
            say(f"webdataset: {counts} shards, decoded each time, to {size}x{size}")
        labels = {part: torch.from_numpy(index.label) for part, index in parts.items()}
        return Source("webdataset", classes, labels, (size, size), read)


WEBDATASET = WebDataset()


def _parts(section: Data) -> tuple[dict[Part, ShardIndex], tuple[str, ...]]:
    from idsnn_cli.data.tar_shards import expand, index_of

    named = {"train": section.shards.train, "validation": section.shards.validation, "test": section.shards.test}
    parts = {part: index_of(expand(pattern)) for part, pattern in named.items() if pattern is not None}
    count = int(parts["train"].label.max()) + 1
    classes = tuple(map(str, range(count))) if section.shards.classes is None else _names(section.shards.classes)
    for part, index in parts.items():
        most = int(index.label.max())
        if most >= len(classes):
            where = "training shards have" if section.shards.classes is None else "data.shards.classes names"
            raise DataError(
                f"the {part} shards hold an image of class {most}, and the {where} {len(classes)} classes",
                "Correct data.shards, or make the shards anew.",
            )
    if len(classes) < 2:
        raise DataError("the training shards hold one class, so every answer would be right", "Add images of others.")
    return parts, classes


def _names(path: Path) -> tuple[str, ...]:
    try:
        lines = path.expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"data.shards.classes {path} cannot be read: {error}", "Give a text file of names.") from None
    names = tuple(line.strip() for line in lines if line.strip())
    if len(set(names)) < len(names):
        raise DataError(f"data.shards.classes {path} names a class twice", "Give each class a name of its own.")
    return names
