"""One network from a file, opened once: what the file is, which network it holds, how it normalises, its hash."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from idsnn_cli.architecture import Architecture
from idsnn_cli.checkpoint import CheckpointFile, checkpoint_files, checkpoint_sha256, open_checkpoint
from idsnn_cli.errors import MissingInputError
from idsnn_cli.families import BOTTLENECK_STRIDE, OPTION_A_CHANNELS, Certainty, Reading
from idsnn_cli.models import Network, described_in, identify
from idsnn_cli.models.identify import refuse_reading
from idsnn_cli.sources.names import Published, Say, Source

Stamp = tuple[tuple[str, int, int, int], ...]


@dataclass
class OpenedSource:
    """The network that ``source`` names, in an open file; a context manager that closes it.

    ``reading`` is how it is read where it is foreign: ours leaves no choice. What is asked for is found out once.
    """

    source: Source
    file: CheckpointFile
    reading: Reading
    held: bool = False

    @cached_property
    def described(self) -> Architecture | None:
        """The description in one of our own checkpoints; None of a foreign file."""
        return described_in(self.file.metadata)

    @property
    def foreign(self) -> bool:
        return self.described is None

    @property
    def metadata(self) -> dict[str, Any]:
        """What one of our own checkpoints says about itself; empty of a foreign file."""
        return self.file.metadata or {}

    @cached_property
    def network(self) -> Network:
        """Raises :class:`FamilyError` or :class:`CheckpointError` where it is no network that is known."""
        return identify(self.file, self.reading if self.foreign else Reading())

    @property
    def architecture(self) -> Architecture:
        return self.described or self.network.architecture

    @property
    def kind(self) -> str:
        """``teacher``, ``init``, ``student`` or ``baseline``; ``foreign`` for a file that idsnn did not write."""
        return "foreign" if self.file.metadata is None else str(self.metadata.get("kind", "unknown"))

    @property
    def normalises_itself(self) -> bool:
        """Whether how its images are normalised comes with it."""
        return "input.mean" in self.network.names or self.network.normalisation is not None

    @property
    def zeros_untold(self) -> bool:
        """Whether its shortcuts without weights may put their zeros here or there, which names cannot tell."""
        return OPTION_A_CHANNELS in self.network.unknown

    @property
    def strides_untold(self) -> bool:
        """Whether its bottlenecks may stride in one convolution or another, which names cannot tell."""
        known = isinstance(self.source, Published) and self.source.strides_known
        return BOTTLENECK_STRIDE in self.network.unknown and not known

    @cached_property
    def sha256(self) -> str:
        """Of the file's bytes, or of several files'."""
        return checkpoint_sha256(self.source)

    def remarks(self) -> tuple[str, ...]:
        """What a person should know of how it was read: which of several weights, how sure a layout is."""
        place = self.source.remark() if isinstance(self.source, Published) and self.foreign else None
        words = (self.network.choice, certainty_words(self.network.certainty), place)
        return tuple(each for each in words if each is not None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.held:
            self.file.close()


def open_source(
    source: Source, reading: Reading | None = None, *, only_foreign: bool = False, download: bool = True
) -> OpenedSource:
    """``source`` for one use; ``reading`` says what to do where a file leaves a choice. Without ``download`` what is
    not on this machine has names and shapes.

    Raises :class:`CheckpointError` for a file that cannot be read, and :class:`UsageError` for a ``reading`` of one of
    ours, which leaves no choice, unless it is meant ``only_foreign``.
    """
    opened = OpenedSource(source, open_checkpoint(source, download=download), reading or Reading())
    if not only_foreign and opened.reading != Reading() and not opened.foreign:
        opened.file.close()
        refuse_reading(str(source))
    return opened


class Shelf:
    """The sources that one command opens. A foreign file, which takes long to read and is never replaced by what reads
    it, stays open for the next who asks; it is opened anew where it changed on disk. ``say`` hears of what is fetched.
    """

    def __init__(self, say: Say | None = None) -> None:
        self.say = say
        self._held: dict[tuple[Source, Reading, bool], tuple[Stamp, OpenedSource]] = {}
        self._told: set[Source] = set()

    def open(self, source: Source, reading: Reading | None = None, *, download: bool = True) -> OpenedSource:
        """``source``, opened now or before; without ``download`` what is not on this machine has names and shapes.

        Raises :class:`CheckpointError` where there is no such file, or it is no checkpoint.
        """
        reading = reading or Reading()
        there = not isinstance(source, Published) or self._comes(source, download)
        key = (source, reading, there)
        stamp = _stamp(source) if there else ()
        if key in self._held and self._held[key][0] == stamp:
            return self._held[key][1]
        opened = OpenedSource(source, open_checkpoint(source, download=there), reading)
        if opened.foreign:
            opened.held = True
            self._held[key] = (stamp, opened)
        return opened

    def _comes(self, source: Published, download: bool) -> bool:
        """Whether the file of ``source`` is here, or comes now: without ``download`` only where nothing else tells what
        is in it.
        """
        if source.needed_download() is None:
            source.fetch(self.say)  # which tells where it comes out of a cache because nobody answers
            return True
        looked_at = source.foresight()
        if not download and looked_at is not None:
            if looked_at and self.say is not None and source not in self._told:
                self._told.add(source)
                self.say(f"{source}: looked at by {looked_at} alone")
            return False
        if not download and self.say is not None:
            self.say(f"{source}: only the whole file tells what is in it, so it is downloaded now")
        source.fetch(self.say)
        return True


def require(source: Source, what: str, fix: str) -> None:
    """Raise :class:`MissingInputError` where there is no such file; what is published need not be here yet."""
    if isinstance(source, Path) and not source.exists():
        raise MissingInputError(f"{source}, {what}, is not there", fix)


def certainty_words(certainty: Certainty | None) -> str | None:
    """How sure a layout is that no table of names gave; None where one did."""
    if certainty is None:
        return None
    return (
        "no naming scheme explains its tensors; its layout is inferred from shapes and order, "
        f"{certainty.words} ({certainty.number:g}): {'; '.join(certainty.reasons)}"
    )


def _stamp(source: Source) -> Stamp:
    """What changes where a file is replaced or written to."""
    found = []
    for path in checkpoint_files(source):
        if path.exists():
            status = path.stat()
            found.append((str(path), status.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(found)
