"""A network's name as a person writes it: a file's path, or ``KIND:ADDRESS`` of one that is published somewhere.

Nothing here imports torch, so a recipe can hold such names; a kind (a file in :mod:`idsnn_cli.sources.kinds`) imports
what it needs once its file is asked for.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from idsnn_cli import registry
from idsnn_cli.errors import UsageError

KINDS = "idsnn_cli.sources.kinds"
Say = Callable[[str], None]
MeanStd = tuple[Sequence[float], Sequence[float]]


@dataclass(frozen=True, slots=True)
class Download:
    """What a command would fetch. ``megabytes`` are of 10^6 bytes."""

    source: str
    url: str
    megabytes: float


class Kind(ABC):
    """A place that publishes networks. ``form`` shows how its names are written: ``torchvision:NAME[/WEIGHTS]``.

    An address is what stands behind the colon, in full, as :meth:`parse` gives it. ``strides_known`` says that its
    bottlenecks are known to stride in their 3x3 convolutions, which names of tensors cannot tell.
    """

    form: str
    strides_known: bool = False

    @abstractmethod
    def parse(self, text: str) -> str:
        """The whole address that ``text``, what a person wrote behind the colon, stands for.

        Nothing is downloaded or imported for it. Raises :class:`UsageError` with the nearest name for one that is not
        known.
        """

    def short(self, address: str) -> str:
        """What the network is called in tables."""
        return address

    @abstractmethod
    def cached_file(self, address: str) -> Path:
        """Where its file is on this machine once it was fetched, there or not."""

    @abstractmethod
    def needed_download(self, address: str) -> Download | None:
        """What reading it would download; None where this machine has it."""

    @abstractmethod
    def fetch(self, address: str, say: Say | None) -> Path:
        """Its file, downloaded where this machine lacks it, of which ``say`` hears. Raises :class:`CheckpointError`."""

    @abstractmethod
    def tensors(self, address: str) -> dict[str, Any]:
        """What its file will hold by name, known without it: a ``shape``, and a ``dtype``, torch's or by the name that
        safetensors has for it.
        """

    @abstractmethod
    def normalisation(self, address: str) -> MeanStd | None:
        """The (mean, std) of images in 0 to 1 that it was trained with; None where the place does not say."""

    def foresight(self, address: str) -> str | None:
        """What is fetched for :meth:`tensors`, in words, empty for nothing; None where only the whole file tells."""
        return ""

    def strings(self, address: str) -> dict[str, str]:
        """The strings in the header of its safetensors file; where ours wrote it, its description is among them."""
        return {}

    def origin(self, address: str) -> dict[str, str]:
        """What a checkpoint's provenance says of it: its ``name``, and what that stood for when it was read."""
        return {}

    def settle(self, address: str, origin: Mapping[str, str]) -> None:  # noqa: B027  # most names stand for one thing
        """Let the name stand for what :meth:`origin` said in another process."""

    def remark(self, address: str) -> str | None:
        """What a person should know of what the place says of it."""
        return None


@dataclass(frozen=True, slots=True)
class Published:
    """A published network by its kind and address; ``str`` gives ``KIND:ADDRESS``, which is parsed to an equal one."""

    kind: str
    address: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.address}"

    @property
    def name(self) -> str:
        """What it is called in tables, as a path's last part is."""
        return self._place.short(self.address)

    @property
    def cached_file(self) -> Path:
        return self._place.cached_file(self.address)

    def needed_download(self) -> Download | None:
        return self._place.needed_download(self.address)

    def fetch(self, say: Say | None = None) -> Path:
        return self._place.fetch(self.address, say)

    def tensors(self) -> dict[str, Any]:
        return self._place.tensors(self.address)

    def normalisation(self) -> MeanStd | None:
        return self._place.normalisation(self.address)

    def foresight(self) -> str | None:
        return self._place.foresight(self.address)

    def strings(self) -> dict[str, str]:
        return self._place.strings(self.address)

    def origin(self) -> dict[str, str]:
        return {"name": str(self), **self._place.origin(self.address)}

    def settle(self, origin: Mapping[str, str]) -> None:
        self._place.settle(self.address, origin)

    def remark(self) -> str | None:
        return self._place.remark(self.address)

    @property
    def strides_known(self) -> bool:
        return self._place.strides_known

    @property
    def _place(self) -> Kind:
        return registry.find(KINDS, self.kind, Kind)


Source = Path | Published


def parse_source(text: str) -> Source:
    """``KIND:ADDRESS`` of a kind that there is as what is published, all else as a path.

    Raises :class:`UsageError` for an address that its kind does not know.
    """
    kind, colon, rest = text.partition(":")
    if not colon or kind not in registry.names(KINDS):
        return Path(text)
    return Published(kind, registry.find(KINDS, kind, Kind).parse(rest))


def as_source(given: str | Source) -> Source:
    """A path or a published network as they are, text as :func:`parse_source` reads it.

    Raises :class:`UsageError` for empty text, and for what is none of these.
    """
    if isinstance(given, str):
        if not given.strip():
            raise UsageError("the path of a network is empty", "Name a file, or a published network.")
        return parse_source(given)
    if not isinstance(given, Path | Published):
        raise UsageError(
            f"a network is named by a {type(given).__name__}", "Give its file's path, or the name of a published one."
        )
    return given


def provenance_of(source: Source) -> dict[str, dict[str, str]]:
    """What a checkpoint's provenance says of a source that is published, under ``source``; empty for a file."""
    return {"source": source.origin()} if isinstance(source, Published) else {}


def forms() -> str:
    """How published networks are named, every kind: ``torchvision:NAME[/WEIGHTS]``."""
    return " or ".join(kind.form for kind in registry.entries(KINDS, Kind).values())
