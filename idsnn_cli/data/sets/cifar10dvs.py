"""CIFAR10-DVS: 10,000 images of CIFAR-10 moved before an event camera of 128x128 (Li et al. 2017)."""

from __future__ import annotations

from pathlib import Path

from idsnn_cli.data.events.event_set import EventSet, Found, Listing, first_there, in_class_folders
from idsnn_cli.data.source import Part, data_root
from idsnn_cli.errors import DataError
from idsnn_cli.recipe.data_section import Data

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
# Of tonic; of SpikingJelly's extracted files and arrays.
PLACES = ("CIFAR10DVS", "CIFAR10DVS/extract", "CIFAR10DVS/events_np", "CIFAR10-DVS", ".")


class CIFAR10DVS(EventSet):
    """The recordings in ROOT/CIFAR10DVS/CLASS, in the order of their numbers.

    It ships no test part: the last tenth of each class is it, as is usual (1,000 of the 10,000).
    """

    def size_of(self, section: Data) -> tuple[int, int]:
        return 128, 128

    def find(self, section: Data) -> Found:
        root = data_root(section.root)
        folder = first_there(root, PLACES, CLASSES[0])
        if folder is None:
            raise DataError(
                f"there is no {root / 'CIFAR10DVS' / CLASSES[0]}",
                "Unpack the archives of CIFAR10-DVS to ROOT/CIFAR10DVS/CLASS, or let tonic: "
                "tonic.datasets.CIFAR10DVS(ROOT) in Python; then set data.root=ROOT or IDSNN_DATA.",
            )
        listing = in_class_folders(folder, CLASSES, every_class=True)
        chosen: dict[Part, tuple[list[Path], list[int]]] = {"train": ([], []), "test": ([], [])}
        for label in range(len(CLASSES)):
            own = [file for file, each in zip(listing.files, listing.labels, strict=True) if each == label]
            held_out = -(-len(own) // 10)
            if held_out == len(own):
                raise DataError(
                    f"{own[0].parent} holds one recording", "Of a class two are needed: to train and to test."
                )
            for part, files in (("train", own[:-held_out]), ("test", own[-held_out:])):
                chosen[part][0].extend(files)
                chosen[part][1].extend([label] * len(files))
        parts = {part: Listing(tuple(files), tuple(labels)) for part, (files, labels) in chosen.items()}
        return Found(CLASSES, parts, (folder,))


CIFAR10DVS_SET = CIFAR10DVS()
