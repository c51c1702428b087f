"""Which source tensors a plan reads, under canonical names, and how much of the source it uses."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from idsnn_cli.architecture import DECAY_LOGIT, Architecture
from idsnn_cli.errors import MappingError
from idsnn_cli.initializer import Entry, Plan, make_plan
from idsnn_cli.initializer.kernels import Kernel
from idsnn_cli.report.inspect.network import is_parameter
from idsnn_cli.report.inspect.treatment import source_inputs

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Origin:
    """The source tensors behind one target tensor, canonical: its ``source``, and what is ``folded`` into it in order.

    Of each folded convolution its kernel, and the gamma of the BatchNorm behind it, None without one.
    """

    source: str
    folded: tuple[tuple[str, str | None], ...] = ()

    def names(self) -> list[str]:
        return [name for kernel, gamma in self.folded for name in (kernel, gamma) if name is not None] + [self.source]


def origins(plan: Plan) -> dict[str, Origin]:
    """Target tensor -> what it is made from, for every tensor that is taken.

    A plan names a source's tensors by the source's own keys. The same plan between the same networks, with the blocks
    that it chose, made of canonical names says which those are. Raises :class:`MappingError` for a stored plan that
    this version would not make.
    """
    if plan.source is None:
        return {}
    stages = min(len(plan.source.depths), len(plan.target.depths))
    blocks = tuple(
        tuple(pair.source_block for pair in plan.blocks if pair.stage == stage and pair.source_block is not None)
        for stage in range(stages)
    )
    rules = replace(plan.rules.unscaled(), blocks=blocks, channels="loop")
    learnt = any(entry.target.endswith(DECAY_LOGIT) and entry.source is not None for entry in plan.entries)
    # A foreign source's learnt decays are none of the ANN that its description is.
    decays = [f"{act}.{DECAY_LOGIT}" for act in _neurons(plan.source)] if learnt else []
    twin = make_plan(plan.source, plan.target, {name: name for name in (*plan.source.tensors(), *decays)}, rules)
    pairs = [
        (entry, other) for entry, other in zip(plan.entries, twin.entries, strict=True) if entry.source is not None
    ]
    for entry, other in pairs:
        if not _alike(entry, other, plan):
            raise MappingError(
                f"the stored mapping makes {entry.target} in another way than its rules do",
                "Make the checkpoint again with this version of idsnn-cli.",
            )
    return {entry.target: _origin(other) for entry, other in pairs}


def _neurons(source: Architecture) -> list[str]:
    """Its layers of neurons, and those that a SEW network of its shape would have behind projections."""
    projections = (source.shortcut_convolution(*at) for at in source.blocks())
    behind = [conv.name.replace("shortcut.conv", "shortcut_act") for conv in projections if conv is not None]
    return [*source.neuron_layers(), *behind]


def _alike(entry: Entry, other: Entry, plan: Plan) -> bool:
    """Whether a stored entry is of the form of its ``other`` in canonical names, whatever channels it chose."""
    if (entry.shape, entry.source_shape, _form(entry)) != (other.shape, other.source_shape, _form(other)):
        return False
    if entry.columns is None or other.kernel is None or not other.kernel.before or plan.source is None:
        return True
    first = other.kernel.before[0]
    return plan.selections[entry.columns].of == plan.source.tensors()[first.weight][1] * first.groups


def _form(entry: Entry) -> Kernel | None:
    """How a kernel is formed, without the names of what it is formed from."""
    if entry.kernel is None:
        return None
    nameless = (replace(folded, weight="", gamma=None, variance=None) for folded in entry.kernel.before)
    return replace(entry.kernel, before=tuple(nameless))


def _origin(entry: Entry) -> Origin:
    before = entry.kernel.before if entry.kernel else ()
    assert entry.source is not None
    return Origin(entry.source, tuple((folded.weight, folded.gamma) for folded in before))


def block_of(name: str) -> str:
    """The block of a canonical tensor (``stages.1.0``), or ``stem``, ``final_norm``, ``head``, ``input``."""
    parts = name.split(".")
    return ".".join(parts[:3]) if parts[0] == "stages" else parts[0]


def layer_of(name: str) -> str:
    """The layer of a canonical tensor: a convolution together with its BatchNorm, by the convolution's name."""
    module = name.rpartition(".")[0]
    last = module.rpartition(".")[2]
    if last.startswith("norm") or last == "final_norm":
        return f"{module.rpartition('.')[0]}.conv{last[4:]}" if module != "final_norm" else module
    if ".attention." in name:
        return name.partition(".attention.")[0] + ".attention"
    return module


def block_sizes(shapes: Mapping[str, int]) -> dict[str, int]:
    """Values by block, of tensors with their sizes."""
    sizes: dict[str, int] = {}
    for name, size in shapes.items():
        sizes[block_of(name)] = sizes.get(block_of(name), 0) + size
    return sizes


@dataclass(frozen=True, slots=True)
class Reads:
    """What one entry reads of one source kernel: its ``rows`` and ``taps`` along each side, and of a row its columns.

    ``columns`` counts a kernel's inputs as if its ``groups`` were opened; None reads all.
    """

    rows: Sequence[int]
    columns: Sequence[int] | None = None
    taps: Sequence[int] | None = None
    groups: int = 1

    def mark(self, used: Tensor) -> None:
        """Set what is read in ``used``, bool, of the source's shape."""
        rows = torch.zeros(used.shape[0], dtype=torch.bool)
        rows[list(self.rows)] = True
        if used.dim() < 2:
            used |= rows
            return
        inside, out = used.shape[1], used.shape[0] // self.groups
        columns = torch.full((inside * self.groups,), self.columns is None)
        if self.columns is not None:
            columns[list(self.columns)] = True
        read = rows[:, None] & columns.view(self.groups, inside).repeat_interleave(out, 0)
        if used.dim() == 2:
            used |= read
            return
        taps = torch.full((used.shape[2],), self.taps is None)
        if self.taps is not None:
            taps[list(self.taps)] = True
        square = taps[:, None] & taps[None, :] if used.dim() == 4 else taps
        used |= read.view(*read.shape, *(1,) * square.dim()) & square


@dataclass(slots=True)
class Used:
    """Source values used: of the ``whole`` source, by target block and by target layer; source blocks by block.

    ``by_block`` counts only values of the block that the target block takes.
    """

    whole: int = 0
    by_block: dict[str, int] = field(default_factory=dict)
    by_layer: dict[str, int] = field(default_factory=dict)
    of_layer: dict[str, int] = field(default_factory=dict)
    by_source_block: dict[str, int] = field(default_factory=dict)


def used_values(plan: Plan, found: Mapping[str, Origin], takes: Mapping[str, str | None]) -> Used:
    """Count what ``plan`` reads, from the plan alone; ``takes`` leads from target blocks to the source's."""
    used = Used()
    if plan.source is None:
        return used
    shapes = plan.source.tensors()
    shapes |= {origin.source: () for origin in found.values() if origin.source.endswith(DECAY_LOGIT)}
    readers: dict[str, list[tuple[str, Reads]]] = {}
    for entry in plan.entries:
        if entry.target in found:
            for name, reads in _reads(entry, found[entry.target], shapes, plan):
                if is_parameter(name):
                    readers.setdefault(name, []).append((entry.target, reads))
    for name, all_reads in readers.items():
        shape, source_block = shapes[name], block_of(name)
        total = torch.zeros(shape, dtype=torch.bool)
        for block, inside in _grouped(all_reads, block_of):
            if takes.get(block) == source_block:
                _add(used.by_block, block, _count(shape, inside))
        for layer, inside in _grouped(all_reads, layer_of):
            _add(used.by_layer, layer, _count(shape, inside))
            _add(used.of_layer, layer, math.prod(shape))
        for _, reads in all_reads:
            reads.mark(total)
        count = int(total.sum())
        used.whole += count
        _add(used.by_source_block, source_block, count)
    return used


def _add(counts: dict[str, int], key: str, count: int) -> None:
    counts[key] = counts.get(key, 0) + count


def _grouped(reads: Sequence[tuple[str, Reads]], key: Callable[[str], str]) -> Iterable[tuple[str, list[Reads]]]:
    groups: dict[str, list[Reads]] = {}
    for target, each in reads:
        groups.setdefault(key(target), []).append(each)
    return groups.items()


def _count(shape: Shape, reads: Iterable[Reads]) -> int:
    mask = torch.zeros(shape, dtype=torch.bool)
    for each in reads:
        each.mark(mask)
    return int(mask.sum())


def _reads(entry: Entry, origin: Origin, shapes: Mapping[str, Shape], plan: Plan) -> Iterable[tuple[str, Reads]]:
    """Every source tensor that one entry reads, with what it reads of it."""
    shape = shapes[origin.source]
    rows = _chosen(entry.rows, shape[0] if shape else 1, entry.shape[0] if entry.shape else 1, plan)
    if len(shape) < 2 or len(entry.shape) not in (2, 4):
        yield origin.source, Reads(rows)
        return
    kernel = entry.kernel
    columns: Sequence[int] | None = _chosen(entry.columns, source_inputs(entry, plan), entry.shape[1], plan)
    if kernel is None:
        yield origin.source, Reads(rows, columns)
        return
    chain = [*(name for name, _ in origin.folded), origin.source]
    groups = [*(folded.groups for folded in kernel.before), kernel.groups]
    taps = _taps([shapes[name][-1] for name in chain], [folded.stride for folded in kernel.before], kernel.to)
    if kernel.resize == "area" and kernel.size > 1:
        taps = [None] * len(chain)
    # From the last convolution to the first: each reads the rows of the one before it that its own groups see.
    for place in reversed(range(len(chain))):
        inside, out = shapes[chain[place]][1], shapes[chain[place]][0] // groups[place]
        yield chain[place], Reads(rows, None if place else columns, taps[place], groups[place])
        if place:
            rows = [g * inside + c for g in sorted({row // out for row in rows}) for c in range(inside)]
            gamma = origin.folded[place - 1][1]
            if gamma is not None:
                yield gamma, Reads(rows)


def _chosen(place: int | None, have: int, want: int, plan: Plan) -> Sequence[int]:
    if place is None:
        return range(min(have, want))
    return sorted({channel for each in plan.selections[place].channels for channel in each})


def _taps(sizes: Sequence[int], strides: Sequence[int], to: int) -> list[Sequence[int] | None]:
    """Along one side, the taps of each of several convolutions in a row that reach a centre of ``to`` taps."""
    steps = [math.prod(strides[:place]) for place in range(len(sizes))]
    size = 1 + sum((n - 1) * step for n, step in zip(sizes, steps, strict=True))
    start = (size - to) // 2 if to < size else 0
    stop = start + to if to < size else size
    reach = [
        combination
        for combination in itertools.product(*map(range, sizes))
        if start <= sum(tap * step for tap, step in zip(combination, steps, strict=True)) < stop
    ]
    return [sorted({combination[place] for combination in reach}) for place in range(len(sizes))]
