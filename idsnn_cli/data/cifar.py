"""CIFAR-10 and CIFAR-100 in torchvision's layout, checked by MD5; downloaded only where a recipe asks for it."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from idsnn_cli.data.npz import open_npz, plan_npz
from idsnn_cli.data.source import DataPlan, Part, Rows, Say, Source, data_root, take
from idsnn_cli.data.splits import split_sizes
from idsnn_cli.errors import DataError
from idsnn_cli.recipe.schema import Data

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_SHIPPED = {"train": 50_000, "test": 10_000}
_SIZE = (32, 32)


@dataclass(frozen=True)
class _Layout:
    """What torchvision calls the set and its folder, what it downloads and how many bytes that is."""

    reader: str
    folder: str
    url: str
    archive_bytes: int
    num_classes: int


_LAYOUTS = {
    "cifar10": _Layout(
        "CIFAR10",
        "cifar-10-batches-py",
        "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        170_498_071,
        10,
    ),
    "cifar100": _Layout(
        "CIFAR100",
        "cifar-100-python",
        "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
        169_001_437,
        100,
    ),
}


def plan_cifar(section: Data) -> DataPlan:
    """What reading ``section`` needs. Raises :class:`DataError` where files are missing and may not be downloaded."""
    packed = _packed_file(section)
    if packed is not None:
        return plan_npz(section, packed, CIFAR10_CLASSES)
    layout, folder = _LAYOUTS[section.dataset], _folder(section)
    counts = split_sizes(section, _SHIPPED)
    missing = _missing(section)
    if missing and not section.download:
        raise _not_found(section)
    return DataPlan(
        name=section.dataset,
        files=() if missing else (folder,),
        counts=counts,
        image_bytes=sum(counts.values()) * 3 * _SIZE[0] * _SIZE[1],
        num_classes=layout.num_classes,
        image_size=_SIZE,
        missing=tuple(missing),
        downloads=(layout.url,) if missing else (),
        download_mb=layout.archive_bytes / 1e6 if missing else 0.0,
    )


def open_cifar(section: Data, say: Say | None) -> Source:
    """The data set of ``section``, read whole. Raises :class:`DataError` where it is missing or damaged."""
    packed = _packed_file(section)
    if packed is not None:
        return open_npz(section, packed, CIFAR10_CLASSES)
    if _missing(section):
        if not section.download:
            raise _not_found(section)
        _download(section, say)
    parts = {part: _read(section, train=part == "train") for part in ("train", "test")}
    images = {part: torch.from_numpy(each.data).permute(0, 3, 1, 2).contiguous() for part, each in parts.items()}

    def read(rows: Mapping[Part, Rows]) -> dict[Part, torch.Tensor]:
        return take(images, rows)

    return Source(
        name=section.dataset,
        classes=tuple(parts["train"].classes),
        labels={part: torch.tensor(each.targets, dtype=torch.int64) for part, each in parts.items()},
        image_size=_SIZE,
        read=read,
    )


def _packed_file(section: Data) -> Path | None:
    path = data_root(section.root) / "cifar10.npz"
    return path if section.dataset == "cifar10" and path.is_file() else None


def _folder(section: Data) -> Path:
    return data_root(section.root) / _LAYOUTS[section.dataset].folder


def _missing(section: Data) -> list[Path]:
    reader, folder = _reader(section), _folder(section)
    names = [name for name, _ in (*reader.train_list, *reader.test_list)] + [reader.meta["filename"]]
    return [folder / name for name in names if not (folder / name).is_file()]


def _reader(section: Data) -> Any:
    import torchvision  # takes about a second to import, which the other data sets need not pay

    return getattr(torchvision.datasets, _LAYOUTS[section.dataset].reader)


def _read(section: Data, *, train: bool) -> Any:
    try:
        return _reader(section)(data_root(section.root), train=train)
    except (RuntimeError, OSError) as error:
        raise DataError(
            f"{_folder(section)} does not hold {section.dataset} as published: {error}",
            f"Remove {_folder(section)} and download it anew with data.download=true.",
        ) from error


def _download(section: Data, say: Say | None) -> None:
    root, layout = data_root(section.root), _LAYOUTS[section.dataset]
    if say is not None:
        say(f"downloading {section.dataset} ({layout.archive_bytes / 1e6:.0f} MB) from {layout.url} to {root}")
    try:
        root.mkdir(parents=True, exist_ok=True)
        # The processes of one machine wait for the first of them instead of writing the same files.
        with FileLock(root / f".{section.dataset}.lock"), _bar(say):
            _reader(section)(root, download=True)
    except (RuntimeError, OSError, EOFError) as error:
        raise DataError(
            f"{section.dataset} could not be downloaded from {layout.url}: {error}",
            f"Try again, or put {layout.folder} into {root} yourself.",
        ) from error


@contextlib.contextmanager
def _bar(say: Say | None) -> Iterator[None]:
    """torchvision draws its progress bar on stderr; it is hidden from whoever listens to nothing."""
    with contextlib.redirect_stderr(io.StringIO()) if say is None else contextlib.nullcontext():
        yield


def _not_found(section: Data) -> DataError:
    layout, root = _LAYOUTS[section.dataset], data_root(section.root)
    also = " nor cifar10.npz" if section.dataset == "cifar10" else ""
    return DataError(
        f"{section.dataset} is not in {root}: there is no complete {layout.folder}{also}",
        f"Add data.download=true to download it ({layout.archive_bytes / 1e6:.0f} MB), or set IDSNN_DATA or data.root "
        f"to the folder that holds {layout.folder}.",
    )
