"""What is in one checkpoint, or would be in one that is not made yet."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from torch import Tensor

from idsnn_cli.checkpoint import checkpoint_files
from idsnn_cli.errors import UsageError
from idsnn_cli.families import Reading
from idsnn_cli.initializer import Plan
from idsnn_cli.published import Source
from idsnn_cli.report.inspect.layer_map import describe_mapping
from idsnn_cli.report.inspect.network import OpenNetwork, is_parameter, open_network, place_of
from idsnn_cli.report.inspect.tensor_statistics import Statistics, moved_since, network_statistics, statistics_by_name

DROPPED = "dropped"


def describe_checkpoint(
    path: Source, reading: Reading | None = None, *, values: bool = False, source: Source | None = None
) -> dict[str, Any]:
    """What ``path`` holds; no tensor is read unless ``values`` asks for their figures or ``source`` is given.

    ``source`` is the file that the first weights of ``path`` were made from, read as ``reading`` says.

    Keys, always all of them: ``file``, ``file_bytes``; ``kind`` (teacher, init, student, baseline or foreign) and
    ``scheme`` (whose tensor names it has); ``architecture`` as data and as a ``description`` in words; ``parameters``
    (trained values), ``tensors``, ``values`` and ``bytes`` of the network; ``stages``, a list with the ``name``,
    ``tensors``, ``values``, ``bytes`` and ``dtypes`` (tensors by element type) of each part in network order;
    ``missing``, names that the network has and the file lacks; ``weights``, the copy taken (ema or raw), and
    ``choice``, in words where there was one; ``dropped``, reasons by key; ``unknown``, what a foreign file cannot tell;
    ``certainty`` (``number`` from 0 to 1, ``words``, ``reasons``) of a layout that shapes and order gave, else None;
    and from our own metadata ``provenance``, ``metrics``, ``recipe``, ``data``, ``versions`` and ``mapping`` (see
    :func:`describe_mapping`), each None where the file has none. ``statistics``: with ``values``, by
    canonical name the ``mean``, ``std``, ``min``, ``max`` and ``finite`` of each tensor; ``source_statistics``: with
    ``source``, those of the source, and each of the mapping's ``layers`` has its ``change`` since it was made from the
    source, ||b - a|| / ||a||; both None otherwise. Raises :class:`CheckpointError` for a file that cannot be
    read or was not made from ``source``, :class:`FamilyError` for one that is no ResNet, :class:`UsageError` where
    ``source`` is given for a file without a mapping.
    """
    with open_network(path, reading, only_foreign=source is not None) as network:
        stages = _stages(network)
        inside = [stage for stage in stages if stage["name"] != DROPPED]
        stored = network.metadata.get("mapping")
        plan = None if stored is None else Plan.from_dict(stored)
        mapping = None if plan is None else _described(plan, network)
        source_statistics = None if source is None else _add_change(network, plan, mapping, source, reading)
        statistics = network_statistics(network) if values else None
        return {
            "file": str(path),
            "file_bytes": sum(file.stat().st_size for file in checkpoint_files(path)),
            "kind": network.kind,
            "scheme": network.found.scheme,
            "architecture": network.architecture.to_dict(),
            "description": network.description,
            "parameters": sum(math.prod(network.shape(name)) for name in network.names if is_parameter(name)),
            **{key: sum(stage[key] for stage in inside) for key in ("tensors", "values", "bytes")},
            "stages": stages,
            "missing": _missing(network),
            "choice": network.found.choice,
            "weights": network.found.copy,
            "dropped": dict(network.found.dropped),
            "unknown": list(network.found.unknown),
            "certainty": None if network.found.certainty is None else asdict(network.found.certainty),
            **{
                key: network.metadata.get(key) or None
                for key in ("provenance", "metrics", "recipe", "data", "versions")
            },
            "mapping": mapping,
            "statistics": statistics,
            "source_statistics": source_statistics,
        }


def _described(plan: Plan, network: OpenNetwork) -> dict[str, Any]:
    """The layer map; of a network that export has folded since, it is that of the network as it was trained."""
    mapping = describe_mapping(plan)
    if network.architecture.amplitude == "folded":
        learnt = sum(".amplitude" in entry.target for entry in plan.entries)
        words = "are folded into what reads their spikes since (idsnn export); the map is of the network before that"
        mapping["notes"].append({"tensors": learnt, "of": "tensors of amplitudes", "words": words})
    return mapping


def _add_change(
    network: OpenNetwork, plan: Plan | None, mapping: dict[str, Any] | None, source: Source, reading: Reading | None
) -> dict[str, Statistics]:
    """Write into the ``mapping`` how far each layer is from its start, and give the statistics of ``source``."""
    if plan is None or mapping is None or plan.source is None:
        raise UsageError(
            f"{network.file.path} was not made from another network, so there is no source to compare it with",
            "Leave --source out.",
        )
    with open_network(source, reading, only_foreign=True) as origin:
        moved = moved_since(plan, network, origin)
        for layer in mapping["layers"]:
            layer["change"] = moved.get(layer["name"])
        return network_statistics(origin)


def _stages(network: OpenNetwork) -> list[dict[str, Any]]:
    groups: dict[str, list[str]] = {}
    for name, key in network.names.items():
        groups.setdefault(place_of(name), []).append(key)
    if network.found.dropped:
        groups[DROPPED] = list(network.found.dropped)
    return [_stage(network, name, keys) for name, keys in groups.items()]


def _stage(network: OpenNetwork, name: str, keys: list[str]) -> dict[str, Any]:
    file = network.file
    sizes = [math.prod(file.shape(key)) for key in keys]
    types = [file.dtype(key) for key in keys]
    return {
        "name": name,
        "tensors": len(keys),
        "values": sum(sizes),
        "bytes": sum(size * dtype.itemsize for size, dtype in zip(sizes, types, strict=True)),
        "dtypes": dict(Counter(str(dtype).removeprefix("torch.") for dtype in types)),
    }


def _missing(network: OpenNetwork) -> list[str]:
    """Batch counters are left out: older files have none, and nothing that is computed here reads them."""
    return [
        name
        for name in network.architecture.tensors()
        if name not in network.names and not name.endswith("num_batches_tracked")
    ]


def describe_plan(
    source: Source, plan: Plan, state: Mapping[str, Tensor], reading: Reading | None = None, *, values: bool = False
) -> dict[str, Any]:
    """The layer map of ``plan``, which makes the student's ``state`` from the network in ``source``.

    Keys as those of :func:`describe_checkpoint`: ``kind`` (plan), ``description`` and
    ``architecture`` of the student, ``mapping``, and with ``values`` ``statistics`` and ``source_statistics`` (None
    otherwise); further ``source``: its ``file``, ``scheme``, ``choice``, ``certainty``, ``unknown`` and ``dropped``.
    """
    with open_network(source, reading, only_foreign=True) as network:
        found = network.found
        return {
            "kind": "plan",
            "description": plan.target.describe(),
            "architecture": plan.target.to_dict(),
            "source": {
                "file": str(source),
                "scheme": found.scheme,
                "choice": found.choice,
                "certainty": None if found.certainty is None else asdict(found.certainty),
                "unknown": list(found.unknown),
                "dropped": dict(found.dropped),
            },
            "mapping": describe_mapping(plan),
            "statistics": statistics_by_name(state, state.__getitem__) if values else None,
            "source_statistics": network_statistics(network) if values else None,
        }
