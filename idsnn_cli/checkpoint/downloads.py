"""Weights that torchvision publishes: in torch's own cache, downloaded where they are not there yet."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from idsnn_cli.checkpoint.file import CheckpointFile
from idsnn_cli.checkpoint.sniffing import excerpt
from idsnn_cli.errors import CheckpointError
from idsnn_cli.published import Published

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Download:
    """What a command would fetch. ``megabytes`` are of 10^6 bytes."""

    source: str
    url: str
    megabytes: float


def cached_file(source: Published) -> Path:
    """Where torch keeps the file of ``source``, there or not."""
    return Path(torch.hub.get_dir(), "checkpoints", _weights(source).url.rsplit("/", 1)[1])


def needed_download(source: Published) -> Download | None:
    """What reading ``source`` would download; None where the cache has it."""
    if cached_file(source).exists():
        return None
    weights = _weights(source)
    return Download(str(source), weights.url, weights.meta["_file_size"] * 2**20 / 1e6)  # torchvision counts in MiB


def fetch(source: Published, say: Say | None = None) -> Path:
    """The file of ``source``, downloaded with its hash checked where the cache does not have it; ``say`` hears of that.

    Raises :class:`CheckpointError` where it cannot be had.
    """
    path, download = cached_file(source), needed_download(source)
    if download is None:
        return path
    if say is not None:
        say(f"downloading {download.url} ({download.megabytes:.0f} MB)")
    digest = re.search(r"-([0-9a-f]{8,})\.", path.name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(download.url, str(path), digest[1] if digest else None, progress=False)
    except (OSError, HTTPException, RuntimeError) as error:
        reason = excerpt(str(getattr(error, "reason", error)), 160) or type(error).__name__
        raise CheckpointError(
            f"{source}: {download.url} could not be downloaded: {reason.rstrip('.')}.",
            f"Check the connection and try again, or put the file at {path}.",
        ) from error
    return path


def normalisation(source: Published) -> tuple[Sequence[float], Sequence[float]]:
    """The (mean, std) of images in 0 to 1 that the weights were trained with, by torchvision's own transforms."""
    transforms = _weights(source).transforms()
    return tuple(transforms.mean), tuple(transforms.std)


class NamesOnly(CheckpointFile):
    """What the file of ``source`` will hold, known without it: names, shapes and types, but no values."""

    def __init__(self, source: Published) -> None:
        self.path = cached_file(source)
        self.metadata = None
        self.others = {}
        self._source = source
        import torchvision

        classes = len(_weights(source).meta["categories"])
        with torch.device("meta"):
            model = torchvision.models.get_model(source.name, weights=None, num_classes=classes)
        self._state: dict[str, Tensor] = model.state_dict()

    def keys(self) -> tuple[str, ...]:
        return tuple(self._state)

    def shape(self, key: str) -> tuple[int, ...]:
        return tuple(self._state[key].shape)

    def dtype(self, key: str) -> torch.dtype:
        return self._state[key].dtype

    def get(self, key: str, device: torch.device | str = "cpu") -> Tensor:
        raise CheckpointError(f"{self._source} is not downloaded yet.", "Leave --dry-run out.")

    def close(self) -> None:
        self._state = {}


def _weights(source: Published) -> Any:
    """torchvision's own record of the weights; an older torchvision may not have all that are known here."""
    import torchvision  # takes about a second and 150 MB, which reading a file need not pay

    try:
        return torchvision.models.get_model_weights(source.name)[source.weights]
    except (KeyError, ValueError) as error:
        raise CheckpointError(
            f"{source}: torchvision {torchvision.__version__} does not have these weights.", "Upgrade torchvision."
        ) from error
