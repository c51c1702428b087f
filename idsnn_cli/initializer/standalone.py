"""``initialize``: any ResNet's weights into a target network, in one call."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from idsnn_cli.architecture import Architecture, BottleneckStride, build_description, options_like
from idsnn_cli.checkpoint import TensorsDigest, open_checkpoint
from idsnn_cli.errors import UsageError
from idsnn_cli.families import Certainty, OptionA, Reading, Scheme, Weights
from idsnn_cli.initializer.applying import apply
from idsnn_cli.initializer.conversion import Conversion, convert
from idsnn_cli.initializer.counterparts import make_plan
from idsnn_cli.initializer.findings import find
from idsnn_cli.initializer.plan import Plan
from idsnn_cli.models import (
    Model,
    Network,
    assemble,
    build,
    first_value,
    fitted,
    floating,
    identify,
    identify_tensors,
    require_values,
)
from idsnn_cli.rulebook import NONE
from idsnn_cli.rules import RandomKernels, Rules
from idsnn_cli.sources.names import Published, as_source

Source = str | Path | Published | Network | Mapping[str, Tensor] | nn.Module
# Of a spiking target that is given by its name alone.
TIMESTEPS = 4
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True, slots=True)
class Initialization:
    """A target's first weights and how they came about.

    ``state`` is the canonical state dict; ``source_sha256`` covers the source tensors that were read (names, dtypes,
    shapes, bytes); ``scheme`` is the naming scheme in which the source was recognised; ``normalisation_given`` says
    that the input normalisation is the caller's (or ImageNet's), for the source carries none; ``dropped`` holds the
    source keys that were set aside, with the reason; ``choice`` says in words which copy of the weights was taken where
    the source holds raw and averaged ones; ``certainty`` how sure its layout is where no table of names gave it;
    ``conversion`` what a conversion without training found out, None without one.
    """

    state: dict[str, Tensor]
    plan: Plan
    source_sha256: str
    scheme: str
    normalisation_given: bool
    dropped: Mapping[str, str]
    choice: str | None = None
    certainty: Certainty | None = None
    conversion: Conversion | None = None

    @property
    def architecture(self) -> Architecture:
        return self.plan.target

    def module(self) -> nn.Module:
        """The target network with these weights, in evaluation mode."""
        model = build(self.architecture, seed=0)
        model.load_state_dict(self.state)
        return model.eval()


def open_source(source: Source, stack: ExitStack, reading: Reading | None = None, *, download: bool = True) -> Network:
    """Recognise ``source`` without reading its tensors. Files stay open until ``stack`` closes.

    Reading a tensor that is no floating-point one, or a counter, raises :class:`CheckpointError`. Without ``download``,
    published weights that are not on this machine can be looked at but not read.
    """
    network = _open(source, stack, reading, download)
    counters = {key for name, key in network.names.items() if name.endswith("num_batches_tracked")}

    def read(key: str) -> Tensor:
        value = network.read(key)
        return value if key in counters else floating(key, value)

    return replace(network, read=read)


def _open(source: Source, stack: ExitStack, reading: Reading | None, download: bool) -> Network:
    if isinstance(source, Network):
        return source
    if isinstance(source, str | Path | Published):
        return identify(stack.enter_context(open_checkpoint(as_source(source), download=download)), reading)
    described = source.architecture if isinstance(source, Model) else None
    tensors = source.state_dict() if isinstance(source, nn.Module) else source
    shapes = {key: tuple(value.shape) for key, value in tensors.items() if isinstance(value, Tensor)}
    return identify_tensors(shapes, tensors.__getitem__, described=described, reading=reading)


def _require_types(source: Any, target: Any, rules: Any, seed: Any) -> None:
    """Raise :class:`UsageError` for what a caller may hold for a source, a target, rules or a seed."""
    kinds = {
        "source": (source, (str, Path, Published, Network, Mapping, nn.Module), "a path, a state dict or a module"),
        "target": (target, (str, Architecture), "a name such as spiking-resnet18, or a description"),
        "rules": (rules, (Rules, type(None)), 'rules: Rules(blocks="first")'),
        "seed": (seed, (int,), "a whole number"),
    }
    for name, (value, known, words) in kinds.items():
        if not isinstance(value, known) or isinstance(value, bool):
            raise UsageError(f"{name} is a {type(value).__name__}", f"Give {words}.")
    if seed < 0:
        raise UsageError(f"seed is {seed}", "Give a whole number from 0 on.")


def initialize(
    source: Source,
    target: str | Architecture,
    *,
    num_classes: int | None = None,
    rules: Rules | None = None,
    normalise: tuple[Sequence[float], Sequence[float]] | None = None,
    weights: Weights = "auto",
    allow_unused: bool = False,
    scheme: Scheme | None = None,
    kind: Literal["auto", "ann"] = "auto",
    root: str | None = None,
    levels: int | None = None,
    option_a: OptionA | None = None,
    bottleneck_stride: BottleneckStride | None = None,
    images: Sequence[tuple[Tensor, Tensor]] | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
    say: Callable[[str], None] | None = None,
) -> Initialization:
    """Start ``target`` from the weights of ``source`` (Section 3.2.2), any ResNet on either side.

    ``source`` is a checkpoint file, ``torchvision:NAME[/WEIGHTS]``, a state dict, a module or a network that was
    identified already; ``target`` a name such as ``spiking-resnet18`` (stem, shortcut and classes are then the source's
    unless ``num_classes`` is given, and T is 4) or a whole description. ``normalise`` is the (mean, std) of images in 0
    to 1 that the source was trained with, used where it does not carry it (default: ImageNet's). ``weights``,
    ``allow_unused``, ``scheme``, ``kind``, ``root``, ``levels``, ``option_a`` and ``bottleneck_stride`` (read where
    the source has to run) are as for :func:`idsnn_cli.load`. ``images`` are batches for the rules that look at the
    source running: float32 (N, C, H, W) in 0 to 1 and labels int64 (N,), which a search for blocks alone reads. What
    stays random is drawn from ``seed``. Values are gathered, and such a source runs, on ``device``; ``say`` hears of
    long work. Raises :class:`MappingError` naming both tensors
    where one cannot be made, :class:`FamilyError` or :class:`CheckpointError` for a source that is not a Model, and
    :class:`UsageError` for a target that is not known, or not wholly described by what is given, and for values of
    another type.
    """
    _require_types(source, target, rules, seed)
    with ExitStack() as stack:
        network = open_source(
            source, stack, Reading(weights, allow_unused, scheme, kind, None, root, levels, option_a=option_a)
        )
        description = _describe_target(target, network, num_classes)
        rules, where = rules or Rules(), torch.device(device)
        name = str(source) if isinstance(source, str | Path | Published) else network.where
        batches = [(batch.to(where), labels.to(where)) for batch, labels in images or ()]
        found = find(
            rules,
            network,
            description,
            running=lambda: assemble(
                _striding(network, bottleneck_stride),
                name,
                normalise or usual_normalisation(network.architecture.in_channels),
            ).to(where),
            batches=batches,
            say=say,
        )
        plan = make_plan(network.architecture, description, network.all_names, rules, found, seed)
        start = _start(plan, seed, rules.random)
        lacking = "input.mean" not in network.names
        if lacking:
            given = None if network.carries_normalisation else normalise
            known = given or network.normalisation or usual_normalisation(network.architecture.in_channels)
            require_values(known, network.architecture.in_channels, name)
            for tensor, values in zip(("input.mean", "input.std"), known, strict=True):
                own = fitted(values, description.in_channels)
                start[tensor] = torch.tensor(own, dtype=torch.float32).view(-1, 1, 1)
        assumed = lacking and not network.carries_normalisation
        assumed = assumed and (normalise is not None or network.normalisation is None)
        digest = stack.enter_context(TensorsDigest())

        def read(key: str) -> Tensor:
            value = network.read(network.names.get(key, key) if key.endswith(".limit") else key)
            if key not in digest:
                digest.add(key, value)
            return value

        stack.enter_context(_fewer_threads())
        state = apply(plan, read, start, where, seed)
        conversion = None
        if rules.convert != NONE:
            plan, state, conversion = convert(plan, state, [batch for batch, _ in batches], say)
        for key in plan.reads():
            if key not in digest:
                read(key)
        sha256 = digest.hexdigest()
    # Learnt decays are none of what the source runs as, but a student may take them.
    taken = set(plan.reads())
    dropped = {key: why for key, why in network.dropped.items() if key not in taken}
    return Initialization(
        state, plan, sha256, network.scheme, assumed, dropped, network.choice, network.certainty, conversion
    )


def usual_normalisation(channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """ImageNet's (mean, std), taken for a source that does not say; of one channel, the mean of the three."""
    mean, std = IMAGENET
    return (fitted(mean, 1), fitted(std, 1)) if channels == 1 else IMAGENET


def _striding(network: Network, stride: BottleneckStride | None) -> Network:
    """``network`` with its bottlenecks striding where the caller knows that they do, unless it says so itself."""
    if stride is None or network.described:
        return network
    return replace(network, architecture=network.architecture.striding(stride, network.where))


@contextmanager
def _fewer_threads() -> Iterator[None]:
    """Leave a core to the hashing beside it: torch's threads wait busily, and two on one core wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, before - 1))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _start(plan: Plan, seed: int, random: RandomKernels) -> dict[str, Tensor]:
    """The target's own start, where the plan keeps some of it; elsewhere tensors without values."""
    start = {}
    for entry in plan.entries:
        chosen = None if entry.rows is None else plan.selections[entry.rows]
        kept = entry.source is None or (chosen is not None and not all(chosen.channels))
        start[entry.target] = (
            first_value(plan.target, entry.target, seed, random) if kept else torch.empty(entry.shape, device="meta")
        )
    return start


def _describe_target(target: str | Architecture, source: Network, num_classes: int | None) -> Architecture:
    if isinstance(target, Architecture):
        if num_classes not in (None, target.num_classes):
            raise UsageError(
                f"num_classes is {num_classes}, but the target's description has {target.num_classes}",
                "Give the classes once, in the description.",
            )
        return target
    known, classes = source.architecture, classes_or_source(num_classes, source)
    description = build_description(target, classes, **options_like(target, known))
    return description.changed(timesteps=TIMESTEPS) if description.kind == "spiking" else description


def classes_or_source(num_classes: int | None, source: Network) -> int:
    """``num_classes``, or the source's. Raises :class:`UsageError` where the source has no linear layer to tell."""
    if num_classes is None and not source.has_head:
        raise UsageError(
            "the source has no linear layer, so the number of classes is not known", "Give it: --num-classes N."
        )
    return source.architecture.num_classes if num_classes is None else num_classes
