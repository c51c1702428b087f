"""What is in one checkpoint, or would be in one that is not made yet."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, Literal

from torch import Tensor

from idsnn_cli.architecture import DECAY_LOGIT, START_SHIFT, is_scale
from idsnn_cli.checkpoint import checkpoint_files
from idsnn_cli.errors import UsageError
from idsnn_cli.families import Reading
from idsnn_cli.initializer import Plan
from idsnn_cli.report.inspect.layer_map import LayerMap, MapNote, describe_mapping
from idsnn_cli.report.inspect.network import OpenNetwork, is_parameter, open_network, place_of
from idsnn_cli.report.inspect.tensor_statistics import Statistics, moved_since, network_statistics, statistics_by_name
from idsnn_cli.results import Result
from idsnn_cli.sources.names import Source
from idsnn_cli.sources.opened import OpenedSource
from idsnn_cli.spiking import decay_of

DROPPED = "dropped"


@dataclass(frozen=True, slots=True)
class Part(Result):
    """A part of the network: its input, the stem, a stage, the linear layer, or what was dropped of the file."""

    name: Annotated[str, "`input`, `stem`, `stages.N`, `head`, or `dropped`"]
    tensors: Annotated[int, "how many"]
    values: Annotated[int, "in all of them"]
    bytes: Annotated[int, "in the file"]
    dtypes: Annotated[dict[str, int], "tensors by element type"]


@dataclass(frozen=True, slots=True)
class Contents(Result):
    """What one checkpoint holds; always all keys."""

    file: Annotated[str, "where it was read from"]
    file_bytes: Annotated[int, "on disk, of all its shards"]
    kind: Annotated[str, "teacher, pretrain, init, student, baseline or foreign"]
    scheme: Annotated[str, "whose tensor names it has"]
    architecture: Annotated[dict[str, Any], "the network as data"]
    description: Annotated[str, "the network in one line of words"]
    parameters: Annotated[int, "trained values"]
    tensors: Annotated[int, "of the network"]
    values: Annotated[int, "in all its tensors"]
    bytes: Annotated[int, "of all its tensors"]
    stages: Annotated[list[Part], "in network order"]
    missing: Annotated[list[str], "names that the network has and the file lacks"]
    decays: Annotated[
        dict[str, float | None] | None,
        "of neurons that learnt them, by layer, null where one is not finite; null where none did",
    ]
    choice: Annotated[str | None, "what was chosen where the file leaves a choice, in words"]
    weights: Annotated[str | None, "the copy that was taken: `ema` or `raw`"]
    dropped: Annotated[dict[str, str], "reasons by key"]
    unknown: Annotated[list[str], "what a foreign file cannot tell"]
    certainty: Annotated[
        dict[str, Any] | None, "`number` (0 to 1), `words` and `reasons` of a layout that shapes and order gave"
    ]
    provenance: Annotated[Any, "where its weights came from; null where the file does not say, as the next four"]
    metrics: Annotated[Any, "of its training"]
    recipe: Annotated[Any, "that made it"]
    data: Annotated[Any, "that it was trained on"]
    versions: Annotated[Any, "of the libraries that made it"]
    mapping: Annotated[LayerMap | None, "the layer map: where its first weights came from"]
    statistics: Annotated[dict[str, Statistics] | None, "by canonical name; null unless asked for"]
    source_statistics: Annotated[dict[str, Statistics] | None, "of `--source`; null without one"]


@dataclass(frozen=True, slots=True)
class PlanSource(Result):
    """The network that a student would start from."""

    file: Annotated[str, "where it was read from"]
    scheme: Annotated[str, "whose tensor names it has"]
    choice: Annotated[str | None, "what was chosen where the file leaves a choice, in words"]
    certainty: Annotated[dict[str, Any] | None, "of a layout that shapes and order gave"]
    unknown: Annotated[list[str], "what a foreign file cannot tell"]
    dropped: Annotated[dict[str, str], "reasons by key"]


@dataclass(frozen=True, slots=True)
class PlannedStart(Result):
    """What a student would start from (`--plan`), before anything is written."""

    kind: Annotated[Literal["plan"], "that it is no file yet"]
    description: Annotated[str, "the student in one line of words"]
    architecture: Annotated[dict[str, Any], "the student as data"]
    source: Annotated[PlanSource, "what it is made from"]
    mapping: Annotated[LayerMap, "the layer map"]
    statistics: Annotated[dict[str, Statistics] | None, "by canonical name; null unless asked for"]
    source_statistics: Annotated[dict[str, Statistics] | None, "of the source; null unless asked for"]


def describe_checkpoint(
    path: Source, reading: Reading | None = None, *, values: bool = False, source: Source | None = None
) -> Contents:
    """What ``path`` holds; no tensor but learnt decays is read unless ``values`` asks for their figures or ``source``
    is given.

    ``source`` is the file that the first weights of ``path`` were made from, read as ``reading`` says.

    Raises :class:`CheckpointError` for a file that cannot be
    read or was not made from ``source``, :class:`FamilyError` for one that is no ResNet, :class:`UsageError` where
    ``source`` is given for a file without a mapping.
    """
    with open_network(path, reading, only_foreign=source is not None) as network:
        stages = _stages(network)
        inside = [stage for stage in stages if stage.name != DROPPED]
        stored = network.metadata.get("mapping")
        plan = None if stored is None else Plan.from_dict(stored)
        mapping = None if plan is None else _described(plan, network)
        source_statistics = None
        if source is not None:
            mapping, source_statistics = _with_change(network, plan, mapping, source, reading)
        statistics = network_statistics(network) if values else None
        found = network.found
        about = {
            key: network.metadata.get(key) or None for key in ("provenance", "metrics", "recipe", "data", "versions")
        }
        return Contents(
            file=str(path),
            file_bytes=sum(file.stat().st_size for file in checkpoint_files(path)),
            kind=network.kind,
            scheme=found.scheme,
            architecture=network.architecture.to_dict(),
            description=network.description,
            parameters=sum(math.prod(network.shape(name)) for name in network.names if _is_trained(name)),
            tensors=sum(stage.tensors for stage in inside),
            values=sum(stage.values for stage in inside),
            bytes=sum(stage.bytes for stage in inside),
            stages=stages,
            missing=_missing(network),
            decays=_decays(network),
            choice=found.choice,
            weights=found.copy,
            dropped=dict(found.dropped),
            unknown=list(found.unknown),
            certainty=None if found.certainty is None else asdict(found.certainty),
            **{key: network.metadata.get(key) or None for key in about},
            mapping=mapping,
            statistics=statistics,
            source_statistics=source_statistics,
        )


def _described(plan: Plan, network: OpenNetwork) -> LayerMap:
    """The layer map; of a network that export has folded since, it is that of the network as it was trained."""
    mapping = describe_mapping(plan)
    if network.architecture.scaled_shortcuts and not plan.target.scaled_shortcuts:
        learnt = sum(is_scale(entry.target) for entry in plan.entries)
        words = "are folded into what reads their spikes since (idsnn export); the map is of the network before that"
        return replace(mapping, notes=[*mapping.notes, MapNote(learnt, "tensors of amplitudes", words)])
    return mapping


def _with_change(
    network: OpenNetwork, plan: Plan | None, mapping: LayerMap | None, source: Source, reading: Reading | None
) -> tuple[LayerMap, dict[str, Statistics]]:
    """The ``mapping`` with how far each layer is from its start, and the statistics of ``source``."""
    if plan is None or mapping is None or plan.source is None:
        raise UsageError(
            f"{network.file.path} was not made from another network, so there is no source to compare it with",
            "Leave --source out.",
        )
    with open_network(source, reading, only_foreign=True) as origin:
        moved = moved_since(plan, network, origin)
        layers = [replace(layer, change=moved.get(layer.name)) for layer in mapping.layers]
        return replace(mapping, layers=layers), network_statistics(origin)


def _stages(network: OpenNetwork) -> list[Part]:
    groups: dict[str, list[str]] = {}
    for name, key in network.names.items():
        groups.setdefault(place_of(name), []).append(key)
    if network.found.dropped:
        groups[DROPPED] = list(network.found.dropped)
    return [_stage(network, name, keys) for name, keys in groups.items()]


def _stage(network: OpenNetwork, name: str, keys: list[str]) -> Part:
    file = network.file
    stored = [each for key in keys for each in network.stored(key)]
    sizes = [math.prod(file.shape(key)) for key in stored]
    types = [file.dtype(key) for key in stored]
    return Part(
        name,
        len(keys),
        sum(sizes),
        sum(size * dtype.itemsize for size, dtype in zip(sizes, types, strict=True)),
        dict(Counter(str(dtype).removeprefix("torch.") for dtype in types)),
    )


def _missing(network: OpenNetwork) -> list[str]:
    """Batch counters are left out: older files have none, and nothing that is computed here reads them."""
    return [
        name
        for name in network.architecture.tensors()
        if name not in network.names and not name.endswith("num_batches_tracked")
    ]


def _is_trained(name: str) -> bool:
    return is_parameter(name) or name.endswith((f".{DECAY_LOGIT}", f".{START_SHIFT}"))


def _decays(network: OpenNetwork) -> dict[str, float | None] | None:
    """Each layer's learnt decay, also of a foreign file that is read as an ANN; nothing else of the file is read."""
    found = {}
    for name, key in network.found.all_names.items():
        value = network.found.read(key) if name.endswith(f".{DECAY_LOGIT}") else None
        if value is not None and value.numel() == 1:
            decay = decay_of(value.reshape(()))
            found[name.removesuffix(f".{DECAY_LOGIT}")] = decay if math.isfinite(decay) else None
    return found or None


def describe_plan(
    source: OpenedSource, plan: Plan, state: Mapping[str, Tensor], *, values: bool = False
) -> PlannedStart:
    """The layer map of ``plan``, which makes the student's ``state`` from the network in ``source``.

    ``values`` asks for the statistics of every tensor.
    """
    found = source.network
    return PlannedStart(
        kind="plan",
        description=plan.target.describe(),
        architecture=plan.target.to_dict(),
        source=PlanSource(
            file=str(source.source),
            scheme=found.scheme,
            choice=found.choice,
            certainty=None if found.certainty is None else asdict(found.certainty),
            unknown=list(found.unknown),
            dropped=dict(found.dropped),
        ),
        mapping=describe_mapping(plan),
        statistics=statistics_by_name(state, state.__getitem__) if values else None,
        source_statistics=network_statistics(OpenNetwork(source)) if values else None,
    )
