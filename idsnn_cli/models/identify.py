"""Which network a file or a state dict holds: the one place that decides, for the initializer, loading and reports."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from idsnn_cli.architecture import Architecture
from idsnn_cli.checkpoint import CheckpointFile
from idsnn_cli.errors import CheckpointError, FamilyError
from idsnn_cli.families import recognise

OWN_SCHEME = "idsnn"
Shape = tuple[int, ...]
Read = Callable[[str], Tensor]


@dataclass(frozen=True, slots=True)
class Network:
    """A ResNet whose tensors are not read yet.

    ``names`` leads from canonical names, in network order, to the source's own keys, and ``read`` gives the tensor of
    such a key. ``dropped`` leads from every other key to the reason why it is none of the network's; ``unknown`` lists
    what a foreign file's names cannot tell. ``described`` says that the description came with the tensors, instead of
    being inferred from their names and shapes. Without a head ``architecture`` says one class, which means nothing.
    """

    architecture: Architecture
    names: Mapping[str, str]
    scheme: str
    dropped: Mapping[str, str]
    unknown: tuple[str, ...]
    has_head: bool
    described: bool
    read: Read


def identify(file: CheckpointFile) -> Network:
    """The network in ``file``, by the description that our own checkpoints carry or else by names and shapes.

    Raises :class:`FamilyError` where it is no ResNet and :class:`CheckpointError` where description and tensors
    disagree; both name the file.
    """
    shapes = file.shapes()
    return identify_tensors(shapes, file.get, described=described_in(file.metadata), where=str(file.path))


def described_in(metadata: Mapping[str, Any] | None) -> Architecture | None:
    """The description in a checkpoint's metadata; None where there is none. Raises :class:`CheckpointError`."""
    if metadata is None or "architecture" not in metadata:
        return None
    return Architecture.from_dict(metadata["architecture"])


def identify_tensors(
    shapes: Mapping[str, Shape], read: Read, *, described: Architecture | None = None, where: str = "the source"
) -> Network:
    """The network whose tensors have these names and ``shapes``; ``where`` is for an error's words."""
    if described is not None:
        return _own(described, shapes, read, where)
    try:
        found = recognise(shapes)
    except FamilyError as error:
        raise FamilyError(f"{where}: {error.message}", error.fix) from None
    return Network(
        architecture=found.architecture,
        names=found.names,
        scheme=found.scheme,
        dropped=found.dropped,
        unknown=found.unknown,
        has_head=found.has_head,
        described=False,
        read=read,
    )


def _own(architecture: Architecture, shapes: Mapping[str, Shape], read: Read, where: str) -> Network:
    expected = architecture.tensors()
    for name, shape in expected.items():
        # Axes of one are no other shape: some libraries store a linear layer as a 1x1 convolution.
        if name in shapes and [n for n in shapes[name] if n > 1] != [n for n in shape if n > 1]:
            raise CheckpointError(
                f"{where}: {name} is {list(shapes[name])}, but its architecture says {list(shape)}",
                "Make the checkpoint again: its metadata and tensors disagree.",
            )
    names = {name: name for name in expected if name in shapes}
    dropped = dict.fromkeys(sorted(shapes.keys() - expected.keys()), "the architecture has no such tensor")
    return Network(architecture, names, OWN_SCHEME, dropped, (), "head.weight" in names, True, read)
