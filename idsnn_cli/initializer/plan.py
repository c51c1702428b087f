"""The plan: for every target tensor, where its values come from. Plain data that can be printed, stored and applied."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, get_args

from idsnn_cli.architecture import DECAY_LOGIT, QCFS, START_SHIFT, Architecture, is_scale, read_description
from idsnn_cli.errors import CheckpointError, MappingError, UsageError
from idsnn_cli.initializer.json_values import (
    flag,
    integer,
    integers,
    items,
    members,
    number,
    one_of,
    optional_text,
    text,
)
from idsnn_cli.initializer.kernels import Kernel
from idsnn_cli.initializer.selections import Selection
from idsnn_cli.results import Result
from idsnn_cli.rules import Rules
from idsnn_cli.text import excerpt

Action = Literal["copied", "interpolated", "random", "constant"]
DECAY_START = "the decay that the neurons start from"
NORM_PARTS = ("weight", "bias", "running_mean", "running_var")


@dataclass(frozen=True, slots=True)
class Entry(Result):
    """One target tensor. In JSON what is not there, or at its default, is left out; ``scale`` always stands there."""

    target: Annotated[str, "its name"]
    shape: Annotated[tuple[int, ...], "its sizes"]
    action: Annotated[Action, "how its values come about"]
    source: Annotated[str | None, "the source's own key"] = None
    source_shape: Annotated[tuple[int, ...] | None, "the sizes of the source's tensor"] = None
    scale: Annotated[float, "multiplies the values"] = 1.0
    reason: Annotated[str | None, "why it is random or constant"] = None
    rows: Annotated[
        int | None,
        "the place in `selections` of the channels along axis 0; without one, sizes that differ are looped over",
    ] = None
    columns: Annotated[int | None, "the same along axis 1"] = None
    kernel: Annotated[Kernel | None, "how a kernel of another form is brought to the target's"] = None
    norm: Annotated[
        tuple[str, str] | None,
        "the keys of the gamma and the variance that weight rows which are averages of several channels",
    ] = None
    divide: Annotated[bool, "columns are divided by how often their source channel is there"] = False
    noise: Annotated[float, "added to repeated rows, in standard deviations of the kernel"] = 0.0
    picks: Annotated[
        tuple[int, ...] | None,
        "of a projection that only selects: the input channel of each output channel, -1 for the target's own start",
    ] = None

    def to_dict(self) -> dict[str, Any]:
        plain = {key: value for key, value in Result.to_dict(self).items() if value is not None}
        return {key: value for key, value in plain.items() if key not in ("divide", "noise") or value}

    def source_keys(self) -> Iterator[str]:
        """Every source key that its values are made from."""
        if self.source is None:
            return
        yield self.source
        yield from self.norm or ()
        for folded in self.kernel.before if self.kernel else ():
            yield from folded.keys()


@dataclass(frozen=True, slots=True)
class BlockPair(Result):
    """Target block ``stage.block`` and the source block it takes."""

    stage: Annotated[int, "from 0"]
    block: Annotated[int, "from 0"]
    source_block: Annotated[int | None, "from 0; null where it stays random"]
    note: Annotated[str | None, "source tensors of that block that have no place in the target's; absent without"] = (
        None
    )

    def to_dict(self) -> dict[str, Any]:
        plain = Result.to_dict(self)
        return {"source_block": None, **{key: value for key, value in plain.items() if value is not None}}


@dataclass(frozen=True, slots=True)
class Document(Result):
    """A plan as JSON: ``mapping.json``, and what a checkpoint carries."""

    source: Annotated[dict[str, Any] | None, "the source's description; null where the target keeps its random start"]
    target: Annotated[dict[str, Any], "the target's description"]
    rules: Annotated[dict[str, Any], "those that are not at their defaults, and the four that always stand there"]
    blocks: Annotated[tuple[BlockPair, ...], "one for each block of the target, in order"]
    tensors: Annotated[tuple[Entry, ...], "one for each tensor of the target"]
    selections: Annotated[tuple[Selection, ...], "every choice of channels that tensors refer to; absent without any"]
    lambdas: Annotated[
        Mapping[str, float],
        "of a conversion, what one spike a step stands for in each of the target's channel spaces; absent without one",
    ]

    def to_dict(self) -> dict[str, Any]:
        plain = Result.to_dict(self)
        return {key: value for key, value in plain.items() if key not in ("selections", "lambdas") or value}


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole mapping between two architectures; ``source`` is None where the target keeps its random start.

    ``selections`` holds every choice of channels that entries refer to by its place. ``lambdas`` is, of a conversion,
    what one spike a step stands for in each of the target's channel spaces.
    """

    source: Architecture | None
    target: Architecture
    rules: Rules
    blocks: tuple[BlockPair, ...]
    entries: tuple[Entry, ...]
    selections: tuple[Selection, ...] = ()
    lambdas: Mapping[str, float] = field(default_factory=dict)

    def reads(self) -> list[str]:
        """The source keys that applying the plan reads, each once, sorted, and of QCFS limits, which converting what it
        makes reads, the canonical names.
        """
        keys = {key for entry in self.entries for key in entry.source_keys()}
        if self.source is not None and isinstance(self.source.activation, QCFS) and self.rules.convert != "none":
            keys |= {f"{owner}.limit" for _, owner in self.source.activations()}
        return sorted(keys)

    def counts(self) -> dict[str, int]:
        """How many target values end as each action."""
        totals = {"copied": 0, "interpolated": 0, "random": 0, "constant": 0}
        for entry in self.entries:
            totals[entry.action] += math.prod(entry.shape)
        return totals

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; :meth:`from_dict` gives an equal plan back."""
        document = Document(
            None if self.source is None else self.source.to_dict(),
            self.target.to_dict(),
            self.rules.to_dict(),
            self.blocks,
            self.entries,
            self.selections,
            self.lambdas,
        )
        return document.to_dict()

    @staticmethod
    def from_dict(plain: Mapping[str, Any]) -> Plan:
        """The plan that :meth:`to_dict` gave; other keys beside its own are left alone.

        Raises :class:`MappingError` for anything else: what is returned can be described and applied.
        """
        try:
            source = None if plain["source"] is None else read_description(plain["source"])
            target = read_description(plain["target"])
            selections = tuple(Selection.from_dict(each) for each in items(plain.get("selections", ())))
            entries = tuple(_entry(each, selections) for each in items(plain["tensors"]))
            if {entry.target: entry.shape for entry in entries} != target.tensors() or (
                len(entries) != len(target.tensors())
            ):
                raise ValueError("its tensors are not those of its target")
            pairs = tuple(_pair(each, source) for each in items(plain["blocks"]))
            if [(pair.stage, pair.block) for pair in pairs] != list(target.blocks()):
                raise ValueError("its blocks are not those of its target")
            lambdas = {text(space): number(value, 0.0) for space, value in dict(plain.get("lambdas", {})).items()}
            return Plan(source, target, Rules.from_dict(plain["rules"]), pairs, entries, selections, lambdas)
        except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, CheckpointError, UsageError) as error:
            raise MappingError(
                f"the mapping stored in the checkpoint cannot be read: {excerpt(str(error), 160)}",
                "Make the checkpoint again with this version of idsnn-cli.",
            ) from None


def _entry(plain: Any, selections: tuple[Selection, ...]) -> Entry:
    values = members(plain, Entry.__slots__)
    shape, source = integers(values["shape"], 1), optional_text(values.get("source"))
    action = one_of(values["action"], get_args(Action))
    from_shape = integers(values["source_shape"], 1) if source is not None else None
    if (source is None) is not (action in ("random", "constant")) or (source is None and "source_shape" in values):
        raise ValueError(f"a tensor that is {action} with the source {source}")
    if from_shape is not None and len(from_shape) != len(shape):
        raise ValueError(f"a tensor {list(shape)} made from one {list(from_shape)}")
    norm = None if values.get("norm") is None else tuple(text(key) for key in items(values["norm"]))
    if norm is not None and len(norm) != 2:
        raise ValueError("a norm that is not two tensors")
    kernel = None if values.get("kernel") is None else Kernel.from_dict(values["kernel"])
    rows, columns = _sizes_read(from_shape, kernel)
    picks = None
    if values.get("picks") is not None:
        picks = integers(values["picks"], -1, shape[1] - 1 if len(shape) == 4 else -1)
        if len(shape) != 4 or len(picks) != shape[0]:
            raise ValueError(f"{len(picks)} picks for a tensor {list(shape)}")
    return Entry(
        text(values["target"]),
        shape,
        action,
        source,
        from_shape,
        number(values.get("scale", 1.0)),
        optional_text(values.get("reason")),
        _place(values.get("rows"), selections, shape, 0, rows),
        _place(values.get("columns"), selections, shape, 1, columns),
        kernel,
        None if norm is None else (norm[0], norm[1]),
        flag(values.get("divide", False)),
        number(values.get("noise", 0.0), 0.0),
        picks,
    )


def _place(
    value: Any, selections: tuple[Selection, ...], shape: tuple[int, ...], axis: int, channels: int | None
) -> int | None:
    """The place of a selection that makes ``axis`` of a tensor of ``channels``, None for as many as may be."""
    if value is None:
        return None
    place = integer(value, 0, len(selections) - 1)
    chosen = selections[place]
    if len(shape) <= axis or len(chosen.channels) != shape[axis] or channels not in (None, chosen.of):
        raise ValueError(f"{len(chosen.channels)} of {chosen.of} channels for axis {axis} of {list(shape)}")
    return place


def _sizes_read(shape: tuple[int, ...] | None, kernel: Kernel | None) -> tuple[int | None, int | None]:
    """The channels of axes 0 and 1 that can be chosen from; of a kernel with others folded in the mapping tells not."""
    rows, columns = (*(shape or ()), 0, 0)[:2]
    if kernel is None:
        return rows, columns
    return rows, None if kernel.before else columns * kernel.groups


def _pair(plain: Any, source: Architecture | None) -> BlockPair:
    values = members(plain, BlockPair.__slots__)
    stage, block, chosen = integer(values["stage"], 0), integer(values["block"], 0), values["source_block"]
    if chosen is not None:
        depths = () if source is None else source.depths
        chosen = integer(chosen, 0, (depths[stage] if stage < len(depths) else 0) - 1)
    return BlockPair(stage, block, chosen, optional_text(values.get("note")))


def constant_reason(name: str) -> str | None:
    """Why a target's tensor starts as a constant, whatever the source; None for all others."""
    if name.endswith("num_batches_tracked"):
        return "no batch has been seen yet"
    if name.endswith(".limit"):
        return "the lambda that QCFS starts from"
    if name.endswith(f".{DECAY_LOGIT}"):
        return DECAY_START
    if name.endswith(f".{START_SHIFT}"):
        return "the neuron's own start at first"
    if not is_scale(name):
        return None
    return "a spike counts 1 at first" if "amplitude" in name else "the threshold is the neuron's at first"


def random_plan(target: Architecture) -> Plan:
    """The baseline's plan (``init.rule: none``): nothing is taken from anywhere."""
    entries = []
    for name, shape in target.tensors().items():
        reason = "the data's" if name.startswith("input.") else constant_reason(name)
        action: Action = "random" if reason is None else "constant"
        entries.append(Entry(name, shape, action, reason=reason or "the rule none"))
    pairs = tuple(BlockPair(stage, block, None) for stage, block in target.blocks())
    return Plan(None, target, Rules(), pairs, tuple(entries))
