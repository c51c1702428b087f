"""Images that stay in their files: read, decoded and cut by worker processes while the device computes.

The workers are those of torch's DataLoader, one batch each. What a batch holds and how its images are drawn is settled
before a worker sees it, so their number changes nothing.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import threading
import warnings
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from idsnn_cli.data.decoding import View, as_bytes, decode
from idsnn_cli.data.image_files import is_plain_jpeg
from idsnn_cli.data.nvjpeg import Encoded, GpuDecoding
from idsnn_cli.data.source import Crop, FileImages, Say, shuffled
from idsnn_cli.errors import DataError
from idsnn_cli.systems import usable_cores

MOST_WORKERS = 16
# Batches that each worker reads ahead.
_AHEAD = 2
_GONE = "DataLoader worker"


class Store(ABC):
    """Where encoded images are; it goes to the workers, so it is small and can be pickled."""

    @abstractmethod
    def name(self, row: int) -> str:
        """What an error calls the image."""

    @abstractmethod
    def read(self, row: int) -> bytes:
        """The encoded image. Raises OSError where it cannot be read."""

    @abstractmethod
    def identity(self, row: int) -> str:
        """Its name and size, the same on every machine."""

    def order(self, rows: Tensor, seed: int) -> Tensor:
        """int64 (n,), the places in ``rows`` in the order in which an epoch reads them."""
        return shuffled(len(rows), seed)


@dataclass(frozen=True)
class Request:
    """A batch to be read: its ``rows`` of the store, and what is drawn of them."""

    rows: tuple[int, ...]
    crop: Crop | None


@dataclass(frozen=True)
class Refusal:
    """A :class:`DataError` on its way out of a worker, where an exception would arrive as text."""

    message: str
    fix: str | None


class StreamedImages(FileImages):
    """Those ``rows`` (int64 (N,)) of a store, shown as ``view`` says.

    ``workers`` is the number of processes that decode (None: :func:`usual_workers`). With ``nvjpeg`` they only read,
    and a CUDA device decodes; ``say`` hears where it does not.
    """

    def __init__(
        self,
        store: Store,
        rows: Tensor,
        view: View,
        *,
        workers: int | None,
        nvjpeg: bool = False,
        say: Say | None = None,
    ) -> None:
        self.store = store
        self.rows = rows
        self.view = view
        self.workers = usual_workers() if workers is None else workers
        self.nvjpeg = nvjpeg
        self.say = say
        self.shape = (len(rows), view.channels, view.size, view.size)

    def __getitem__(self, rows: slice) -> Tensor:
        (images,) = self.read([torch.arange(len(self.rows))[rows]], torch.device("cpu"), None)
        return images

    def order(self, seed: int) -> Tensor:
        return self.store.order(self.rows, seed)

    def identity(self) -> bytes:
        return self._identity

    @cached_property
    def _identity(self) -> bytes:
        decoder = " nvjpeg" if self.nvjpeg else ""
        digest = hashlib.sha256(f"{self.view.size} {self.view.short} {self.view.channels}{decoder}\n".encode())
        for row in self.rows.tolist():
            digest.update(f"{self.store.identity(row)}\n".encode(errors="surrogateescape"))
        return digest.digest()

    def read(self, wanted: Sequence[Tensor], device: torch.device, crop: Crop | None) -> Generator[Tensor]:
        on_gpu = self.nvjpeg and device.type == "cuda"
        finish = GpuDecoding(device, self.view, self.say) if on_gpu else None
        requests = [Request(tuple(self.rows[places].tolist()), crop) for places in wanted]
        workers = min(self.workers, len(requests) if len(requests) > 1 else 0)
        batches = _loaded(Reading(self.store, self.view, encoded=on_gpu), requests, workers, device)
        try:
            while True:
                try:
                    batch = next(batches)
                except StopIteration:
                    return
                except RuntimeError as error:
                    raise _lost(error, workers) from error
                if isinstance(batch, Refusal):
                    raise DataError(batch.message, batch.fix)
                if finish is not None and isinstance(batch, Encoded):
                    yield finish(batch, crop)
                else:
                    yield batch.to(device, non_blocking=True)
        finally:
            del batches  # its workers end


class Reading(Dataset[Any]):
    """What a worker does: a request's batch, uint8 (n, C, H, W), or with ``encoded`` for a GPU."""

    def __init__(self, store: Store, view: View, *, encoded: bool) -> None:
        self.store = store
        self.view = view
        self.encoded = encoded

    def __getitem__(self, request: Request) -> Tensor | Encoded | Refusal:
        try:
            if self.encoded:
                return self._for_gpu(request)
            view = self.view
            images = torch.empty(len(request.rows), view.channels, view.size, view.size, dtype=torch.uint8)
            for image, row in zip(images, request.rows, strict=True):
                image.copy_(view.show(decode(self._read(row), self.store.name(row)), request.crop, row))
            return images
        except DataError as error:
            return Refusal(error.message, error.fix)

    def _for_gpu(self, request: Request) -> Encoded:
        parts = []
        for row in request.rows:
            content = self._read(row)
            plain = is_plain_jpeg(content)
            parts.append(as_bytes(content) if plain else decode(content, self.store.name(row)))
        return Encoded(request.rows, tuple(map(self.store.name, request.rows)), tuple(parts))

    def _read(self, row: int) -> bytes:
        try:
            return self.store.read(row)
        except OSError as error:
            raise DataError(
                f"{self.store.name(row)} cannot be read: {error}", "Mend it, or remove it and start anew."
            ) from error


def usual_workers() -> int:
    """As many as this process has cores, shared with torchrun's other processes on this machine, at most 16."""
    return max(1, min(MOST_WORKERS, usable_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))


def _loaded(reading: Reading, requests: list[Request], workers: int, device: torch.device) -> Iterator[Any]:
    """The batches of ``requests`` in order, read by torch's worker processes."""
    with warnings.catch_warnings():
        # That there are more workers than cores, and that threads are forked, is as it was asked for.
        warnings.simplefilter("ignore")
        loader = DataLoader(
            reading,
            batch_size=None,
            sampler=requests,
            num_workers=workers,
            prefetch_factor=_AHEAD if workers else None,
            collate_fn=_as_it_is,
            pin_memory=device.type == "cuda",
            worker_init_fn=_settle_worker,
            generator=torch.Generator(),  # so that no number is taken from torch's own
        )
        return iter(loader)


def _as_it_is(batch: object) -> object:
    return batch


def _settle_worker(number: int) -> None:
    """Let the process that trains decide what a signal to all of them means: it saves, and then ends its workers.

    Where the system tells who sent one (not macOS), SIGTERM is heeded from that process alone.
    """
    del number
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None and hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_when_told, args=(parent.pid,), daemon=True).start()


def _end_when_told(parent: int | None) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)


def _lost(error: RuntimeError, workers: int) -> Exception:
    """What became of a worker that was killed, by the memory it took most often; else ``error`` as it is."""
    if not workers or _GONE not in str(error):
        return error
    return DataError(
        f"one of {workers} processes that decode images was lost: {str(error).splitlines()[0]}",
        "Set data.workers to fewer, or give the machine more (shared) memory: docker run --shm-size 8g.",
    )
