"""Which source block each block of a target takes."""

from __future__ import annotations

from collections.abc import Sequence

from idsnn_cli import rulebook
from idsnn_cli.architecture import Architecture
from idsnn_cli.errors import MappingError, UsageError
from idsnn_cli.rules import BlockLists, Rules


def source_block(rule: str, block: int, target_depth: int, source_depth: int) -> int:
    """The block of a source stage of ``source_depth`` blocks that target block ``block`` of ``target_depth`` takes.

    ``rule`` is one of those of ``blocks`` that do not search. Only a stage's first block takes a stage's first block,
    whose input comes from another width, as long as the source stage has a second.
    """
    place = rulebook.rule("blocks", rule)
    if place.searches:
        raise UsageError(f"the rule {rule} looks at the running source", "Choose its blocks first.")
    chosen: int = place(block=block, depth=target_depth, source_depth=source_depth)
    return max(chosen, 1) if block > 0 and source_depth > 1 else chosen


def choose_blocks(
    source: Architecture, target: Architecture, rules: Rules, found: BlockLists | None = None
) -> BlockLists:
    """One list of source blocks for each stage that both networks have; empty where the source's has none.

    ``found`` is what a rule that searches found by running the source. Raises :class:`MappingError` where an explicit
    list does not fit, or gives another block the place of a stage's first one although widths or strides change there.
    """
    stages = range(min(len(source.depths), len(target.depths)))
    if isinstance(rules.blocks, tuple):
        chosen: BlockLists = rules.blocks
        _check(chosen, source, target)
    elif (search := rules.searched_blocks()) is not None:
        if found is None:
            raise UsageError(f"{search} needs images and labels", "Give the data set, or another rule.")
        chosen = tuple(_lengthened(found[s], _depths(source, target, s)[0]) for s in stages)
    else:
        rule = rules.blocks
        chosen = tuple(
            tuple(source_block(rule, j, depth, have) for j in range(depth))
            for depth, have in (_depths(source, target, s) for s in stages)
        )
    return tuple(_first_in_place(chosen[s], source, target, s) for s in stages)


def _depths(source: Architecture, target: Architecture, stage: int) -> tuple[int, int]:
    """How many blocks of a stage want one of the source's, and how many that has: without any, none is wanted."""
    have = source.depths[stage]
    return (target.depths[stage] if have else 0), have


def _lengthened(found: Sequence[int], depth: int) -> tuple[int, ...]:
    """The blocks that are left, spread over a deeper target stage."""
    places = (source_block("proportional", j, depth, len(found)) for j in range(depth))
    return tuple(found[place] for place in places)


def changes(architecture: Architecture, stage: int, block: int) -> bool:
    """Whether a block's input is another residual stream than its output: another width, or a stride."""
    entry, outer = architecture.block_input(stage, block), architecture.stage_channels(stage)
    return entry != outer or architecture.block_stride(stage, block) != 1


def _first_in_place(chosen: tuple[int, ...], source: Architecture, target: Architecture, stage: int) -> tuple[int, ...]:
    """``chosen`` with the source's first block first, where either network changes its stream there."""
    if chosen and (changes(source, stage, 0) or changes(target, stage, 0)):
        return (0, *chosen[1:])
    return chosen


def _check(lists: BlockLists, source: Architecture, target: Architecture) -> None:
    stages = min(len(source.depths), len(target.depths))
    if len(lists) != stages:
        raise MappingError(
            f"blocks lists {len(lists)} stages, but {stages} stages of the source have a counterpart",
            "Give one list of source blocks for each of them.",
        )
    for stage, chosen in enumerate(lists):
        depth, have = _depths(source, target, stage)
        if len(chosen) != depth or any(not 0 <= block < have for block in chosen):
            raise MappingError(
                f"blocks gives {list(chosen)} for stage {stage} (from 0), where {depth} of the target take one "
                f"and the source has {have}",
                f"Give {depth} numbers from 0 to {have - 1}." if have else "Give an empty list.",
            )
        if chosen and chosen[0] != 0 and (changes(source, stage, 0) or changes(target, stage, 0)):
            raise MappingError(
                f"blocks begins stage {stage} (from 0) with the source's block {chosen[0]}, but widths or strides "
                "change in a stage's first block",
                "Begin this stage with 0.",
            )
