"""Where a student's first weights came from, block by block: the layer map."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from idsnn_cli.initializer import Entry, Plan
from idsnn_cli.initializer.plan import BlockPair
from idsnn_cli.report.inspect.network import is_parameter
from idsnn_cli.report.inspect.source_use import Used, block_of, block_sizes, layer_of, origins, used_values
from idsnn_cli.report.inspect.treatment import COUNTER, BlockPart, describe_parts, noted
from idsnn_cli.results import Result


@dataclass(frozen=True, slots=True)
class Share(Result):
    """How much of a source was used: its trained values from which at least one target value is made."""

    used: Annotated[int, "trained values from which at least one target value is made"]
    of: Annotated[int, "trained values that there are"]
    share: Annotated[float, "their ratio, 0 to 1"]


@dataclass(frozen=True, slots=True)
class BlockMap(Result):
    """One block of the target (or its input, stem or head) and what it was made from."""

    name: Annotated[str, "of the target's block"]
    takes: Annotated[str | None, "the source block; null where it stays random"]
    share: Annotated[Share | None, "of the source block that it uses"]
    values: Annotated[dict[str, int], "its trained values by action"]
    parts: Annotated[list[BlockPart], "its tensors, those that were treated alike in one"]


@dataclass(frozen=True, slots=True)
class SourceBlock(Result):
    """One block of the source and where it went."""

    name: Annotated[str, "of the source's block"]
    taken_by: Annotated[list[str], "blocks of the target"]
    share: Annotated[Share, "of the block that is used"]


@dataclass(frozen=True, slots=True)
class LayerUse(Result):
    """One layer of the target: a convolution with its BatchNorm, or the linear layer."""

    name: Annotated[str, "of the layer"]
    block: Annotated[str, "that it is in"]
    taken: Annotated[float, "how much of its trained values is taken, 0 to 1"]
    left_out: Annotated[float | None, "how much of the source tensors that it was made from is not in it, 0 to 1"]
    change: Annotated[float | None, "how far it is from its start, relative; null without `--source`"] = None


@dataclass(frozen=True, slots=True)
class MapNote(Result):
    """What else was done to some tensors."""

    tensors: Annotated[int, "how many"]
    of: Annotated[str, "what they are"]
    words: Annotated[str, "what was done"]


@dataclass(frozen=True, slots=True)
class LeftOut(Result):
    """Source tensors that have no place in a block of the target."""

    block: Annotated[str, "of the target"]
    words: Annotated[str, "what has no place in it"]


@dataclass(frozen=True, slots=True)
class LayerMap(Result):
    """Where a student's first weights came from, block by block."""

    source: Annotated[str | None, "in words; null where nothing was taken"]
    target: Annotated[str, "in words"]
    rules: Annotated[dict[str, Any], "of the mapping, as a recipe's `init` section names them"]
    lambdas: Annotated[dict[str, float], "of a conversion: what a spike stands for in each channel space of the target"]
    values: Annotated[dict[str, int], "of the target by action: copied, interpolated, random, constant"]
    tensors: Annotated[dict[str, int], "of the target by action"]
    share: Annotated[Share | None, "of the source that was used"]
    blocks: Annotated[list[BlockMap], "of the target, in network order"]
    source_blocks: Annotated[list[SourceBlock], "of the source, in network order"]
    layers: Annotated[list[LayerUse], "of the target, in network order"]
    origins: Annotated[dict[str, tuple[str, ...]], "the source tensors behind each target tensor, by canonical names"]
    selections: Annotated[list[dict[str, Any]], "every choice of channels, by the numbers that parts refer to"]
    notes: Annotated[list[MapNote], "what else was done"]
    left_out: Annotated[list[LeftOut], "source tensors that have no place in a target block"]


def describe_mapping(plan: Plan) -> LayerMap:
    """How ``plan`` made the target's first weights."""
    groups: dict[str, list[Entry]] = {}
    for entry in plan.entries:
        groups.setdefault(block_of(entry.target), []).append(entry)
    found = origins(plan)
    takes = _takes(plan, groups)
    used = used_values(plan, found, takes)
    sizes = {} if plan.source is None else block_sizes(_parameters(plan.source.tensors()))
    notes = Counter((str(entry.reason), _what(entry)) for entries in groups.values() for entry in noted(entries))
    return LayerMap(
        source=None if plan.source is None else plan.source.describe(),
        target=plan.target.describe(),
        rules=plan.rules.to_dict(),
        lambdas=dict(plan.lambdas),
        values=plan.counts(),
        tensors=dict.fromkeys(plan.counts(), 0) | Counter(entry.action for entry in plan.entries),
        share=None if plan.source is None else _share(used.whole, sum(sizes.values())),
        blocks=[
            _block(name, entries, takes[name], used, sizes, plan)
            for name, entries in groups.items()
            if _telling(entries)
        ],
        source_blocks=[_source_block(name, takes, used, size) for name, size in sizes.items()],
        layers=_layers(plan, used),
        origins={target: tuple(origin.names()) for target, origin in found.items()},
        selections=[each.to_dict() for each in plan.selections],
        notes=[MapNote(count, what, reason) for (reason, what), count in sorted(notes.items())],
        left_out=[LeftOut(_name(pair), pair.note) for pair in plan.blocks if pair.note is not None],
    )


def _what(entry: Entry) -> str:
    return "betas" if entry.target.endswith("bias") else "running statistics"


def _name(pair: BlockPair) -> str:
    return f"stages.{pair.stage}.{pair.block}"


def _takes(plan: Plan, groups: Mapping[str, Sequence[Entry]]) -> dict[str, str | None]:
    """Target block -> the source block that it takes; what is no block of a stage takes its own kind."""
    chosen = {
        _name(pair): None if pair.source_block is None else f"stages.{pair.stage}.{pair.source_block}"
        for pair in plan.blocks
    }
    return {
        name: chosen.get(name, name if any(entry.source for entry in entries) else None)
        for name, entries in groups.items()
    }


def _parameters(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    return {name: math.prod(shape) for name, shape in shapes.items() if is_parameter(name)}


def _share(used: int, of: int) -> Share:
    return Share(used, of, used / of if of else 0.0)


def _telling(entries: Sequence[Entry]) -> list[Entry]:
    """The entries that say something of their block: not what was replaced afterwards, nor batch counters."""
    left_out = noted(entries)
    return [entry for entry in entries if entry not in left_out and not entry.target.endswith(COUNTER)]


def _block(
    name: str, entries: Sequence[Entry], takes: str | None, used: Used, sizes: Mapping[str, int], plan: Plan
) -> BlockMap:
    trained = Counter[str]()
    for entry in entries:
        trained[entry.action] += math.prod(entry.shape) if is_parameter(entry.target) else 0
    share = None if takes not in sizes or takes is None else _share(used.by_block.get(name, 0), sizes[takes])
    values = {action: trained[action] for action in plan.counts()}
    return BlockMap(name, takes, share, values, describe_parts(name, _telling(entries), plan))


def _source_block(name: str, takes: Mapping[str, str | None], used: Used, size: int) -> SourceBlock:
    taken_by = [target for target, source in takes.items() if source == name]
    return SourceBlock(name, taken_by, _share(used.by_source_block.get(name, 0), size))


def _layers(plan: Plan, used: Used) -> list[LayerUse]:
    sizes: dict[str, int] = {}
    taken: dict[str, int] = {}
    for entry in plan.entries:
        if is_parameter(entry.target):
            layer, size = layer_of(entry.target), math.prod(entry.shape)
            sizes[layer] = sizes.get(layer, 0) + size
            taken[layer] = taken.get(layer, 0) + (size if entry.source is not None else 0)
    return [
        LayerUse(
            name,
            block_of(f"{name}.weight"),
            taken[name] / size,
            1 - used.by_layer[name] / used.of_layer[name] if used.of_layer.get(name) else None,
        )
        for name, size in sizes.items()
    ]
