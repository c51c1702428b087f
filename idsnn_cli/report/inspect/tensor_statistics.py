"""What the values of a network's tensors are like, and how far a student's moved from its start."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

import torch
from torch import Tensor

from idsnn_cli.checkpoint import tensors_sha256
from idsnn_cli.errors import CheckpointError
from idsnn_cli.initializer import Plan, apply
from idsnn_cli.models import build
from idsnn_cli.report.inspect.network import OpenNetwork, is_parameter
from idsnn_cli.report.inspect.source_use import layer_of
from idsnn_cli.results import Result


@dataclass(frozen=True, slots=True)
class Statistics(Result):
    """One tensor's values, computed in float64; the figures are None where one is NaN or infinite, or there is none."""

    mean: Annotated[float | None, "their mean"]
    std: Annotated[float | None, "their standard deviation, of the whole population"]
    min: Annotated[float | None, "the smallest"]
    max: Annotated[float | None, "the largest"]
    finite: Annotated[bool, "false where a value is NaN or infinite"]


# Under this key a checkpoint's provenance has the hash of what it, or what it was trained from, was made of.
HASH = "source_tensors_sha256"


def statistics_of(tensor: Tensor) -> Statistics:
    """The figures of ``tensor``."""
    values = tensor.detach().to("cpu", torch.float64)
    finite = bool(torch.isfinite(values).all())
    if not finite or not values.numel():
        return Statistics(None, None, None, None, finite)
    spread, mean = torch.std_mean(values, correction=0)
    return Statistics(float(mean), float(spread), float(values.min()), float(values.max()), True)


def statistics_by_name(names: Iterable[str], read: Callable[[str], Tensor]) -> dict[str, Statistics]:
    """Canonical name -> statistics, batch counters left out. One tensor is in memory at a time."""
    return {name: statistics_of(read(name)) for name in names if not name.endswith("num_batches_tracked")}


def network_statistics(network: OpenNetwork) -> dict[str, Statistics]:
    return statistics_by_name(network.names, network.get)


class Moved:
    """Relative change by layer: ||b - a|| / ||a|| over the trained values of a layer."""

    def __init__(self) -> None:
        self.squares: dict[str, tuple[float, float]] = {}

    def add(self, name: str, change: float, before: float) -> None:
        """Count a tensor's squared norms: of b - a, and of a."""
        if is_parameter(name):
            layer = layer_of(name)
            change_so_far, before_so_far = self.squares.get(layer, (0.0, 0.0))
            self.squares[layer] = (change_so_far + change, before_so_far + before)

    def of(self, layer: str) -> float | None:
        """None where nothing was counted, ``a`` is zero, or a value is not finite."""
        change, before = self.squares.get(layer, (0.0, 0.0))
        value = math.sqrt(change / before) if before > 0 else math.nan
        return value if math.isfinite(value) else None


def moved_since(plan: Plan, network: OpenNetwork, source: OpenNetwork) -> dict[str, float | None]:
    """Layer -> how far the values in ``network`` are from what ``plan`` makes of ``source``, of what it takes.

    0 everywhere for first weights, but for the noise that a plan may ask for, which counts as change. Raises
    :class:`CheckpointError` where ``source`` is not the one that the checkpoint's provenance names, and
    :class:`MappingError` where its tensors do not fit the plan.
    """
    plan = replace(plan, entries=tuple(replace(entry, noise=0.0) for entry in plan.entries))
    found = {key: _key_in(source, key) for key in plan.reads()}
    # What a foreign file's images are normalised by is told to the teacher that is made of it, which hands it on.
    handed_on = {key for key in found if key.startswith("input.") and found[key] is None and key in network.names}
    lacking = sorted(key for key, there in found.items() if there is None and key not in handed_on)
    if lacking:
        raise CheckpointError(
            f"{source.file.path} has no {lacking[0]}, from which {network.file.path} was made",
            "Name the file that it was made from.",
        )
    tensors = {
        key: network.get(key) if key in handed_on else source.found.read(str(there)) for key, there in found.items()
    }
    recorded = _recorded_hash(network.metadata.get("provenance"))
    if recorded is not None and tensors_sha256(tensors.items()) != recorded:
        raise CheckpointError(
            f"{network.file.path} was made from other weights than those in {source.file.path}",
            "Name the file that it was made from.",
        )
    start = apply(plan, tensors.__getitem__, build(plan.target, 0).state_dict(), torch.device("cpu"))
    moved = Moved()
    for entry in plan.entries:
        if entry.source is not None and entry.target in network.names:
            before = start[entry.target].double().flatten()
            change = network.get(entry.target).double().flatten() - before
            moved.add(entry.target, float(change @ change), float(before @ before))
    return {layer: moved.of(layer) for layer in moved.squares}


def _key_in(source: OpenNetwork, key: str) -> str | None:
    """The key in ``source`` that a plan's key stands for: itself, or where the plan was made from a teacher that was
    read from ``source``, the one of that canonical name.
    """
    return key if key in source.found.all_names.values() else source.names.get(key)


def _recorded_hash(provenance: Any) -> str | None:
    """The source's hash in the provenance of first weights, or of what was trained from them."""
    while isinstance(provenance, Mapping):
        if isinstance(provenance.get(HASH), str):
            return str(provenance[HASH])
        provenance = provenance.get("start")
    return None
