"""The plan: for every target tensor, where its values come from. Plain data that can be printed, stored and applied."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from idsnn_cli.architecture import Architecture, Convolution, read_description
from idsnn_cli.errors import CheckpointError, MappingError, UsageError
from idsnn_cli.initializer.rules import Rules, source_block

Action = Literal["copied", "interpolated", "random", "constant"]
NORM_PARTS = ("weight", "bias", "running_mean", "running_var")


@dataclass(frozen=True, slots=True)
class Entry:
    """One target tensor.

    ``source`` is the source's own key and ``source_shape`` its shape; axes whose sizes differ are looped over
    (``c mod C``). ``scale`` multiplies the values. ``reason`` says why a tensor is random or constant.
    """

    target: str
    shape: tuple[int, ...]
    action: Action
    source: str | None = None
    source_shape: tuple[int, ...] | None = None
    scale: float = 1.0
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class BlockPair:
    """Target block ``stage.block`` and the source block it takes, None where it stays random.

    ``note`` names source tensors of that block that have no place in the target's, None where there are none.
    """

    stage: int
    block: int
    source_block: int | None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole mapping between two architectures; ``source`` is None where the target keeps its random start."""

    source: Architecture | None
    target: Architecture
    rules: Rules
    blocks: tuple[BlockPair, ...]
    entries: tuple[Entry, ...]

    def reads(self) -> list[str]:
        """The source keys that applying the plan reads, each once, sorted."""
        return sorted({entry.source for entry in self.entries if entry.source is not None})

    def counts(self) -> dict[str, int]:
        """How many target values end as each action."""
        totals = {"copied": 0, "interpolated": 0, "random": 0, "constant": 0}
        for entry in self.entries:
            totals[entry.action] += math.prod(entry.shape)
        return totals

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; :meth:`from_dict` gives an equal plan back."""
        return {
            "source": None if self.source is None else self.source.to_dict(),
            "target": self.target.to_dict(),
            "rules": asdict(self.rules),
            "blocks": [{"source_block": None, **_given(pair)} for pair in self.blocks],
            "tensors": [_given(entry) for entry in self.entries],
        }

    @staticmethod
    def from_dict(plain: Mapping[str, Any]) -> Plan:
        """Raises :class:`MappingError` where it is not what :meth:`to_dict` gives."""
        try:
            return Plan(
                source=None if plain["source"] is None else read_description(plain["source"]),
                target=read_description(plain["target"]),
                rules=Rules(**plain["rules"]),
                blocks=tuple(BlockPair(**pair) for pair in plain["blocks"]),
                entries=tuple(_entry(dict(entry)) for entry in plain["tensors"]),
            )
        except (KeyError, TypeError, ValueError, CheckpointError, UsageError) as error:
            raise MappingError(
                f"the mapping stored in the checkpoint cannot be read: {error}",
                "Make the checkpoint again with this version of idsnn-cli.",
            ) from None


def _given(part: Entry | BlockPair) -> dict[str, Any]:
    return {key: value for key, value in asdict(part).items() if value is not None}


def _entry(plain: dict[str, Any]) -> Entry:
    """An entry from JSON, whose shapes are lists."""
    for key in ("shape", "source_shape"):
        if key in plain:
            plain[key] = tuple(plain[key])
    return Entry(**plain)


class _Planner:
    """Fills the entries of one plan; ``names`` leads from canonical names to the source's keys."""

    def __init__(self, source: Architecture, target: Architecture, names: Mapping[str, str], rules: Rules) -> None:
        self.source, self.target, self.names, self.rules = source, target, names, rules
        self.source_shapes = source.tensors()
        self.target_shapes = target.tensors()
        self.entries: dict[str, Entry] = {}

    def keep(self, name: str, action: Action, reason: str) -> None:
        self.entries[name] = Entry(name, self.target_shapes[name], action, reason=reason)

    def take(self, name: str, canonical: str, scale: float = 1.0) -> None:
        """``name`` takes the source's ``canonical``; a missing source tensor leaves it random, and says so."""
        if canonical not in self.names:
            self.keep(name, "random", f"the source has no {canonical}")
            return
        shape, from_shape = self.target_shapes[name], self.source_shapes[canonical]
        action: Action = "copied" if shape == from_shape and scale == 1.0 else "interpolated"
        self.entries[name] = Entry(name, shape, action, self.names[canonical], from_shape, scale)

    def convolution(self, conv: Convolution, taken: Convolution) -> None:
        """A convolution and its BatchNorm. Raises :class:`MappingError` where the kernels differ in size."""
        if conv.kernel != taken.kernel:
            weight, other = f"{conv.name}.weight", f"{taken.name}.weight"
            raise MappingError(
                f"{weight} {list(self.target_shapes[weight])} cannot be made from "
                f"{self.names.get(other, other)} {list(self.source_shapes[other])}: "
                f"a {taken.kernel}x{taken.kernel} kernel does not fit a {conv.kernel}x{conv.kernel} one",
                f"Choose a target whose kernels are those of the source ({self.source.describe()}).",
            )
        if (conv.groups, taken.groups) != (1, 1) and conv.shape != taken.shape:
            weight, other = f"{conv.name}.weight", f"{taken.name}.weight"
            raise MappingError(
                f"{weight} {list(conv.shape)} of {conv.groups} groups cannot be made from "
                f"{self.names.get(other, other)} {list(taken.shape)} of {taken.groups}",
                f"Use a source without groups, or a target that has the source's ({self.source.describe()}).",
            )
        scale = 1.0
        if self.rules.rescale == "variance":
            scale = math.sqrt(taken.out_channels * taken.kernel**2 / (conv.out_channels * conv.kernel**2))
        self.take(f"{conv.name}.weight", f"{taken.name}.weight", scale)
        if conv.norm is not None and taken.norm is not None:
            self.norm(conv.norm, taken.norm)

    def norm(self, name: str, other: str) -> None:
        for part in NORM_PARTS:
            self.take(f"{name}.{part}", f"{other}.{part}")

    def order(self) -> None:
        """Raises :class:`MappingError` where BatchNorm stands before the convolutions of one network alone."""
        ours, theirs = (net.block_convolutions(0, 0)[0] for net in (self.target, self.source))
        if ours.norm_first is not theirs.norm_first:
            norm, other = f"{ours.norm}.weight", f"{theirs.norm}.weight"
            before, after = ("before", "behind") if theirs.norm_first else ("behind", "before")
            raise MappingError(
                f"{norm} {list(self.target_shapes[norm])} cannot be made from {self.names.get(other, other)} "
                f"{list(self.source_shapes[other])}: a BatchNorm {before} a convolution does not become one {after} it",
                f"Use a source {'with' if ours.norm_first else 'without'} pre-activation, as the target is.",
            )

    def stem(self) -> None:
        """Raises :class:`MappingError` where the stems have not as many convolutions."""
        ours, theirs = self.target.stem_convolutions(), self.source.stem_convolutions()
        if len(ours) != len(theirs):
            weight, other = f"{ours[0].name}.weight", f"{theirs[0].name}.weight"
            raise MappingError(
                f"{weight} {list(ours[0].shape)} cannot be made from {self.names.get(other, other)} "
                f"{list(theirs[0].shape)}: a stem of {len(theirs)} convolutions does not become one of {len(ours)}",
                "Use a source whose stem is a single convolution, as the target's is."
                if len(ours) == 1
                else "Use a source with a deep stem, as the target's is.",
            )
        for conv, taken in zip(ours, theirs, strict=True):
            self.convolution(conv, taken)

    def random(self, conv: Convolution, reason: str) -> None:
        """A convolution and its BatchNorm keep the target's own start."""
        self.keep(f"{conv.name}.weight", "random", reason)
        for part in NORM_PARTS if conv.norm is not None else ():
            self.keep(f"{conv.norm}.{part}", "random", reason)

    def block(self, stage: int, block: int) -> BlockPair:
        ours = self.target.block_convolutions(stage, block)
        projection = self.target.shortcut_convolution(stage, block)
        if stage >= len(self.source.depths):
            reason = f"the source has no stage {stage}"
            for conv in (*ours, *((projection,) if projection else ())):
                self.random(conv, reason)
            for name in self.target.attention_tensors(stage, block):
                self.keep(name, "random", reason)
            return BlockPair(stage, block, None)
        chosen = source_block(self.rules.blocks, block, self.target.depths[stage], self.source.depths[stage])
        theirs = self.source.block_convolutions(stage, chosen)
        if self.source.block != self.target.block:
            mine, other = f"{ours[0].name}.weight", f"{theirs[0].name}.weight"
            raise MappingError(
                f"{mine} {list(self.target_shapes[mine])} cannot be made from {self.names.get(other, other)} "
                f"{list(self.source_shapes[other])}: a {self.source.block} block does not become a "
                f"{self.target.block} one",
                f"Use a source of {self.target.block} blocks (ResNet-18, ResNet-34 or a thin one).",
            )
        for conv, taken in zip(ours, theirs, strict=True):
            self.convolution(conv, taken)
        their_projection = self.source.shortcut_convolution(stage, chosen)
        notes = self.attention(stage, block, chosen)
        if projection is not None:
            if self.rules.shortcut == "random":
                self.random(projection, "the rule shortcut: random")
            elif their_projection is None:
                self.random(projection, f"the source's block {stage}.{chosen} has no projection")
            else:
                self.convolution(projection, their_projection)
        elif their_projection is not None:
            key = self.names.get(f"{their_projection.name}.weight", f"{their_projection.name}.weight")
            notes.append(f"{key} and its BatchNorm are left out: the target's shortcut here has no weights")
        return BlockPair(stage, block, chosen, "; ".join(notes) or None)

    def attention(self, stage: int, block: int, chosen: int) -> list[str]:
        """A block's attention, and what of the source's has no place in the target."""
        ours, theirs = self.target.attention_tensors(stage, block), self.source.attention_tensors(stage, chosen)
        if not ours:
            keys = [self.names.get(name, name) for name in theirs]
            rest = f" and {len(keys) - 1} tensors beside it are" if len(keys) > 1 else " is"
            return [f"{keys[0]}{rest} left out: the target has no attention"] if keys else []
        # A kernel over neighbouring channels cannot be looped over, as weights of channels can.
        fits = self.source.attention == self.target.attention and not (
            self.target.attention == "eca" and list(ours.values()) != list(theirs.values())
        )
        for name, other in zip(ours, theirs if fits else ours, strict=True):
            if fits:
                self.take(name, other)
            else:
                self.keep(name, "random", f"the source's block {stage}.{chosen} has no such attention")
        return []

    def head(self) -> None:
        names = ("head.weight", "head.bias")
        if self.rules.head == "random":
            for name in names:
                self.keep(name, "random", "the rule head: random")
            return
        if "head.weight" not in self.names or self.source.num_classes != self.target.num_classes:
            found = f"{self.source.num_classes} classes" if "head.weight" in self.names else "no linear layer"
            raise MappingError(
                f"head.weight {list(self.target_shapes['head.weight'])} cannot be copied: the source has {found}",
                "Use head: random, or a source with the target's classes.",
            )
        for name in names:
            self.take(name, name)

    def input(self) -> None:
        for name in ("input.mean", "input.std"):
            if name in self.names:
                self.take(name, name)
            else:
                self.keep(name, "constant", "the source does not carry its input normalisation: the given one")


def make_plan(source: Architecture, target: Architecture, names: Mapping[str, str], rules: Rules) -> Plan:
    """Plan how ``target`` starts from ``source``.

    ``names`` holds, for every tensor that the source has, its canonical name and the source's own key for it. Raises
    :class:`MappingError`, naming both tensors, where a target tensor cannot be made by the rules.
    """
    planner = _Planner(source, target, names, rules)
    planner.input()
    planner.order()
    planner.stem()
    pairs = tuple(planner.block(stage, block) for stage, block in target.blocks())
    if target.preactivation:
        planner.norm("final_norm", "final_norm")
    planner.head()
    for name in planner.target_shapes:
        if name.endswith("num_batches_tracked"):
            planner.keep(name, "constant", "no batch has been seen yet")
    entries = tuple(planner.entries[name] for name in planner.target_shapes)
    return Plan(source, target, rules, pairs, entries)


def random_plan(target: Architecture) -> Plan:
    """The baseline's plan (``init.rule: none``): nothing is taken from anywhere."""
    entries = []
    for name, shape in target.tensors().items():
        constant = name.startswith("input.") or name.endswith("num_batches_tracked")
        reason = "the data's" if name.startswith("input.") else "no batch has been seen yet"
        action: Action = "constant" if constant else "random"
        entries.append(Entry(name, shape, action, reason=reason if constant else "the rule none"))
    pairs = tuple(BlockPair(stage, block, None) for stage, block in target.blocks())
    return Plan(None, target, Rules(), pairs, tuple(entries))
