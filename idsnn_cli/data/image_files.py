"""Image files to uint8 tensors by Pillow, once, before training, in memory or on disk.

On disk they are a memory map for sets larger than memory: written whole or not at all, found again by the next run.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from idsnn_cli.data.channels import with_channels
from idsnn_cli.data.source import cache_folder
from idsnn_cli.errors import DataError, WriteError
from idsnn_cli.systems import replace, sync_file

_CHUNK = 256
_MAP_FORMAT = "3"


def decode_all(files: Sequence[Path], size: int, channels: int = 3, short: int | None = None) -> Tensor:
    """uint8 (N, channels, size, size) in memory. Raises :class:`DataError` naming a file that is not an image."""
    images = torch.empty(len(files), channels, size, size, dtype=torch.uint8)
    start = 0
    for chunk in decode_chunks(files, size, channels, short):
        images[start : start + len(chunk)] = torch.from_numpy(chunk)
        start += len(chunk)
    return images


def decode_chunks(
    files: Sequence[Path], size: int, channels: int = 3, short: int | None = None
) -> Iterator[np.ndarray[Any, Any]]:
    """The images in order, as uint8 arrays (up to 256, channels, size, size); Pillow decodes in threads of its own."""
    with ThreadPoolExecutor(max_workers=min(16, os.cpu_count() or 1)) as pool:
        for start in range(0, len(files), _CHUNK):
            part = files[start : start + _CHUNK]
            coloured = np.stack(list(pool.map(decode_image, part, repeat(size), repeat(short))))
            yield coloured if channels == 3 else with_channels(torch.from_numpy(coloured), channels).numpy()


def decode_image(path: Path, size: int, short: int | None = None) -> np.ndarray[Any, Any]:
    """One image, its short side resized to ``short`` (None: ``size``) and its centre cropped: uint8 (3, size, size).

    Resizing is Pillow's bilinear filter, which averages over what it shrinks. See :func:`read_colours`, also for what
    is raised.
    """
    colour = read_colours(path, path)
    width, height = colour.size
    side, least = short or size, min(width, height)
    wide, high = max(side, side * width // least), max(side, side * height // least)
    resized = colour.resize((wide, high), Image.Resampling.BILINEAR)
    left, top = round((wide - size) / 2), round((high - size) / 2)
    return np.asarray(resized.crop((left, top, left + size, top + size))).transpose(2, 0, 1)


def read_colours(file: Path | BytesIO, name: object) -> Image.Image:
    """The image in ``file`` in RGB; ``name`` is what an error calls it.

    A photograph is turned upright as its EXIF data say, what is transparent shows white, and values of 16 bits or
    floats from 0 to 1 become levels of 0 to 255. Raises :class:`DataError` for a file that is not an image, or not one
    alone, or of other values.
    """
    try:
        with Image.open(file) as image:
            pages = getattr(image, "n_frames", 1)
            if image.format in ("TIFF", "PNG", "WEBP") and pages > 1:
                raise _other_values(name, f"{pages} pages")
            return _coloured(name, ImageOps.exif_transpose(image))
    except DataError:
        raise
    except Exception as error:  # Pillow's decoders raise whatever a broken file makes them trip over
        # Of one that is not in a file of its own Pillow says where it is in memory.
        found = "no known image format" if isinstance(error, UnidentifiedImageError) else error
        raise DataError(
            f"{name} cannot be read as an image: {found}", "Remove the file, or replace it with a whole one."
        ) from error


def is_plain_jpeg(content: bytes) -> bool:
    """Whether an encoded image is a JPEG of grey or YCbCr levels that stands upright, as its header says."""
    try:
        with Image.open(BytesIO(content)) as image:
            upright = image.getexif().get(ExifTags.Base.Orientation, 1) == 1
            return image.format == "JPEG" and image.mode in ("L", "RGB") and upright
    except Exception:  # it is broken, as reading it will find
        return False


def _coloured(path: object, image: Image.Image) -> Image.Image:
    """``image`` in RGB."""
    if image.mode == "F" or image.mode.startswith("I"):
        return _scaled(path, image).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        shown = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", shown.size, "white"), shown).convert("RGB")
    return image.convert("RGB")


def _scaled(path: object, image: Image.Image) -> Image.Image:
    """Grey of more than 8 bits in 0 to 255. Pillow's own conversion would cut it off."""
    values = np.asarray(image).astype(np.float64)
    low, high = float(values.min()), float(values.max())
    most = 1.0 if image.mode == "F" else 65535.0
    if not (low >= 0 and high <= most):  # and not for NaN
        raise _other_values(path, f"values from {low:g} to {high:g}")
    return Image.fromarray(np.rint(values * (255 / most)).astype(np.uint8))


def _other_values(path: object, found: str) -> DataError:
    return DataError(
        f"{path} holds {found}, and an image here is one of 8 or 16 bits, or of floats from 0 to 1",
        "Convert it, or remove the file.",
    )


def mapped_images(files: Sequence[Path], size: int, channels: int = 3, short: int | None = None) -> Tensor:
    """uint8 (N, channels, size, size) on the CPU, read from disk as they are used.

    The file's name is a hash of the paths, sizes and modification times of ``files``, the sizes and ``channels``, so
    changed images are decoded anew. Raises :class:`WriteError` where the disk has no room, :class:`DataError` for a
    file that is not an image.
    """
    path = cache_folder() / "folder" / f"{_map_key(files, size, channels, short)}.npy"
    shape = (len(files), channels, size, size)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # The processes of one machine wait for the first of them instead of decoding the same files.
        with FileLock(path.with_suffix(".lock")):
            if not path.is_file():
                _write_map(path, files, shape, short)
        # Mode c gives private pages: torch asks for writable memory, and nothing ever reaches the file.
        return torch.from_numpy(np.load(path, mmap_mode="c"))
    except OSError as error:
        raise WriteError(
            f"the memory map {path} cannot be kept: {error}",
            "Free disk space, set XDG_CACHE_HOME to a larger disk, or set data.decode=always, which needs no map.",
        ) from error


def _write_map(path: Path, files: Sequence[Path], shape: tuple[int, ...], short: int | None) -> None:
    needed, free = int(np.prod(shape)), shutil.disk_usage(path.parent).free
    if needed > free:
        raise OSError(f"it takes {needed / 1e9:.3g} GB and the disk has {free / 1e9:.3g} GB free")
    temporary = path.with_suffix(".tmp")  # one name, written under the lock: a killed run's leftover is overwritten
    try:
        # Plain writes, for a full disk then is an error; under a writable map it would kill the process.
        with temporary.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
            for chunk in decode_chunks(files, shape[-1], shape[1], short):
                file.write(np.ascontiguousarray(chunk).data)
        sync_file(temporary)
        replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _map_key(files: Sequence[Path], size: int, channels: int, short: int | None) -> str:
    resized = "" if short in (None, size) else f" of {short}"
    digest = hashlib.sha256(f"{_MAP_FORMAT} {channels} {size}{resized}\n".encode())
    for file in files:
        state = file.stat()
        digest.update(f"{file.resolve()}\0{state.st_size}\0{state.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()[:32]
