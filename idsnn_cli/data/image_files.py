"""Image files to uint8 tensors, once, before training, in memory or on disk: the only place that uses Pillow.

On disk they are a memory map for sets larger than memory: written whole or not at all, found again by the next run.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from PIL import Image, ImageOps
from torch import Tensor

from idsnn_cli.data.channels import with_channels
from idsnn_cli.data.source import cache_folder
from idsnn_cli.errors import DataError, WriteError

_CHUNK = 256
_MAP_FORMAT = "3"


def decode_all(files: Sequence[Path], size: int, channels: int = 3) -> Tensor:
    """uint8 (N, channels, size, size) in memory. Raises :class:`DataError` naming a file that is not an image."""
    images = torch.empty(len(files), channels, size, size, dtype=torch.uint8)
    start = 0
    for chunk in decode_chunks(files, size, channels):
        images[start : start + len(chunk)] = torch.from_numpy(chunk)
        start += len(chunk)
    return images


def decode_chunks(files: Sequence[Path], size: int, channels: int = 3) -> Iterator[np.ndarray[Any, Any]]:
    """The images in order, as uint8 arrays (up to 256, channels, size, size); Pillow decodes in threads of its own."""
    with ThreadPoolExecutor(max_workers=min(16, os.cpu_count() or 1)) as pool:
        for start in range(0, len(files), _CHUNK):
            part = files[start : start + _CHUNK]
            coloured = np.stack(list(pool.map(decode_image, part, [size] * len(part))))
            yield coloured if channels == 3 else with_channels(torch.from_numpy(coloured), channels).numpy()


def decode_image(path: Path, size: int) -> np.ndarray[Any, Any]:
    """One image, its short side resized to ``size`` and its centre cropped: uint8 (3, size, size).

    A photograph is turned upright as its EXIF data say, what is transparent shows white, and values of 16 bits or
    floats from 0 to 1 become levels of 0 to 255. Resizing is Pillow's bilinear filter, which averages over what it
    shrinks. Raises :class:`DataError` for a file that is not an image, or not one alone, or of other values.
    """
    try:
        with Image.open(path) as image:
            pages = getattr(image, "n_frames", 1)
            if image.format in ("TIFF", "PNG", "WEBP") and pages > 1:
                raise _other_values(path, f"{pages} pages")
            colour = _coloured(path, ImageOps.exif_transpose(image))
    except DataError:
        raise
    except Exception as error:  # Pillow's decoders raise whatever a broken file makes them trip over
        raise DataError(
            f"{path} cannot be read as an image: {error}", "Remove the file, or replace it with a whole one."
        ) from error
    width, height = colour.size
    short = min(width, height)
    wide, high = max(size, size * width // short), max(size, size * height // short)
    resized = colour.resize((wide, high), Image.Resampling.BILINEAR)
    left, top = round((wide - size) / 2), round((high - size) / 2)
    return np.asarray(resized.crop((left, top, left + size, top + size))).transpose(2, 0, 1)


def _coloured(path: Path, image: Image.Image) -> Image.Image:
    """``image`` in RGB."""
    if image.mode == "F" or image.mode.startswith("I"):
        return _scaled(path, image).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        shown = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", shown.size, "white"), shown).convert("RGB")
    return image.convert("RGB")


def _scaled(path: Path, image: Image.Image) -> Image.Image:
    """Grey of more than 8 bits in 0 to 255. Pillow's own conversion would cut it off."""
    values = np.asarray(image).astype(np.float64)
    low, high = float(values.min()), float(values.max())
    most = 1.0 if image.mode == "F" else 65535.0
    if not (low >= 0 and high <= most):  # and not for NaN
        raise _other_values(path, f"values from {low:g} to {high:g}")
    return Image.fromarray(np.rint(values * (255 / most)).astype(np.uint8))


def _other_values(path: Path, found: str) -> DataError:
    return DataError(
        f"{path} holds {found}, and an image here is one of 8 or 16 bits, or of floats from 0 to 1",
        "Convert it, or remove the file.",
    )


def mapped_images(files: Sequence[Path], size: int, channels: int = 3) -> Tensor:
    """uint8 (N, channels, size, size) on the CPU, read from disk as they are used.

    The file's name is a hash of the paths, sizes and modification times of ``files``, ``size`` and ``channels``, so
    changed images are decoded anew. Raises :class:`WriteError` where the disk has no room, :class:`DataError` for a
    file that is not an image.
    """
    path = cache_folder() / "folder" / f"{_map_key(files, size, channels)}.npy"
    shape = (len(files), channels, size, size)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # The processes of one machine wait for the first of them instead of decoding the same files.
        with FileLock(path.with_suffix(".lock")):
            if not path.is_file():
                _write_map(path, files, shape)
        # Mode c gives private pages: torch asks for writable memory, and nothing ever reaches the file.
        return torch.from_numpy(np.load(path, mmap_mode="c"))
    except OSError as error:
        raise WriteError(
            f"the memory map {path} cannot be kept: {error}",
            "Free disk space, set XDG_CACHE_HOME to a larger disk, or lower data.image_size or data.subset.",
        ) from error


def _write_map(path: Path, files: Sequence[Path], shape: tuple[int, ...]) -> None:
    needed, free = int(np.prod(shape)), shutil.disk_usage(path.parent).free
    if needed > free:
        raise OSError(f"it takes {needed / 1e9:.3g} GB and the disk has {free / 1e9:.3g} GB free")
    temporary = path.with_suffix(".tmp")  # one name, written under the lock: a killed run's leftover is overwritten
    try:
        # Plain writes, for a full disk then is an error; under a writable map it would kill the process.
        with temporary.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
            for chunk in decode_chunks(files, shape[-1], shape[1]):
                file.write(np.ascontiguousarray(chunk).data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _map_key(files: Sequence[Path], size: int, channels: int) -> str:
    digest = hashlib.sha256(f"{_MAP_FORMAT} {channels} {size}\n".encode())
    for file in files:
        state = file.stat()
        digest.update(f"{file.resolve()}\0{state.st_size}\0{state.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()[:32]
