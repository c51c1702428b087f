"""How two checkpoints differ, tensor by tensor, as a plain dictionary."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, get_args

import torch
from torch import Tensor

from idsnn_cli.families import Reading
from idsnn_cli.report.inspect.network import OpenNetwork, is_parameter, merged_order, open_network
from idsnn_cli.report.inspect.source_use import block_of, layer_of
from idsnn_cli.report.inspect.tensor_statistics import Moved, Statistics, statistics_of
from idsnn_cli.results import Result
from idsnn_cli.sources.names import Source

Status = Literal["same", "changed", "shape differs", "only in A", "only in B"]
STATUSES: tuple[Status, ...] = get_args(Status)


@dataclass(frozen=True, slots=True)
class Compared(Result):
    """One of the two checkpoints."""

    file: Annotated[str, "where it was read from"]
    kind: Annotated[str, "teacher, pretrain, init, student, baseline or foreign"]
    scheme: Annotated[str, "whose tensor names it has"]
    choice: Annotated[str | None, "what was chosen where the file leaves a choice, in words"]
    description: Annotated[str, "the network in one line of words"]


@dataclass(frozen=True, slots=True)
class Difference(Result):
    """A property in which the two architectures differ."""

    key: Annotated[str, "its name"]
    a: Annotated[Any, "its value in A"]
    b: Annotated[Any, "its value in B"]


@dataclass(frozen=True, slots=True)
class Change(Result):
    """Over all trained values of equal shape."""

    relative_change: Annotated[float | None, "||b - a|| / ||a||; null where a is zero or a value is not finite"]
    cosine: Annotated[float | None, "a . b / (||a|| ||b||), 1 for the same direction"]


@dataclass(frozen=True, slots=True)
class ComparedTensor(Result):
    """One tensor, under its canonical name; of another element type it counts as changed, whatever its values."""

    name: Annotated[str, "canonical"]
    status: Annotated[Status, "how the two are to each other"]
    a_shape: Annotated[list[int] | None, "null where A has none"]
    b_shape: Annotated[list[int] | None, "null where B has none"]
    a_dtype: Annotated[str | None, "its element type in A"]
    b_dtype: Annotated[str | None, "its element type in B"]
    relative_change: Annotated[float | None, "||b - a|| / ||a||"] = None
    cosine: Annotated[float | None, "a . b / (||a|| ||b||)"] = None
    finite: Annotated[bool, "false where a value is NaN or infinite"] = True
    a_statistics: Annotated[Statistics | None, "its mean, std, min, max and finite in A"] = None
    b_statistics: Annotated[Statistics | None, "the same in B"] = None


@dataclass(frozen=True, slots=True)
class ComparedLayer(Result):
    """A convolution with its BatchNorm, or the linear layer."""

    name: Annotated[str, "canonical"]
    block: Annotated[str, "the block that it is in"]
    change: Annotated[float | None, "||b - a|| / ||a|| over its trained values of equal shape; null without any"]
    tensors: Annotated[dict[str, int], "its tensors by status, batch counters left out"]


@dataclass(frozen=True, slots=True)
class Comparison(Result):
    """Two checkpoints, tensor by tensor."""

    a: Annotated[Compared, "the first"]
    b: Annotated[Compared, "the second"]
    identical: Annotated[bool, "whether there is no difference at all"]
    architecture: Annotated[list[Difference], "the properties that differ"]
    summary: Annotated[dict[str, int], "the number of tensors by status"]
    parameters: Annotated[Change, "over all trained values of equal shape"]
    tensors: Annotated[list[ComparedTensor], "in network order"]
    layers: Annotated[list[ComparedLayer], "in network order"]


@dataclass(slots=True)
class _Sums:
    """Squared norms of a, b and b - a, and the product of a and b, in float64."""

    first: float = 0.0
    second: float = 0.0
    change: float = 0.0
    product: float = 0.0

    @staticmethod
    def of(a: Tensor, b: Tensor) -> _Sums:
        return _Sums(*(float(torch.dot(x, y)) for x, y in ((a, a), (b, b), (b - a, b - a), (a, b))))

    def add(self, other: _Sums) -> None:
        self.first += other.first
        self.second += other.second
        self.change += other.change
        self.product += other.product

    def relative_change(self) -> float | None:
        """||b - a|| / ||a||; None where a is zero or a value is not finite."""
        return _finite(math.sqrt(self.change / self.first)) if self.first > 0 else None

    def cosine(self) -> float | None:
        """a . b / (||a|| ||b||), 1 for the same direction; None where one is zero or a value is not finite."""
        norms = math.sqrt(self.first) * math.sqrt(self.second)
        if not norms > 0 or _finite(self.product / norms) is None:
            return None
        return max(-1.0, min(1.0, self.product / norms))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def compare_checkpoints(first: Source, second: Source, reading: Reading | None = None) -> Comparison:
    """How ``second`` (B) differs from ``first`` (A), ResNets in any naming scheme, under canonical names.

    ``reading`` is for those that idsnn did not write. One pair of tensors is in memory at a time. Raises as
    :func:`describe_checkpoint` does.
    """
    with _open(first, reading) as a, _open(second, reading) as b:
        overall, moved = _Sums(), Moved()
        rows = [_row(name, a, b, overall, moved) for name in merged_order(list(a.names), list(b.names))]
        architecture = _differences(a, b)
        summary: dict[str, int] = {status: sum(row.status == status for row in rows) for status in STATUSES}
        return Comparison(
            a=_side(first, a),
            b=_side(second, b),
            identical=not architecture and summary["same"] == len(rows),
            architecture=architecture,
            summary=summary,
            parameters=Change(overall.relative_change(), overall.cosine()),
            tensors=rows,
            layers=_layers(rows, moved),
        )


def _open(path: Source, reading: Reading | None) -> AbstractContextManager[OpenNetwork]:
    return open_network(path, reading, only_foreign=True)


def _side(path: Source, network: OpenNetwork) -> Compared:
    return Compared(str(path), network.kind, network.found.scheme, network.found.choice, network.description)


def _layers(rows: list[ComparedTensor], moved: Moved) -> list[ComparedLayer]:
    layers: dict[str, Counter[str]] = {}
    for row in rows:
        if not row.name.startswith("input.") and not row.name.endswith("num_batches_tracked"):
            layers.setdefault(layer_of(row.name), Counter())[row.status] += 1
    return [
        ComparedLayer(name, block_of(f"{name}.weight"), moved.of(name), dict(counts)) for name, counts in layers.items()
    ]


def _row(name: str, a: OpenNetwork, b: OpenNetwork, overall: _Sums, moved: Moved) -> ComparedTensor:
    in_a, in_b = name in a.names, name in b.names
    ours, theirs = a.get(name) if in_a else None, b.get(name) if in_b else None
    row = ComparedTensor(
        name=name,
        status="only in A" if in_a else "only in B",
        a_shape=list(a.shape(name)) if in_a else None,
        b_shape=list(b.shape(name)) if in_b else None,
        a_dtype=_type_name(a, name) if in_a else None,
        b_dtype=_type_name(b, name) if in_b else None,
        a_statistics=None if ours is None else statistics_of(ours),
        b_statistics=None if theirs is None else statistics_of(theirs),
    )
    if ours is None or theirs is None:
        return row
    if row.a_shape != row.b_shape:
        return replace(row, status="shape differs")
    # Also comparable in float64: every element type that is narrower, and two that differ.
    ours, theirs = ours.flatten().double(), theirs.flatten().double()
    sums = _Sums.of(ours, theirs)
    finite = math.isfinite(sums.first) and math.isfinite(sums.second)
    if is_parameter(name) and finite:
        overall.add(sums)
    moved.add(name, sums.change, sums.first)
    same = row.a_dtype == row.b_dtype and _equal(ours, theirs)
    status: Status = "same" if same else "changed"
    return replace(row, status=status, relative_change=sums.relative_change(), cosine=sums.cosine(), finite=finite)


def _type_name(network: OpenNetwork, name: str) -> str:
    return str(network.dtype(name)).removeprefix("torch.")


def _equal(first: Tensor, second: Tensor) -> bool:
    """Whether all values are equal; a NaN equals a NaN."""
    return bool(((first == second) | ((first != first) & (second != second))).all())


def _differences(a: OpenNetwork, b: OpenNetwork) -> list[Difference]:
    first, second = _flat(a.architecture.to_dict()), _flat(b.architecture.to_dict())
    # A stand-in for the classes of a network without a linear layer is no property of it.
    if not (a.found.has_head and b.found.has_head):
        first["num_classes"] = first["num_classes"] if a.found.has_head else None
        second["num_classes"] = second["num_classes"] if b.found.has_head else None
    keys = [*first, *(key for key in second if key not in first)]
    return [Difference(key, first.get(key), second.get(key)) for key in keys if first.get(key) != second.get(key)]


def _flat(plain: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in plain.items():
        flat |= {f"{key}.{inner}": each for inner, each in value.items()} if isinstance(value, dict) else {key: value}
    return flat
