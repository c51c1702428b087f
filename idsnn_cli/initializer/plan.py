"""The plan: for every target tensor, where its values come from. Plain data that can be printed, stored and applied."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from idsnn_cli.architecture import Architecture, read_description
from idsnn_cli.errors import CheckpointError, MappingError, UsageError
from idsnn_cli.initializer.kernels import Kernel
from idsnn_cli.initializer.selections import Selection
from idsnn_cli.rules import Rules

Action = Literal["copied", "interpolated", "random", "constant"]
NORM_PARTS = ("weight", "bias", "running_mean", "running_var")


@dataclass(frozen=True, slots=True)
class Entry:
    """One target tensor.

    ``source`` is the source's own key and ``source_shape`` its shape. ``kernel`` says how a kernel of another form is
    brought to the target's. ``rows`` and ``columns`` are the places in the plan's ``selections`` of the channels along
    axes 0 and 1; without one, axes whose sizes differ are looped over (``c mod C``). Rows that are averages of several
    source channels are weighted by the BatchNorm behind them, whose gamma and variance are the source keys ``norm``.
    ``divide`` divides columns by how often their source channel is there; ``noise`` is added to repeated rows, in
    standard deviations of the kernel. ``scale`` multiplies the values. ``reason`` says why a tensor is random or
    constant. ``picks`` holds, for a projection that only selects, the input channel of each output channel, -1 where
    the target's own start is kept.
    """

    target: str
    shape: tuple[int, ...]
    action: Action
    source: str | None = None
    source_shape: tuple[int, ...] | None = None
    scale: float = 1.0
    reason: str | None = None
    rows: int | None = None
    columns: int | None = None
    kernel: Kernel | None = None
    norm: tuple[str, str] | None = None
    divide: bool = False
    noise: float = 0.0
    picks: tuple[int, ...] | None = None

    def source_keys(self) -> Iterator[str]:
        """Every source key that its values are made from."""
        if self.source is None:
            return
        yield self.source
        yield from self.norm or ()
        for folded in self.kernel.before if self.kernel else ():
            yield from folded.keys()


@dataclass(frozen=True, slots=True)
class BlockPair:
    """Target block ``stage.block`` and the source block it takes, None where it stays random.

    ``note`` names source tensors of that block that have no place in the target's, None where there are none.
    """

    stage: int
    block: int
    source_block: int | None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole mapping between two architectures; ``source`` is None where the target keeps its random start.

    ``selections`` holds every choice of channels that entries refer to by its place.
    """

    source: Architecture | None
    target: Architecture
    rules: Rules
    blocks: tuple[BlockPair, ...]
    entries: tuple[Entry, ...]
    selections: tuple[Selection, ...] = ()

    def reads(self) -> list[str]:
        """The source keys that applying the plan reads, each once, sorted."""
        return sorted({key for entry in self.entries for key in entry.source_keys()})

    def counts(self) -> dict[str, int]:
        """How many target values end as each action."""
        totals = {"copied": 0, "interpolated": 0, "random": 0, "constant": 0}
        for entry in self.entries:
            totals[entry.action] += math.prod(entry.shape)
        return totals

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; :meth:`from_dict` gives an equal plan back."""
        return {
            "source": None if self.source is None else self.source.to_dict(),
            "target": self.target.to_dict(),
            "rules": self.rules.to_dict(),
            "blocks": [{"source_block": None, **_given(pair)} for pair in self.blocks],
            "tensors": [_given(entry) for entry in self.entries],
        } | ({"selections": [each.to_dict() for each in self.selections]} if self.selections else {})

    @staticmethod
    def from_dict(plain: Mapping[str, Any]) -> Plan:
        """Raises :class:`MappingError` where it is not what :meth:`to_dict` gives."""
        try:
            return Plan(
                source=None if plain["source"] is None else read_description(plain["source"]),
                target=read_description(plain["target"]),
                rules=Rules.from_dict(plain["rules"]),
                blocks=tuple(BlockPair(**pair) for pair in plain["blocks"]),
                entries=tuple(_entry(dict(entry)) for entry in plain["tensors"]),
                selections=tuple(Selection.from_dict(each) for each in plain.get("selections", ())),
            )
        except (KeyError, TypeError, ValueError, CheckpointError, UsageError) as error:
            raise MappingError(
                f"the mapping stored in the checkpoint cannot be read: {error}",
                "Make the checkpoint again with this version of idsnn-cli.",
            ) from None


def _given(part: Entry | BlockPair) -> dict[str, Any]:
    """What is not at its default; ``scale`` always."""
    plain = {key: value for key, value in asdict(part).items() if value is not None}
    if isinstance(part, Entry):
        plain |= {"kernel": part.kernel.to_dict()} if part.kernel else {}
        for key in ("divide", "noise"):
            if not plain[key]:
                del plain[key]
    return plain


def _entry(plain: dict[str, Any]) -> Entry:
    """An entry from JSON, whose shapes are lists."""
    for key in ("shape", "source_shape", "norm", "picks"):
        if key in plain:
            plain[key] = tuple(plain[key])
    if "kernel" in plain:
        plain["kernel"] = Kernel.from_dict(plain["kernel"])
    return Entry(**plain)


def random_plan(target: Architecture) -> Plan:
    """The baseline's plan (``init.rule: none``): nothing is taken from anywhere."""
    entries = []
    for name, shape in target.tensors().items():
        constant = name.startswith("input.") or name.endswith("num_batches_tracked")
        reason = "the data's" if name.startswith("input.") else "no batch has been seen yet"
        action: Action = "constant" if constant else "random"
        entries.append(Entry(name, shape, action, reason=reason if constant else "the rule none"))
    pairs = tuple(BlockPair(stage, block, None) for stage, block in target.blocks())
    return Plan(None, target, Rules(), pairs, tuple(entries))
