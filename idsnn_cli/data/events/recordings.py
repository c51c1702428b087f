"""Files of events to arrays, by tonic where it knows the format; nothing is unpickled, and every event is looked at.

``.bin``: N-MNIST's 40 bits an event. ``.aedat``: AEDAT 2 or 3 of a DVS128, as CIFAR10-DVS came. ``.aedat4``: AEDAT 4,
as tonic fetches it. ``.npz``: arrays t, x, y and p, as SpikingJelly keeps events. ``.npy``: a structured array with
these fields, or tonic's DVS-Gesture, (N, 4) of x, y, p and t in milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from idsnn_cli.errors import DataError, MissingPackageError

Array = np.ndarray[Any, Any]
Sensor = tuple[int, int]
# What each ending is read with, beside numpy.
PACKAGES: dict[str, tuple[str, ...]] = {
    ".bin": ("tonic",),
    ".aedat": ("tonic",),
    ".aedat4": ("tonic", "aedat"),
    ".npz": (),
    ".npy": (),
}
_FIELDS = ("x", "y", "t", "p")
_ATIS_BYTES, _AEDAT_BYTES = 5, 8


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """Events in the order of time: int64 (N,) each, N from 1. ``p`` is 0 where it grew darker, 1 where brighter."""

    x: Array
    y: Array
    t: Array
    p: Array

    def __len__(self) -> int:
        return len(self.t)


def require_readers(suffixes: set[str]) -> None:
    """Raise :class:`MissingPackageError` where files of these endings need a library that is not installed."""
    for suffix in sorted(suffixes):
        for package in PACKAGES[suffix]:
            if find_spec(package) is None:
                raise MissingPackageError(
                    f"events in {suffix} files are read by {package}, which is not installed",
                    "Install it with: pip install 'idsnn-cli[events]'",
                )


def read_recording(path: Path, sensor: Sensor) -> Recording:
    """The events in ``path``, of a sensor of (height, width).

    Raises :class:`DataError` for a file that is not whole or not of its format, that holds no event, or events outside
    the sensor; :class:`MissingPackageError` where its format needs a library that is not installed.
    """
    require_readers({path.suffix})
    try:
        fields = _READERS[path.suffix](path)
    except DataError:
        raise
    except Exception as error:  # a parser raises whatever a broken file makes it trip over
        raise _unreadable(path, f"{error}") from error
    whole = {name: _whole_numbers(path, name, np.asarray(fields[name])) for name in _FIELDS}
    sizes = {len(values) for values in whole.values()}
    if len(sizes) > 1:
        raise _unreadable(path, f"its fields have {', '.join(map(str, sorted(sizes)))} values")
    if 0 in sizes:
        raise DataError(f"{path} holds no event", "Remove it: a recording without events shows nothing.")
    return _checked(path, Recording(**whole), sensor)


def _checked(path: Path, found: Recording, sensor: Sensor) -> Recording:
    """``found`` in the order of time, polarities 0 and 1, all of it inside the sensor."""
    for name, values, side in (("x", found.x, sensor[1]), ("y", found.y, sensor[0])):
        if int(values.min()) < 0 or int(values.max()) >= side:
            raise DataError(
                f"{path} holds events outside the sensor of {sensor[0]}x{sensor[1]}: {name} goes from {values.min()} "
                f"to {values.max()}",
                "Remove the file or get it anew; where the sensor is another, say so (data.sensor of data set events).",
            )
    polarity = found.p
    if set(np.unique(polarity).tolist()) <= {-1, 1} and -1 in polarity:
        polarity = (polarity + 1) // 2
    if int(polarity.min()) < 0 or int(polarity.max()) > 1:
        raise DataError(
            f"{path}: polarities go from {polarity.min()} to {polarity.max()}, and they are 0 and 1, or -1 and 1",
            "Remove the file, or write it again.",
        )
    order = slice(None) if bool((np.diff(found.t) >= 0).all()) else np.argsort(found.t, kind="stable")
    return Recording(found.x[order], found.y[order], found.t[order], polarity[order])


def _whole_numbers(path: Path, name: str, values: Array) -> Array:
    kind = values.dtype.kind
    if values.ndim != 1 or kind not in "iubf" or (kind == "f" and not bool((values == np.floor(values)).all())):
        raise _unreadable(path, f"{name} is {values.dtype} of shape {values.shape}, not one whole number an event")
    return values.astype(np.int64)


def _unreadable(path: Path, found: str) -> DataError:
    return DataError(
        f"{path} cannot be read as events: {found.strip() or 'it is damaged'}",
        "Remove the file, or replace it with a whole one.",
    )


def _io() -> Any:
    """tonic.io, which takes seconds to import."""
    return import_module("tonic.io")


def _atis(path: Path) -> dict[str, Array]:
    size = path.stat().st_size
    if size % _ATIS_BYTES:
        raise _unreadable(path, f"it is cut off: {size:,} bytes are no whole number of events of {_ATIS_BYTES} bytes")
    found = _io().read_mnist_file(str(path), dtype=np.dtype([(name, np.int64) for name in _FIELDS]))
    return {name: found[name] for name in _FIELDS}


def _aedat(path: Path) -> dict[str, Array]:
    """A DVS128's addresses as SpikingJelly turns them: x and y change places and both directions, and so does p."""
    # By parts, for tonic's own read_dvs_128 takes three values of the header for two (1.7) and fails.
    version, start, _ = _io().read_aedat_header_from_file(str(path))
    size = path.stat().st_size - start
    if version < 3 and size % _AEDAT_BYTES:
        raise _unreadable(path, f"it is cut off: {size:,} bytes are no whole number of events of {_AEDAT_BYTES} bytes")
    found = _io().get_aer_events_from_file(str(path), version, start)
    address, times = found["address"].astype(np.int64), found["timeStamp"].astype(np.int64)
    return {"x": 127 - (address >> 8 & 127), "y": 127 - (address >> 1 & 127), "t": times, "p": 1 - (address & 1)}


def _aedat4(path: Path) -> dict[str, Array]:
    found = _io().read_aedat4(str(path))
    return dict(zip(("t", "x", "y", "p"), (found[name] for name in found.dtype.names), strict=True))


def _npz(path: Path) -> dict[str, Array]:
    with np.load(path, allow_pickle=False) as archive:
        lacking = [name for name in _FIELDS if name not in archive]
        if lacking:
            raise _unreadable(path, f"it lacks {', '.join(lacking)}; events are arrays {', '.join(_FIELDS)}")
        return {name: archive[name] for name in _FIELDS}


def _npy(path: Path) -> dict[str, Array]:
    found = np.load(path, allow_pickle=False)
    if found.dtype.names is not None and {*_FIELDS} <= {*found.dtype.names}:
        return {name: found[name] for name in _FIELDS}
    if found.dtype.names is None and found.ndim == 2 and found.shape[1] == 4:
        x, y, p, t = found.T
        return {"x": x, "y": y, "p": p, "t": t}
    raise _unreadable(path, f"it is {found.dtype} of shape {found.shape}: neither (N, 4) nor fields x, y, t and p")


_READERS: dict[str, Callable[[Path], dict[str, Array]]] = {
    ".bin": _atis,
    ".aedat": _aedat,
    ".aedat4": _aedat4,
    ".npz": _npz,
    ".npy": _npy,
}
