"""Which source tensors each entry of a plan reads, under canonical names and with their shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from idsnn_cli.errors import MappingError
from idsnn_cli.initializer import Entry, Plan, make_plan
from idsnn_cli.initializer.kernels import Kernel

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
    twin = make_plan(plan.source, plan.target, {name: name for name in plan.source.tensors()}, rules)
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
