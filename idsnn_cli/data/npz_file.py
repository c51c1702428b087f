"""One .npz file with MedMNIST's keys: train_images, train_labels, test_images, test_labels, optionally val_*."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from idsnn_cli.data.channels import with_size
from idsnn_cli.data.source import DataPlan, Part, Rows, Source
from idsnn_cli.data.splits import split_sizes
from idsnn_cli.errors import DataError
from idsnn_cli.recipe.schema import Data

_PREFIXES: dict[Part, str] = {"train": "train", "validation": "val", "test": "test"}
_KEYS = "train_images, train_labels, test_images, test_labels"
# A compression that zipfile does not know is NotImplementedError.
_BROKEN = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError)

Shape = tuple[int, ...]
_MOST_CHANNELS = 4


def plan_npz(section: Data, path: Path, classes: tuple[str, ...] | None = None) -> DataPlan:
    """What reading ``path`` needs, from its array headers and its labels. Raises as :func:`open_npz`."""
    shapes = _image_shapes(path)
    labels = _all_labels(path, shapes)
    names = _classes(path, labels, classes)
    counts = split_sizes(section, {part: len(each) for part, each in labels.items()})
    (height, width), channels = _size(section, shapes), _channels(shapes["train"])
    return DataPlan(
        name=section.dataset,
        files=(path,),
        counts=counts,
        image_bytes=sum(counts.values()) * channels * height * width,
        num_classes=len(names),
        image_size=(height, width),
        channels=channels,
        classes=names,
    )


def open_npz(section: Data, path: Path, classes: tuple[str, ...] | None = None) -> Source:
    """The data set in ``path``; images are read when its rows are chosen.

    Images are uint8 (N, H, W) or (N, H, W, C), C from 1 to 4, and keep their channels; labels are of any
    integer type, (N,) or (N, 1), counting from 0 without gaps. ``classes`` are the names where they are known.
    Nothing is unpickled. Raises :class:`DataError` for a file that is not so.
    """
    shapes = _image_shapes(path)
    labels = _all_labels(path, shapes)
    names = _classes(path, labels, classes)

    def read(rows: Mapping[Part, Rows]) -> dict[Part, Tensor]:
        return {split: with_size(each, section.image_size) for split, each in _read_images(path, rows).items()}

    return Source(section.dataset, names, labels, _size(section, shapes), read)


def _size(section: Data, shapes: Mapping[Part, Shape]) -> tuple[int, int]:
    height, width = shapes["train"][1:3]
    return (height, width) if section.image_size is None else (section.image_size, section.image_size)


def _read_images(path: Path, rows: Mapping[Part, Rows]) -> dict[Part, Tensor]:
    images: dict[Part, Tensor] = {}
    for part in {part for part, _ in rows.values()}:
        array = _array(path, f"{_PREFIXES[part]}_images")  # one array of the file at a time, for they are large
        for split, (source, index) in rows.items():
            if source == part:
                images[split] = _channels_first(array, index)
    return {split: images[split] for split in rows}


def _channels_first(array: np.ndarray[Any, Any], index: Tensor) -> Tensor:
    chosen = torch.from_numpy(array if len(index) == len(array) else array[index.numpy()])
    if chosen.ndim == 3:
        chosen = chosen[..., None]
    return chosen.permute(0, 3, 1, 2).contiguous()


def _image_shapes(path: Path) -> dict[Part, Shape]:
    """The shape of the images of every part, from the headers; refuses whatever is not images."""
    headers = _headers(path)
    missing = [key for key in _KEYS.split(", ") if key not in headers]
    there = [key for key in ("val_images", "val_labels") if key in headers]
    if len(there) == 1:
        missing.append("val_labels" if "val_images" in there else "val_images")
    if missing:
        raise DataError(
            f"{path} lacks {', '.join(missing)}; it has {', '.join(sorted(headers)) or 'no arrays'}",
            f"Save it with np.savez and the keys {_KEYS} (and, if you like, val_images and val_labels).",
        )
    shapes: dict[Part, Shape] = {}
    for part, prefix in _PREFIXES.items():
        key = f"{prefix}_images"
        if key not in headers:
            continue
        shape, dtype = headers[key]
        if dtype != np.uint8:
            _refuse(path, key, f"is {_kind(dtype)}", "Save images as uint8 in 0 to 255.")
        if len(shape) not in (3, 4) or (len(shape) == 4 and shape[3] not in range(_MOST_CHANNELS + 1)):
            forms = f"(N, H, W), or (N, H, W, C) with C from 1 to {_MOST_CHANNELS}"
            _refuse(path, key, f"has the shape {shape}", f"Save images as {forms}.")
        if 0 in shape:
            _refuse(path, key, f"is empty: its shape is {shape}", "Give every part at least one image.")
        if "train" in shapes and shape[1:3] != shapes["train"][1:3]:
            size = f"{shape[1]}x{shape[2]}, the training images {shapes['train'][1]}x{shapes['train'][2]}"
            _refuse(path, key, f"has images of {size}", "Give all parts the same size.")
        if "train" in shapes and _channels(shape) != _channels(shapes["train"]):
            found = f"has images of {_channels(shape)} channels, the training images have {_channels(shapes['train'])}"
            _refuse(path, key, found, "Give all parts the same channels.")
        shapes[part] = shape
    return shapes


def _channels(shape: Shape) -> int:
    return 1 if len(shape) == 3 else shape[3]


def _all_labels(path: Path, shapes: Mapping[Part, Shape]) -> dict[Part, Tensor]:
    headers = _headers(path)
    labels = {}
    for part, image_shape in shapes.items():
        key = f"{_PREFIXES[part]}_labels"
        shape, dtype = headers[key]
        if dtype.kind not in "iu":
            _refuse(path, key, f"is {_kind(dtype)}", "Save labels as integers that count from 0.")
        if not (len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)):
            _refuse(path, key, f"has the shape {shape}", "Give each image one label: (N,) or (N, 1).")
        if shape[0] != image_shape[0]:
            _refuse(path, key, f"has {shape[0]} labels for {image_shape[0]} images", "Give each image one label.")
        array = _array(path, key).reshape(-1)
        if int(array.min()) < 0 or int(array.max()) >= 2**31:
            _refuse(path, key, f"goes from {array.min()} to {array.max()}", "Use labels that count from 0.")
        labels[part] = torch.from_numpy(array.astype(np.int64))
    return labels


def _classes(path: Path, labels: Mapping[Part, Tensor], names: tuple[str, ...] | None) -> tuple[str, ...]:
    seen = np.unique(labels["train"].numpy())
    number = len(seen)
    if int(seen[-1]) != number - 1:
        gap = next(c for c, label in enumerate(seen.tolist()) if label != c)
        found = f"goes to {int(seen[-1])} but has no image of class {gap}"
        _refuse(path, "train_labels", found, "Use labels that count from 0 without gaps.")
    for part, each in labels.items():
        if int(each.max()) >= number:
            key = f"{_PREFIXES[part]}_labels"
            found = f"holds {int(each.max())}, but training has the classes 0 to {number - 1}"
            _refuse(path, key, found, "Remove those images, or add the class to the training part.")
    if names is None:
        return tuple(map(str, range(number)))
    if len(names) != number:
        found = f"has {number} classes where {len(names)} were expected"
        _refuse(path, "train_labels", found, f"Read the file as data.dataset=npz data.path={path}.")
    return names


def _headers(path: Path) -> dict[str, tuple[Shape, np.dtype[Any]]]:
    """Key -> shape and dtype of every array of the file, without reading one."""
    if not path.is_file():
        raise DataError(f"there is no file {path}", "Give data.path (or --data npz:FILE) the .npz file to read.")
    found: dict[str, tuple[Shape, np.dtype[Any]]] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                with archive.open(name) as member:
                    version = np.lib.format.read_magic(member)
                    first = version == (1, 0)
                    reader = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
                    shape, _, dtype = reader(member)
                    found[name.removesuffix(".npy")] = (shape, dtype)
                    held = archive.getinfo(name).file_size - member.tell()
                    if not dtype.hasobject and held < math.prod(shape) * dtype.itemsize:
                        raise ValueError(f"{name} has {held:,} bytes behind its header of an array {shape} of {dtype}")
    except _BROKEN as error:
        raise _unreadable(path, error) from error
    return found


def _array(path: Path, key: str) -> np.ndarray[Any, Any]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            array: np.ndarray[Any, Any] = archive[key]
            return array
    except _BROKEN as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(
        f"{path} is not a whole .npz file: {error}", "Copy or download it again, or save it with np.savez."
    )


def _kind(dtype: np.dtype[Any]) -> str:
    return "an object array, which would have to be unpickled" if dtype.hasobject else f"{dtype}"


def _refuse(path: Path, key: str, found: str, fix: str) -> NoReturn:
    raise DataError(f"{key} of {path} {found}", fix)
