"""``initialize``: any ResNet's weights into a target network, in one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from idsnn_cli.architecture import Architecture, build_description
from idsnn_cli.checkpoint import open_checkpoint, tensors_sha256
from idsnn_cli.errors import CheckpointError, UsageError
from idsnn_cli.families import recognise
from idsnn_cli.initializer.apply import Read, apply
from idsnn_cli.initializer.plan import Plan, make_plan
from idsnn_cli.initializer.rules import Rules
from idsnn_cli.models import ResNet, build

Source = str | Path | Mapping[str, Tensor] | nn.Module
# Of a spiking target that is given by its name alone.
TIMESTEPS = 4
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True, slots=True)
class Initialization:
    """A target's first weights and how they came about.

    ``state`` is the canonical state dict; ``source_sha256`` covers the source tensors that were read (names, dtypes,
    shapes, bytes); ``scheme`` is the naming scheme in which the source was recognised; ``normalisation_given`` says
    that the input normalisation is the caller's (or ImageNet's), for the source carries none; ``dropped`` holds the
    source keys that were set aside, with the reason.
    """

    state: dict[str, Tensor]
    plan: Plan
    source_sha256: str
    scheme: str
    normalisation_given: bool
    dropped: Mapping[str, str]

    @property
    def architecture(self) -> Architecture:
        return self.plan.target

    def module(self) -> nn.Module:
        """The target network with these weights, in evaluation mode."""
        model = build(self.architecture, seed=0)
        model.load_state_dict(self.state)
        return model.eval()


@dataclass(frozen=True, slots=True)
class SourceNetwork:
    """A recognised source: its architecture, its keys by canonical name, and a reader of its tensors.

    Without a head its ``architecture`` says one class, which means nothing.
    """

    architecture: Architecture
    names: Mapping[str, str]
    scheme: str
    dropped: Mapping[str, str]
    read: Read

    @property
    def has_head(self) -> bool:
        return "head.weight" in self.names


def open_source(source: Source, stack: ExitStack) -> SourceNetwork:
    """Recognise ``source`` without reading its tensors. Files stay open until ``stack`` closes."""
    described: Architecture | None = None
    if isinstance(source, str | Path):
        file = stack.enter_context(open_checkpoint(Path(source)))
        if file.metadata is not None and "architecture" in file.metadata:
            described = Architecture.from_dict(file.metadata["architecture"])
        shapes = file.shapes()
        read: Read = file.get
    else:
        if isinstance(source, ResNet):
            described = source.architecture
        tensors = source.state_dict() if isinstance(source, nn.Module) else source
        shapes = {key: tuple(value.shape) for key, value in tensors.items() if isinstance(value, Tensor)}
        read = tensors.__getitem__
    if described is not None:
        return _own_network(described, shapes, read)
    found = recognise(shapes)
    return SourceNetwork(found.architecture, found.names, found.scheme, found.dropped, read)


def _own_network(architecture: Architecture, shapes: Mapping[str, tuple[int, ...]], read: Read) -> SourceNetwork:
    """A source of ours, whose description must fit its tensors."""
    expected = architecture.tensors()
    for name, shape in expected.items():
        if name in shapes and shapes[name] != shape:
            raise CheckpointError(
                f"{name} of the source is {list(shapes[name])}, but its architecture says {list(shape)}",
                "Make the checkpoint again: its metadata and tensors disagree.",
            )
    dropped = {name: "not in its architecture" for name in shapes if name not in expected}
    return SourceNetwork(architecture, {name: name for name in expected if name in shapes}, "idsnn", dropped, read)


def initialize(
    source: Source,
    target: str | Architecture,
    *,
    num_classes: int | None = None,
    rules: Rules | None = None,
    normalise: tuple[Sequence[float], Sequence[float]] | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> Initialization:
    """Start ``target`` from the weights of ``source`` (Section 3.2.2), any ResNet on either side.

    ``source`` is a checkpoint file, a state dict or a module; ``target`` a name such as ``spiking-resnet18`` (stem,
    shortcut and classes are then the source's unless ``num_classes`` is given, and T is 4) or a whole description.
    ``normalise`` is the (mean, std) of images in 0 to 1 that the source was trained with, used where the source does
    not carry it (default: ImageNet's). Values are gathered on ``device``. Raises :class:`MappingError` naming both
    tensors where one cannot be made, :class:`FamilyError` or :class:`CheckpointError` for a source that is not a
    ResNet, and :class:`UsageError` for a target that is not known, or not wholly described by what is given.
    """
    with ExitStack() as stack:
        network = open_source(source, stack)
        description = _describe_target(target, network, num_classes)
        plan = make_plan(network.architecture, description, network.names, rules or Rules())
        where = torch.device(device)
        start = build(description, seed).state_dict()
        given = "input.mean" not in network.names
        if given:
            for name, values in zip(("input.mean", "input.std"), normalise or IMAGENET, strict=True):
                if len(values) != description.in_channels:
                    raise UsageError(
                        f"the normalisation has {len(values)} channels, but the target reads {description.in_channels}",
                        "Give normalise=(mean, std) with one value for each channel.",
                    )
                start[name] = torch.tensor(values, dtype=torch.float32).view(-1, 1, 1)
        read_once: dict[str, Tensor] = {key: network.read(key) for key in plan.reads()}
        state = apply(plan, read_once.__getitem__, start, where)
        digest = tensors_sha256(read_once.items())
    return Initialization(state, plan, digest, network.scheme, given, network.dropped)


def _describe_target(target: str | Architecture, source: SourceNetwork, num_classes: int | None) -> Architecture:
    if isinstance(target, Architecture):
        if num_classes not in (None, target.num_classes):
            raise UsageError(
                f"num_classes is {num_classes}, but the target's description has {target.num_classes}",
                "Give the classes once, in the description.",
            )
        return target
    known, classes = source.architecture, classes_or_source(num_classes, source)
    description = build_description(target, classes, stem=known.named_stem, shortcut=known.named_shortcut)
    return replace(description, timesteps=TIMESTEPS) if description.kind == "spiking" else description


def classes_or_source(num_classes: int | None, source: SourceNetwork) -> int:
    """``num_classes``, or the source's. Raises :class:`UsageError` where the source has no linear layer to tell."""
    if num_classes is None and not source.has_head:
        raise UsageError(
            "the source has no linear layer, so the number of classes is not known", "Give it: --num-classes N."
        )
    return source.architecture.num_classes if num_classes is None else num_classes
