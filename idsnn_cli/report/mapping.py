"""Where a student's first weights came from, block by block, as a plain dictionary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from idsnn_cli.initializer import Entry, Plan
from idsnn_cli.initializer.plan import BlockPair

COUNTER, STATISTICS = "num_batches_tracked", ("running_mean", "running_var")


@dataclass(frozen=True, slots=True)
class Channels:
    """How ``to`` channels were made of ``of``: the first ones, or all repeated (looped).

    Where all were taken (whole) the sizes are None, so that layers of any width count as treated alike.
    """

    rule: Literal["whole", "first", "looped"]
    of: int | None = None
    to: int | None = None

    def words(self) -> str:
        if self.of is None or self.to is None:
            return self.rule
        return f"first {self.to} of {self.of}" if self.rule == "first" else f"{self.of} looped x{self.to / self.of:.3g}"


@dataclass(frozen=True, slots=True)
class How:
    """What was done to a tensor: taken with its ``output`` and ``input`` channels, or left random or constant."""

    action: Literal["taken", "random", "constant"]
    output: Channels | None = None
    input: Channels | None = None
    scale: float = 1.0
    reason: str | None = None

    def words(self) -> str:
        if self.action != "taken":
            return f"{self.action}: {self.reason}"
        axes = {"out": self.output, "in": self.input}
        scale = "" if self.scale == 1.0 else f", kernel x{self.scale:.4g}"
        if all(axis is None or axis.rule == "whole" for axis in axes.values()):
            return f"copied whole{scale}"
        return ", ".join(f"{name} {axis.words()}" for name, axis in axes.items() if axis is not None) + scale


@dataclass(slots=True)
class _Part:
    how: How
    tensors: list[str] = field(default_factory=list)


def describe_mapping(plan: Plan) -> dict[str, Any]:
    """How ``plan`` made the target's first weights.

    Keys: ``source`` (None where nothing was taken) and ``target`` in words; ``rules``; ``values`` and ``tensors`` by
    action (copied, interpolated, random, constant); ``blocks`` in network order, each with its ``name``, the source
    block that it ``takes`` (None where it stays random) and ``parts``: the ``modules`` that were treated alike, their
    ``tensors``, the ``action`` (taken, random or constant), the channels ``output`` and ``input`` (``rule`` whole,
    first or looped, ``of`` and ``to`` unless whole), the kernels' ``scale``, the ``reason`` and the same in ``words``;
    ``notes``, what else was done, with the number of tensors; ``left_out``, the source tensors that have no place in a
    target ``block``, in words.
    """
    groups: dict[str, list[Entry]] = {}
    for entry in plan.entries:
        groups.setdefault(_block_of(entry.target), []).append(entry)
    tensors = dict.fromkeys(plan.counts(), 0) | Counter(entry.action for entry in plan.entries)
    notes = Counter(str(entry.reason) for entries in groups.values() for entry in _noted(entries))
    left_out = [(_target_name(pair), pair.note) for pair in plan.blocks if pair.note is not None]
    taken_from = {_target_name(pair): _source_name(pair) for pair in plan.blocks}
    return {
        "source": None if plan.source is None else plan.source.describe(),
        "target": plan.target.describe(),
        "rules": plan.rules.to_dict(),
        "values": plan.counts(),
        "tensors": tensors,
        "blocks": [_block(name, entries, taken_from) for name, entries in groups.items()],
        "notes": [{"tensors": count, "words": reason} for reason, count in sorted(notes.items())],
        "left_out": [{"block": name, "words": note} for name, note in left_out],
    }


def _block_of(name: str) -> str:
    parts = name.split(".")
    return ".".join(parts[:3]) if parts[0] == "stages" else parts[0]


def _target_name(pair: BlockPair) -> str:
    return f"stages.{pair.stage}.{pair.block}"


def _source_name(pair: BlockPair) -> str | None:
    return None if pair.source_block is None else f"stages.{pair.stage}.{pair.source_block}"


def _block(name: str, entries: Sequence[Entry], taken_from: dict[str, str | None]) -> dict[str, Any]:
    noted = _noted(entries)
    # A batch counter starts at 0 whatever was done, so it says nothing about its block.
    telling = [entry for entry in entries if entry not in noted and not entry.target.endswith(COUNTER)]
    parts: list[_Part] = []
    last: _Part | None = None
    for entry in telling:
        last = _place(entry, parts, last)
    takes = taken_from.get(name, name if any(entry.source for entry in telling) else None)
    return {
        "name": name,
        "takes": takes,
        "parts": [_described(part, name, [entry.target for entry in telling]) for part in parts],
    }


def _noted(entries: Sequence[Entry]) -> list[Entry]:
    """Running statistics that were treated as their BatchNorm's gamma and then replaced, as their reason says."""
    by_name = {entry.target: entry for entry in entries}
    noted = []
    for entry in entries:
        module, _, leaf = entry.target.rpartition(".")
        gamma = by_name.get(f"{module}.weight")
        if leaf in STATISTICS and gamma is not None and entry.reason is not None:
            same = (entry.source is None) == (gamma.source is None) and entry.reason != gamma.reason
            noted += [entry] if same else []
    return noted


def _place(entry: Entry, parts: list[_Part], last: _Part | None) -> _Part:
    """Add ``entry`` to the part that was treated alike; a BatchNorm joins the kernel before it, of its outputs."""
    how = _how(entry)
    for part in parts if last is None else [last, *parts]:
        joins = how.action == "taken" == part.how.action and how.input is None and how.scale == 1.0
        if part.how == how or (joins and part.how.output == how.output):
            part.tensors.append(entry.target)
            return part
    parts.append(_Part(how, [entry.target]))
    return parts[-1]


def _how(entry: Entry) -> How:
    if entry.source is None or entry.source_shape is None:
        return How("constant" if entry.action == "constant" else "random", reason=entry.reason)
    axes = [_channels(of, to) for of, to in zip(entry.source_shape[:2], entry.shape[:2], strict=True)]
    # Only kernels and the linear layer have inputs; the normalisation's (C, 1, 1) has none.
    has_inputs = len(entry.shape) in (2, 4)
    return How("taken", axes[0] if axes else None, axes[1] if has_inputs else None, entry.scale)


def _channels(of: int, to: int) -> Channels:
    return Channels("whole") if of == to else Channels("first" if to < of else "looped", of, to)


def _described(part: _Part, block: str, all_tensors: list[str]) -> dict[str, Any]:
    return {
        "modules": _modules(part.tensors, block, all_tensors),
        "tensors": part.tensors,
        **asdict(part.how),
        "words": part.how.words(),
    }


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
