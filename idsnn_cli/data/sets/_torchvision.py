"""Data sets that torchvision reads and downloads, in its own layout, checked by MD5; downloaded where asked for."""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from filelock import FileLock

from idsnn_cli.data.source import DataPlan, DataSet, Part, Rows, Say, Source, data_root, take
from idsnn_cli.errors import DataError
from idsnn_cli.recipe.data_section import Data

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class TorchvisionSet(DataSet):
    """``reader`` is torchvision's class and ``folder`` what it keeps the files in; ``shipped`` counts each part.

    ``url`` is what it downloads, of ``archive_bytes``. Images are of ``size`` pixels a side, in ``num_classes``.
    """

    reader: str
    folder: str
    url: str
    archive_bytes: int
    num_classes: int
    shipped: Mapping[Part, int]
    size: int

    download: ClassVar[bool] = True

    def plan(self, section: Data) -> DataPlan:
        from idsnn_cli.data.splits import split_sizes

        counts = split_sizes(section, self.shipped)
        missing = self._missing(section)
        if missing and not section.download:
            raise self._not_found(section)
        if not missing:
            self._require_whole(section)
        return DataPlan(
            name=section.dataset,
            files=() if missing else (self._folder(section),),
            counts=counts,
            image_bytes=sum(counts.values()) * 3 * self.size**2,
            num_classes=self.num_classes,
            image_size=(self.size, self.size),
            missing=tuple(missing),
            downloads=(self.url,) if missing else (),
            download_mb=self.archive_bytes / 1e6 if missing else 0.0,
        )

    def open(self, section: Data, *, max_memory_gb: float, say: Say | None) -> Source:
        import torch

        if self._missing(section):
            if not section.download:
                raise self._not_found(section)
            self._fetch(section, say)
        self._require_whole(section)
        parts = {part: self._read(section, train=part == "train") for part in ("train", "test")}
        images = {part: torch.from_numpy(each.data).permute(0, 3, 1, 2).contiguous() for part, each in parts.items()}

        def read(rows: Mapping[Part, Rows]) -> dict[Part, Tensor]:
            return take(images, rows)

        return Source(
            name=section.dataset,
            classes=tuple(parts["train"].classes),
            labels={part: torch.tensor(each.targets, dtype=torch.int64) for part, each in parts.items()},
            image_size=(self.size, self.size),
            read=read,
        )

    def also(self) -> str:
        """What else in the data root would have served, in words behind the name of the folder."""
        return ""

    def _folder(self, section: Data) -> Path:
        return data_root(section.root) / self.folder

    def _class(self) -> Any:
        import torchvision  # takes about a second to import, which the other data sets need not pay

        return getattr(torchvision.datasets, self.reader)

    def _missing(self, section: Data) -> list[Path]:
        reader, folder = self._class(), self._folder(section)
        names = [name for name, _ in (*reader.train_list, *reader.test_list)] + [reader.meta["filename"]]
        return [folder / name for name in names if not (folder / name).is_file()]

    def _require_whole(self, section: Data) -> None:
        """Raise :class:`DataError` naming a file that is not as published."""
        reader = self._class()
        sums = dict((*reader.train_list, *reader.test_list))
        sums[reader.meta["filename"]] = reader.meta["md5"]
        for name, md5 in sums.items():
            path = self._folder(section) / name
            state = path.stat()
            if _md5(path, state.st_size, state.st_mtime_ns) != md5:
                raise self._damaged(section, f"{path} is cut off or changed")

    def _read(self, section: Data, *, train: bool) -> Any:
        """One part, of files that :meth:`_require_whole` has seen: torchvision would read all of them for it again."""
        reader = self._class()
        lists = {key: [(name, None) for name, _ in getattr(reader, key)] for key in ("train_list", "test_list")}
        trusting = type(reader.__name__, (reader,), {**lists, "meta": {**reader.meta, "md5": None}})
        try:
            return trusting(data_root(section.root), train=train)
        except (RuntimeError, OSError) as error:
            raise self._damaged(section, f"{error}") from error

    def _damaged(self, section: Data, found: str) -> DataError:
        return DataError(
            f"{self._folder(section)} does not hold {section.dataset} as published: {found}",
            f"Remove {self._folder(section)} and download it anew with data.download=true.",
        )

    def _fetch(self, section: Data, say: Say | None) -> None:
        root = data_root(section.root)
        if say is not None:
            say(f"downloading {section.dataset} ({self.archive_bytes / 1e6:.0f} MB) from {self.url} to {root}")
        try:
            root.mkdir(parents=True, exist_ok=True)
            # The processes of one machine wait for the first of them instead of writing the same files.
            with FileLock(root / f".{section.dataset}.lock"), _bar(say):
                self._class()(root, download=True)
        except (RuntimeError, OSError, EOFError) as error:
            raise DataError(
                f"{section.dataset} could not be downloaded from {self.url}: {error}",
                f"Try again, or put {self.folder} into {root} yourself.",
            ) from error

    def _not_found(self, section: Data) -> DataError:
        return DataError(
            f"{section.dataset} is not in {data_root(section.root)}: there is no complete {self.folder}{self.also()}",
            f"Add data.download=true to download it ({self.archive_bytes / 1e6:.0f} MB), or set IDSNN_DATA or "
            f"data.root to the folder that holds {self.folder}.",
        )


@cache
def _md5(path: Path, size: int, changed_ns: int) -> str:
    """Of the file's bytes, which are read once as long as its size and time stay."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


@contextlib.contextmanager
def _bar(say: Say | None) -> Iterator[None]:
    """torchvision draws its progress bar on stderr; it is hidden from whoever listens to nothing."""
    with contextlib.redirect_stderr(io.StringIO()) if say is None else contextlib.nullcontext():
        yield
