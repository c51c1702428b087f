"""DVS-Gesture: eleven gestures of 29 people before an event camera of 128x128 (Amir et al. 2017)."""

from __future__ import annotations

from pathlib import Path

from idsnn_cli.data.events.event_set import EventSet, Found, Listing, first_there, in_class_folders, sort_key
from idsnn_cli.data.source import data_root
from idsnn_cli.errors import DataError
from idsnn_cli.recipe.data_section import Data

CLASSES = (
    *("hand clapping", "right hand wave", "left hand wave", "right arm clockwise", "right arm counter-clockwise"),
    *("left arm clockwise", "left arm counter-clockwise", "arm roll", "air drums", "air guitar", "other gestures"),
)
NUMBERS = tuple(map(str, range(len(CLASSES))))
# tonic's hold a folder for each person and light, with a file for each class; SpikingJelly's a folder for each class.
BY_PERSON, BY_CLASS = ("DVSGesture", "."), ("DVS128Gesture/events_np", "DvsGesture/events_np", "events_np")


class DVSGesture(EventSet):
    """ROOT/DVSGesture/ibmGestureTrain/userNN_LIGHT/CLASS.npy as tonic fetches it, or SpikingJelly's events_np.

    Both are cut from the original recordings, of several gestures each, which are not read themselves.
    """

    def size_of(self, section: Data) -> tuple[int, int]:
        return 128, 128

    def find(self, section: Data) -> Found:
        root = data_root(section.root)
        folder = first_there(root, BY_PERSON, "ibmGestureTrain")
        if folder is not None:
            names = {"train": "ibmGestureTrain", "test": "ibmGestureTest"}
            parts = {part: _by_person(folder / name) for part, name in names.items()}
            return Found(CLASSES, parts, tuple(folder / name for name in names.values()))
        folder = first_there(root, BY_CLASS, "train")
        if folder is None:
            raise DataError(
                f"there is no {root / 'DVSGesture' / 'ibmGestureTrain'}",
                "Let tonic fetch it: tonic.datasets.DVSGesture(ROOT) and (ROOT, train=False) in Python; then set "
                "data.root=ROOT or IDSNN_DATA.",
            )
        parts = {
            part: in_class_folders(folder / part, NUMBERS, every_class=part == "train") for part in ("train", "test")
        }
        return Found(CLASSES, parts, tuple(folder / part for part in parts))


def _by_person(folder: Path) -> Listing:
    files = sorted(folder.glob("user*/*.npy"), key=lambda file: (file.parent.name, sort_key(file)))
    if not files:
        raise DataError(f"{folder} holds no user*/CLASS.npy", "Fetch the set anew with tonic.datasets.DVSGesture.")
    strange = [file for file in files if file.stem not in NUMBERS]
    if strange:
        raise DataError(f"{strange[0]} is of no class", f"Classes are numbers from 0 to {NUMBERS[-1]}; remove it.")
    return Listing(tuple(files), tuple(int(file.stem) for file in files))


DVS_GESTURE_SET = DVSGesture()
