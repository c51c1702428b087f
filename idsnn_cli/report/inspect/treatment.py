"""What was done to a block's tensors, in words and as data: those that were treated alike are one part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

from idsnn_cli.initializer import Entry, Plan, Selection
from idsnn_cli.results import Result

ChannelWord = Literal["whole", "first", "looped", "uniform", "importance", "merge", "random", "chosen", "classes"]
_CHOSEN = {"uniform": "uniformly", "importance": "by importance", "random": "at random", "chosen": "in order"}


@dataclass(frozen=True, slots=True)
class Channels(Result):
    """How ``to`` channels were made of ``of``.

    ``rule``: all in order (whole), the first ones, all repeated (looped), or those of the plan's choice number
    ``selection``, made by the rule uniform, importance, merge or random, in another way (chosen), or by a map of
    classes; ``own`` of them keep the target's start. Where all were taken (whole) the sizes are None, so that layers of
    any width count as alike.
    """

    rule: Annotated[ChannelWord, "how the channels were chosen; sizes are null where all were taken (whole)"]
    of: Annotated[int | None, "channels that there are"] = None
    to: Annotated[int | None, "channels that were made"] = None
    selection: Annotated[int | None, "the choice, a place in the mapping's `selections`"] = None
    own: Annotated[int, "channels that keep the target's start"] = 0

    def words(self) -> str:
        if self.of is None or self.to is None:
            return self.rule
        rest = f", {self.own} keep their start" if self.own else ""
        if self.rule == "classes":
            return f"{self.to} classes mapped from {self.of}{rest}"
        if self.rule == "merge":
            return f"{self.of} merged into {self.to}{rest}"
        if self.rule == "looped":
            return f"{self.of} looped x{self.to / self.of:.3g}"
        if self.rule == "first":
            return f"first {self.to} of {self.of}"
        chosen = _CHOSEN[self.rule]
        if self.to > self.of:
            return f"{self.of} repeated {chosen} x{self.to / self.of:.3g}{rest}"
        return f"{self.to} of {self.of} {chosen}{rest}"


@dataclass(frozen=True, slots=True)
class Treatment:
    """What was done to a tensor: taken with its ``output`` and ``input`` channels, or left random or constant.

    ``kernel`` says in words how a kernel of another form was brought to this one; ``divided`` that inputs were divided
    by how often their channel is there; ``noise`` was added to repeated channels, in standard deviations.
    """

    action: Literal["taken", "random", "constant"]
    output: Channels | None = None
    input: Channels | None = None
    kernel: str = ""
    divided: bool = False
    noise: float = 0.0
    reason: str | None = None

    def words(self) -> str:
        if self.action != "taken":
            return f"{self.action}: {self.reason}"
        axes = {"out": self.output, "in": self.input}
        if all(axis is None or axis.rule == "whole" for axis in axes.values()):
            words = ["all channels" if self.kernel else "copied whole"]
        else:
            words = [f"{name} {axis.words()}" for name, axis in axes.items() if axis is not None]
        words += [self.kernel] if self.kernel else []
        words += ["divided by multiplicity"] if self.divided else []
        words += [f"noise of {self.noise:g} deviations on repeated channels"] if self.noise else []
        return ", ".join(words)


@dataclass(frozen=True, slots=True)
class BlockPart(Result):
    """Tensors of a block that were treated alike."""

    modules: Annotated[list[str], "that they are; single tensors where only some of a module's are among them"]
    tensors: Annotated[list[str], "their names"]
    action: Annotated[Literal["taken", "random", "constant"], "what was done"]
    output: Annotated[Channels | None, "the output channels of what was taken"]
    input: Annotated[Channels | None, "the input channels of what was taken"]
    kernel: Annotated[str, "how a kernel of another form was brought to this one, in words"]
    divided: Annotated[bool, "whether inputs were divided by how often their channel is there"]
    noise: Annotated[float, "added to repeated channels, in standard deviations"]
    reason: Annotated[str | None, "why it is random or constant"]
    scales: Annotated[dict[str, float], "by tensor, where they are not 1"]
    words: Annotated[str, "all that in words"]


def treatment_of(entry: Entry, plan: Plan) -> Treatment:
    """What ``plan`` does to the target tensor of ``entry``."""
    if entry.source is None or entry.source_shape is None:
        return Treatment("constant" if entry.action == "constant" else "random", reason=entry.reason)
    # Only kernels and the linear layer have inputs; the normalisation's (C, 1, 1) has none.
    has_inputs = len(entry.shape) in (2, 4)
    output = _channels(entry.rows, entry.source_shape[0], entry.shape[0], plan) if entry.shape else None
    inputs = _channels(entry.columns, source_inputs(entry, plan), entry.shape[1], plan) if has_inputs else None
    return Treatment(
        "taken",
        output,
        inputs,
        "" if entry.kernel is None else entry.kernel.words(),
        # Where no channel is there twice there is nothing to divide.
        entry.divide and inputs is not None and inputs.rule != "whole" and _repeats(inputs, plan),
        entry.noise,
    )


def source_inputs(entry: Entry, plan: Plan) -> int:
    """The channels that the source kernel of ``entry`` reads, its groups opened and what is folded into it counted in.

    Of a kernel with others folded in, and no choice of channels that says it, those that it shares with the target.
    """
    if entry.columns is not None:
        return plan.selections[entry.columns].of
    assert entry.source_shape is not None
    if entry.kernel is None:
        return entry.source_shape[1]
    if not entry.kernel.before:
        return entry.source_shape[1] * entry.kernel.groups
    return folded_inputs(entry, plan)


def folded_inputs(entry: Entry, plan: Plan) -> int:
    """The channels that the first of several folded convolutions reads."""
    source = plan.source
    assert source is not None
    if not entry.target.startswith("stages."):
        return source.in_channels
    stage, block = map(int, entry.target.split(".")[1:3])
    pair = next(pair for pair in plan.blocks if (pair.stage, pair.block) == (stage, block))
    return source.block_input(stage, pair.source_block or 0)


def _channels(place: int | None, of: int, to: int, plan: Plan) -> Channels:
    if place is None:
        return Channels("whole") if of == to else Channels("first" if to < of else "looped", of, to)
    chosen = plan.selections[place]
    own = sum(not each for each in chosen.channels)
    return Channels(_rule(chosen, plan), chosen.of, len(chosen.channels), place, own)


def _rule(chosen: Selection, plan: Plan) -> ChannelWord:
    if chosen.target == "classes":
        return "classes"
    if chosen.merges:
        return "merge"
    # A rule that merges repeats in order where it has nothing to merge.
    rules: dict[str, ChannelWord] = {"uniform": "uniform", "importance": "importance", "random": "random"}
    return rules.get(plan.rules.channels, "chosen")


def _repeats(channels: Channels, plan: Plan) -> bool:
    if channels.selection is None:
        return channels.rule == "looped"
    return max(plan.selections[channels.selection].multiplicities(), default=0) > 1


COUNTER, STATISTICS = "num_batches_tracked", ("running_mean", "running_var")


@dataclass(slots=True)
class _Part:
    """``scale`` is the kernels'; ``scales`` holds every tensor's that is not 1."""

    how: Treatment
    scale: float | None
    tensors: list[str] = field(default_factory=list)
    scales: dict[str, float] = field(default_factory=dict)

    def add(self, entry: Entry) -> None:
        self.tensors.append(entry.target)
        if entry.source is not None and entry.scale != 1.0:
            self.scales[entry.target] = entry.scale


def describe_parts(block: str, entries: Sequence[Entry], plan: Plan) -> list[BlockPart]:
    """What was done to the ``entries`` of ``block``, those that were treated alike in one."""
    parts: list[_Part] = []
    last: _Part | None = None
    for entry in entries:
        last = _place(entry, treatment_of(entry, plan), parts, last)
    return [_described(part, block, [entry.target for entry in entries]) for part in parts]


def noted(entries: Sequence[Entry]) -> list[Entry]:
    """Statistics and betas that were treated as their BatchNorm's gamma and then changed, as their reason says."""
    by_name = {entry.target: entry for entry in entries}
    found = []
    for entry in entries:
        module, _, leaf = entry.target.rpartition(".")
        gamma = by_name.get(f"{module}.weight")
        if leaf in (*STATISTICS, "bias") and gamma is not None and entry.reason is not None:
            same = (entry.source is None) == (gamma.source is None) and entry.reason != gamma.reason
            found += [entry] if same else []
    return found


def _place(entry: Entry, how: Treatment, parts: list[_Part], last: _Part | None) -> _Part:
    """Add ``entry`` to the part that was treated alike; a BatchNorm joins the kernel before it, of its outputs."""
    scale = entry.scale if how.input is not None else None
    for part in parts if last is None else [last, *parts]:
        joins = how.action == "taken" == part.how.action and how.input is None and part.how.output == how.output
        if joins or (part.how == how and part.scale == scale):
            part.add(entry)
            return part
    parts.append(_Part(how, scale))
    parts[-1].add(entry)
    return parts[-1]


def _described(part: _Part, block: str, all_tensors: list[str]) -> BlockPart:
    how = part.how
    return BlockPart(
        modules=_modules(part.tensors, block, all_tensors),
        tensors=part.tensors,
        action=how.action,
        output=how.output,
        input=how.input,
        kernel=how.kernel,
        divided=how.divided,
        noise=how.noise,
        reason=how.reason,
        scales=part.scales,
        words=", ".join([how.words(), *_scale_words(part, block)]),
    )


def _scale_words(part: _Part, block: str) -> list[str]:
    words = [] if part.scale in (None, 1.0) else [f"{'weights' if block == 'head' else 'kernel'} x{part.scale:.4g}"]
    for name, scale in part.scales.items():
        module, _, leaf = name.removeprefix(f"{block}.").rpartition(".")
        # The statistics follow the inputs' scale, which another layer's gamma says already.
        if leaf == "weight" and module.rpartition(".")[2].startswith(("norm", "final_norm")):
            words.append(f"{module} gamma and beta x{scale:.3g}")
    return words


def _modules(tensors: list[str], block: str, all_tensors: list[str]) -> list[str]:
    """The modules of ``block`` that ``tensors`` are; single tensors where only some of a module's are among them."""
    names: list[str] = []
    for tensor in tensors:
        module = tensor.rpartition(".")[0]
        siblings = [name for name in all_tensors if name.rpartition(".")[0] == module]
        whole = module != block and set(siblings) <= set(tensors)
        name = (module if whole else tensor).removeprefix(f"{block}.")
        if name not in names:
            names.append(name)
    # A projection whose kernel and BatchNorm were treated alike is one thing to a reader.
    if {"shortcut.conv", "shortcut.norm"} <= set(names):
        names[names.index("shortcut.conv")] = "shortcut"
        names.remove("shortcut.norm")
    return names
