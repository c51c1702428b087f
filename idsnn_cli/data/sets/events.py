"""One's own recordings of events: path/train/CLASS/FILE and path/test/CLASS/FILE, of a sensor whose size is said."""

from __future__ import annotations

from typing import ClassVar

from idsnn_cli.data.events.event_set import SUFFIXES, EventSet, Found, in_class_folders, visible_folders
from idsnn_cli.data.source import Part
from idsnn_cli.errors import DataError
from idsnn_cli.recipe.data_section import Data

_FOLDERS: dict[Part, str] = {"train": "train", "validation": "val", "test": "test"}


class Events(EventSet):
    """What a file holds is said in :mod:`idsnn_cli.data.events.recordings`; ``path/val`` may hold validation ones."""

    path: ClassVar[bool] = True
    sensor: ClassVar[bool] = True
    own_validation: ClassVar[bool] = True

    def size_of(self, section: Data) -> tuple[int, int]:
        assert section.sensor is not None  # the recipe's own validation asks for it
        return section.sensor

    def find(self, section: Data) -> Found:
        assert section.path is not None  # and for this
        path = section.path.expanduser()
        for name in ("train", "test"):
            if not (path / name).is_dir():
                raise DataError(
                    f"there is no folder {path / name}",
                    f"Arrange recordings as {path}/train/CLASS/FILE and {path}/test/CLASS/FILE "
                    f"({', '.join(SUFFIXES)}).",
                )
        classes = tuple(visible_folders(path / "train"))
        if len(classes) < 2:
            raise DataError(
                f"{path / 'train'} holds {len(classes)} folder{'' if len(classes) == 1 else 's'} of classes",
                "Give each class a folder there, two at least.",
            )
        parts = {
            part: in_class_folders(path / name, classes, every_class=part == "train")
            for part, name in _FOLDERS.items()
            if (path / name).is_dir()
        }
        return Found(classes, parts, tuple(path / _FOLDERS[part] for part in parts))


EVENTS_SET = Events()
