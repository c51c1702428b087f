"""N-MNIST: MNIST's digits before a camera that makes three saccades (Orchard et al. 2015), 34x34, about 300 ms each."""

from __future__ import annotations

from idsnn_cli.data.events.event_set import EventSet, Found, first_there, in_class_folders
from idsnn_cli.data.source import data_root
from idsnn_cli.errors import DataError
from idsnn_cli.recipe.data_section import Data

CLASSES = tuple(map(str, range(10)))
# Of the archives and of tonic; of SpikingJelly's extracted files.
PLACES = ("NMNIST", "NMNIST/extract", "N-MNIST", ".")


class NMNIST(EventSet):
    """The recordings in ROOT/NMNIST/Train/0 to 9 and Test/0 to 9; there may be fewer than the 60,000 and 10,000."""

    def size_of(self, section: Data) -> tuple[int, int]:
        return 34, 34

    def find(self, section: Data) -> Found:
        root = data_root(section.root)
        folder = first_there(root, PLACES, "Train")
        if folder is None or not (folder / "Test").is_dir():
            lacking = f"{root / 'NMNIST'} with the folders Train and Test" if folder is None else f"{folder / 'Test'}"
            raise DataError(
                f"there is no {lacking}",
                "Unpack the archives of N-MNIST so, or let tonic: tonic.datasets.NMNIST(ROOT) in Python; then set "
                "data.root=ROOT or IDSNN_DATA.",
            )
        parts = {
            part: in_class_folders(folder / name, CLASSES, every_class=part == "train")
            for part, name in (("train", "Train"), ("test", "Test"))
        }
        return Found(CLASSES, parts, (folder / "Train", folder / "Test"))


NMNIST_SET = NMNIST()
