"""Which limits of a quantised source (QCFS) a quantised target starts from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from idsnn_cli.architecture import QCFS, Architecture
from idsnn_cli.initializer.plan import BlockPair


def same_places(target: Architecture, pairs: Sequence[BlockPair]) -> dict[str, str]:
    """The activation of the source that stands where each of the target does, in the block that it is made of."""
    chosen = {f"stages.{pair.stage}.{pair.block}": pair for pair in pairs}
    found = {}
    for act in target.activation_layers():
        place, _, leaf = act.rpartition(".")
        pair = chosen.get(place)
        if pair is None:
            found[act] = act
        elif pair.source_block is not None:
            found[act] = f"stages.{pair.stage}.{pair.source_block}.{leaf}"
    return found


def limits_kept(
    source: Architecture, target: Architecture, names: Mapping[str, str], pairs: Sequence[BlockPair]
) -> dict[str, str]:
    """The limit of the source, by its canonical name, that each of a QCFS target starts from.

    None where the blocks' activations stand elsewhere, a range goes by channel, or activations that share a limit in
    the target have several in the source.
    """
    if not (isinstance(source.activation, QCFS) and isinstance(target.activation, QCFS)):
        return {}
    traits = ("block", "membranes", "preactivation")
    if source.family != target.family or any(
        getattr(source, trait, None) != getattr(target, trait, None) for trait in traits
    ):
        return {}
    owners, places = dict(source.activations()), same_places(target, pairs)
    asked: dict[str, set[str]] = {}
    for act, owner in target.activations():
        asked.setdefault(f"{owner}.limit", set()).add(f"{owners.get(places.get(act, ''), '')}.limit")
    theirs, ours = source.tensors(), target.tensors()
    alone = {name: next(iter(limits)) for name, limits in asked.items() if len(limits) == 1}
    return {name: limit for name, limit in alone.items() if limit in names and theirs[limit] == ours[name] == ()}
