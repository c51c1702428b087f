"""Where a student's first weights came from, block by block, as a plain dictionary: the layer map."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from idsnn_cli.initializer import Entry, Plan
from idsnn_cli.initializer.plan import BlockPair
from idsnn_cli.report.inspect.network import is_parameter
from idsnn_cli.report.inspect.source_use import Used, block_of, block_sizes, layer_of, origins, used_values
from idsnn_cli.report.inspect.treatment import COUNTER, describe_parts, noted


def describe_mapping(plan: Plan) -> dict[str, Any]:
    """How ``plan`` made the target's first weights.

    Keys: ``source`` (None where nothing was taken) and ``target`` in words; ``rules``; ``lambdas``, of a conversion
    what a spike stands for in each channel space of the target; ``values`` and ``tensors`` by action (copied,
    interpolated, random, constant); ``share`` of the source that was used, as everywhere here its trained values
    from which at least one target value is made: ``used``, ``of`` and their ratio ``share``; ``blocks`` in network
    order, each with its ``name``, the source block that it ``takes`` (None where it stays random), the ``share`` of
    that block that it uses (or None), its trained ``values`` by action, and ``parts`` as :func:`describe_parts`
    gives them; ``source_blocks``, each with its ``name``, the blocks that it is ``taken_by`` and the ``share`` of
    it that is used; ``layers`` in network order (a convolution with its BatchNorm), each with its ``name``,
    ``block``, how much of its trained values is ``taken`` (0 to 1), and how much of the source tensors that it was
    made from is ``left_out`` (None where there are none); ``origins``, target tensor -> the canonical source
    tensors behind it; ``selections``, every choice of channels, by the numbers that parts refer to; ``notes``, what
    else was done, with the number of tensors and what they are; ``left_out``, the source tensors that have no place
    in a target ``block``, in words.
    """
    groups: dict[str, list[Entry]] = {}
    for entry in plan.entries:
        groups.setdefault(block_of(entry.target), []).append(entry)
    found = origins(plan)
    takes = _takes(plan, groups)
    used = used_values(plan, found, takes)
    sizes = {} if plan.source is None else block_sizes(_parameters(plan.source.tensors()))
    notes = Counter((str(entry.reason), _what(entry)) for entries in groups.values() for entry in noted(entries))
    return {
        "source": None if plan.source is None else plan.source.describe(),
        "target": plan.target.describe(),
        "rules": plan.rules.to_dict(),
        "lambdas": dict(plan.lambdas),
        "values": plan.counts(),
        "tensors": dict.fromkeys(plan.counts(), 0) | Counter(entry.action for entry in plan.entries),
        "share": None if plan.source is None else _share(used.whole, sum(sizes.values())),
        "blocks": [
            _block(name, entries, takes[name], used, sizes, plan)
            for name, entries in groups.items()
            if _telling(entries)
        ],
        "source_blocks": [_source_block(name, takes, used, size) for name, size in sizes.items()],
        "layers": _layers(plan, used),
        "origins": {target: origin.names() for target, origin in found.items()},
        "selections": [each.to_dict() for each in plan.selections],
        "notes": [{"tensors": count, "of": what, "words": reason} for (reason, what), count in sorted(notes.items())],
        "left_out": [{"block": _name(pair), "words": pair.note} for pair in plan.blocks if pair.note is not None],
    }


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


def _share(used: int, of: int) -> dict[str, Any]:
    return {"used": used, "of": of, "share": used / of if of else 0.0}


def _telling(entries: Sequence[Entry]) -> list[Entry]:
    """The entries that say something of their block: not what was replaced afterwards, nor batch counters."""
    left_out = noted(entries)
    return [entry for entry in entries if entry not in left_out and not entry.target.endswith(COUNTER)]


def _block(
    name: str, entries: Sequence[Entry], takes: str | None, used: Used, sizes: Mapping[str, int], plan: Plan
) -> dict[str, Any]:
    trained = Counter[str]()
    for entry in entries:
        trained[entry.action] += math.prod(entry.shape) if is_parameter(entry.target) else 0
    share = None if takes not in sizes or takes is None else _share(used.by_block.get(name, 0), sizes[takes])
    return {
        "name": name,
        "takes": takes,
        "share": share,
        "values": {action: trained[action] for action in plan.counts()},
        "parts": describe_parts(name, _telling(entries), plan),
    }


def _source_block(name: str, takes: Mapping[str, str | None], used: Used, size: int) -> dict[str, Any]:
    taken_by = [target for target, source in takes.items() if source == name]
    return {"name": name, "taken_by": taken_by, "share": _share(used.by_source_block.get(name, 0), size)}


def _layers(plan: Plan, used: Used) -> list[dict[str, Any]]:
    sizes: dict[str, int] = {}
    taken: dict[str, int] = {}
    for entry in plan.entries:
        if is_parameter(entry.target):
            layer, size = layer_of(entry.target), math.prod(entry.shape)
            sizes[layer] = sizes.get(layer, 0) + size
            taken[layer] = taken.get(layer, 0) + (size if entry.source is not None else 0)
    return [
        {
            "name": name,
            "block": block_of(f"{name}.weight"),
            "taken": taken[name] / size,
            "left_out": 1 - used.by_layer[name] / used.of_layer[name] if used.of_layer.get(name) else None,
        }
        for name, size in sizes.items()
    ]
