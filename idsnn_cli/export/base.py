"""What a format is, and the one way in which all are written: chosen by name or ending, checked, whole or not."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from torch import Tensor

from idsnn_cli import registry
from idsnn_cli.architecture import Architecture
from idsnn_cli.checkpoint import file_sha256, open_checkpoint
from idsnn_cli.errors import CheckpointError, MissingInputError, UsageError
from idsnn_cli.extras import require_extra
from idsnn_cli.models import Model, described_in, load
from idsnn_cli.outputs import check_output
from idsnn_cli.results import Result

FORMATS = "idsnn_cli.export"
Size = tuple[int, int]


def no_size() -> Size:
    """Raises :class:`UsageError`: nobody said how large the images are."""
    raise UsageError(
        "the file depends on the size of images, which is not known", "Give it: --image-size 32, or --data NAME."
    )


@dataclass(frozen=True, slots=True)
class Student:
    """What is exported: the ``model`` in evaluation mode on the CPU, its file, and what that says about itself.

    ``image_size()`` is the (height, width) of its images, for formats that depend on it; it raises
    :class:`UsageError` where that is not known.
    """

    model: Model
    path: Path
    metadata: Mapping[str, Any]
    sha256: str
    image_size: Callable[[], Size] = no_size

    @property
    def architecture(self) -> Architecture:
        return self.model.architecture


@dataclass(frozen=True, slots=True)
class Images:
    """Images (N, C, H, W) in 0 to 1 and their labels (N,), on which a written file is compared with the student."""

    images: Tensor
    labels: Tensor


@dataclass(frozen=True, slots=True)
class Compared(Result):
    """A written file run by one reader, beside the student's own network on the same images."""

    reader: Annotated[str, "what ran the file, with its version"]
    images: Annotated[int, "how many images"]
    dtype: Annotated[str, "the arithmetic of both"]
    left_out: Annotated[str | None, "why the reader did not run it; null where it did"] = None
    largest: Annotated[float | None, "the largest difference of two logits, over all images and steps"] = None
    top1_equal: Annotated[int | None, "images for which both choose the same class"] = None
    spikes: Annotated[int | None, "spikes that were compared, of all layers and steps"] = None
    differing: Annotated[int | None, "of those, how many differ"] = None
    layers: Annotated[dict[str, int] | None, "spikes that differ, by layer"] = None

    @property
    def agrees(self) -> bool:
        """Whether both choose the same class for every image; true of a reader that ran nothing."""
        return self.left_out is not None or self.top1_equal == self.images

    def words(self) -> str:
        """The line for a person."""
        if self.left_out is not None:
            return f"{self.reader}: not compared: {self.left_out}"
        words = f"{self.reader}, {self.images} images in {self.dtype}: logits differ by {self.largest:.3g} at most"
        if self.spikes is not None and self.layers is not None:
            where = ", ".join(f"{name} {count:,}" for name, count in self.layers.items() if count)
            words += f", {self.differing:,} of {self.spikes:,} spikes differ" + (f" ({where})" if where else "")
        return f"{words}, the same class for {self.top1_equal} of {self.images}"


@dataclass(frozen=True, slots=True)
class Exported(Result):
    """What ``idsnn export`` wrote."""

    source: Annotated[str, "the checkpoint"]
    file: Annotated[str, "the file that was written"]
    format: Annotated[str, "the format's name"]
    architecture: Annotated[str, "the network in it, in words"]
    facts: Annotated[dict[str, Any], "what the format tells of it, under a key that is the format's own"]
    verified: Annotated[tuple[Compared, ...] | None, "the file run by each reader; null without `--verify`"] = None
    key: Annotated[str, "no key of the JSON: the one that the facts stand under"] = "facts"

    def to_dict(self) -> dict[str, Any]:
        found = {key: value for key, value in super(Exported, self).to_dict().items() if key not in ("facts", "key")}
        return found | {self.key: self.facts}


class Format(ABC):
    """A form in which a student leaves. Its name is its file's; ``suffixes`` are the endings that stand for it, and
    ``words`` say in the help what it is; ``key`` is that of its facts in the command's JSON. ``extra`` is the extra of
    this package that brings what it needs, and that by the names to import; ``sized`` says that the file depends on the
    size of images.
    """

    suffixes: tuple[str, ...]
    words: str
    key: str = "facts"
    extra: tuple[str, tuple[str, ...]] | None = None
    sized: bool = False

    @abstractmethod
    def require(self, architecture: Architecture, where: object) -> None:
        """Raise :class:`UsageError` where the network in ``where`` cannot be said in this format, naming what."""

    @abstractmethod
    def write(self, student: Student, target: Path) -> tuple[str, dict[str, Any]]:
        """Write ``target``, whole or not at all; the network in it in words, and what is worth telling of it."""

    @abstractmethod
    def tell(self, facts: Mapping[str, Any]) -> str:
        """The line for a person that ``facts`` become."""

    def verify(self, student: Student, target: Path, seen: Images) -> tuple[Compared, ...]:
        """Run the written ``target`` and the student on the same images. Raises :class:`UsageError` where nothing here
        runs such a file."""
        raise UsageError("nothing here runs a file of this format", "Leave --verify out.")

    def next(self, target: Path) -> str | None:
        """The command that a person may want behind this one."""
        return None


def format_of(target: Path, name: str | None = None) -> str:
    """The format ``name``, or the one that the ending of ``target`` stands for.

    Raises :class:`UsageError` for a name or an ending that there is not.
    """
    if name is not None:
        registry.find(FORMATS, name, Format)
        return name
    known = registry.entries(FORMATS, Format)
    for each, form in known.items():
        if target.suffix in form.suffixes:
            return each
    ending = f"ends in {target.suffix}, which" if target.suffix else "has no ending that"
    listed = "; ".join(f"{each} ({_endings(form)}): {form.words}" for each, form in known.items())
    raise UsageError(
        f"{target} {ending} stands for no format",
        f"Name the format with --format, or end FILE as it does. There are: {listed}.",
    )


def _endings(form: Format) -> str:
    return " or ".join(suffix or "no ending" for suffix in form.suffixes) or "by --format alone"


def export(
    source: Path,
    target: Path,
    *,
    format: str | None = None,
    force: bool = False,
    image_size: Callable[[], Size] = no_size,
    images: Callable[[], Images] | None = None,
    called: object | None = None,
) -> Exported:
    """Write the student in ``source`` to ``target`` in a format, by its name or the ending of ``target``.

    ``image_size`` is asked by formats that depend on it; with ``images`` the written file is run beside the student.
    ``called`` is what messages call ``source``, which may lie in a cache. Raises :class:`MissingInputError` where
    ``source`` is not there, :class:`CheckpointError` where idsnn did not write it, :class:`UsageError` where the format
    cannot say the network or ``target`` is ``source``, :class:`MissingPackageError` where the format's library is not
    installed, and :class:`WriteError` where ``target`` is there and not ``force``, or cannot be.
    """
    name = format_of(target, format)
    form = registry.find(FORMATS, name, Format)
    if not source.exists():
        raise MissingInputError(f"the checkpoint is not there: {source}", "Correct its path.")
    check_output(target, force=force, reads=[source])
    with open_checkpoint(source) as file:
        metadata = file.metadata
        architecture = described_in(metadata)
    if metadata is None or architecture is None:
        raise CheckpointError(
            f"{called or source} is not a checkpoint of idsnn, so it holds no student to export",
            "Give a student that idsnn trained.",
        )
    if form.extra is not None:
        require_extra(form.extra[0], f"the format {name}", *form.extra[1])
    form.require(architecture, called or source)
    seen = None if images is None else images()
    student = Student(load(source), source, metadata, file_sha256(source), image_size)
    words, facts = form.write(student, target)
    compared = None if seen is None else form.verify(student, target, seen)
    return Exported(str(source), str(target), name, words, facts, compared, form.key)
