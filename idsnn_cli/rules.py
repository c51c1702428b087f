"""The choices that a mapping is made by, as data: what a recipe names and the initializer follows."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

from idsnn_cli.errors import UsageError

BlockRule = Literal["first", "proportional", "last", "ends", "greedy"]
ChannelRule = Literal["loop", "uniform", "importance", "merge", "random"]
Multiplicity = Literal["ignore", "divide"]
KernelRule = Literal["centre", "area"]
BottleneckRule = Literal["fold", "drop"]
ShortcutRule = Literal["copy", "random"]
BareShortcutRule = Literal["random", "select"]
HeadRule = Literal["random", "copy", "match", "map"]
Rescale = Literal["none", "variance", "threshold"]
Convert = Literal["none", "weight-normalisation", "threshold-balancing", "learnt-thresholds"]
BlockLists = tuple[tuple[int, ...], ...]
# Which percentile lambda is where none is given: the largest but for one activation in a thousand.
PERCENTILE = 99.9

_CHOICES: dict[str, tuple[str, ...]] = {
    "blocks": get_args(BlockRule),
    "channels": get_args(ChannelRule),
    "multiplicity": get_args(Multiplicity),
    "kernels": get_args(KernelRule),
    "bottleneck": get_args(BottleneckRule),
    "shortcut": get_args(ShortcutRule),
    "bare_shortcut": get_args(BareShortcutRule),
    "head": get_args(HeadRule),
    "rescale": get_args(Rescale),
    "convert": get_args(Convert),
}


@dataclass(frozen=True, slots=True)
class Rules:
    """How a source network's tensors become a target's (Section 3.2.2); the defaults are the paper's.

    ``blocks``: which source block each target block takes, by a rule or as one list of source blocks for each stage.
    ``channels``: which source channels make up a target's channels, one choice for each residual stream and each inner
    width; ``loop`` is the paper's, and only it does not agree with what option-A shortcuts carry where widths change.
    ``multiplicity``: ``divide`` divides what reads a repeated channel by how often it is there (Net2Net), so that
    growth keeps the function; ``noise``, relative to a kernel's standard deviation, is added to repeated channels.
    ``kernels``: kernels of another size are cut or padded around their ``centre``, or resized by ``area``.
    ``bottleneck``: for a basic block, a bottleneck's 1x1 convolutions are folded in (``fold``) or left out (``drop``).
    ``shortcut``: take projections or leave them random (the authors' code leaves them); ``bare_shortcut``: a projection
    where the source has none starts random or as a selection of channels. ``head``: leave the linear layer random (the
    paper), copy it, copy it only where there are as many classes (``match``), or take the source class that
    ``class_map`` names for each target class (None: random). ``rescale``: ``variance`` multiplies each kernel by sqrt(O
    k^2 / (O' k'^2)) (the authors' code, off by default), ``threshold`` balances gamma and beta by v_threshold / lambda,
    lambda the ``percentile`` of the source's activation there. ``convert``: conversion without training, see
    :mod:`idsnn_cli.initializer.converting`: all weights are scaled so that spike rates times lambda are the
    activations, with lambda the ``percentile`` of the ANN's activations (``weight-normalisation``), of the spiking
    network's own input currents (``threshold-balancing``), or what a QCFS source learnt (``learnt-thresholds``).
    """

    blocks: BlockRule | BlockLists = "proportional"
    channels: ChannelRule = "loop"
    multiplicity: Multiplicity = "ignore"
    noise: float = 0.0
    kernels: KernelRule = "centre"
    bottleneck: BottleneckRule = "fold"
    shortcut: ShortcutRule = "copy"
    bare_shortcut: BareShortcutRule = "random"
    head: HeadRule = "random"
    class_map: tuple[int | None, ...] = ()
    rescale: Rescale = "none"
    convert: Convert = "none"
    percentile: float = PERCENTILE

    def __post_init__(self) -> None:
        for key, choices in _CHOICES.items():
            value = getattr(self, key)
            if key == "blocks" and isinstance(value, tuple):
                continue
            if value not in choices:
                raise UsageError(f"{key} is {value!r}", f"Give one of {', '.join(choices)}.")
        if not 0 <= self.noise < math.inf:
            raise UsageError(f"noise is {self.noise}", "Give a finite number of 0 or more.")
        if not 0 < self.percentile <= 100:
            raise UsageError(f"percentile is {self.percentile}", "Give a number above 0 and up to 100.")
        if self.percentile != PERCENTILE and not (self.rescale == "threshold" or self.converts_by_images):
            raise UsageError(
                f"percentile is read by neither rescale {self.rescale} nor convert {self.convert}", "Leave it out."
            )
        if self.convert != "none" and self.rescale != "none":
            raise UsageError(
                f"convert {self.convert} and rescale {self.rescale} would both scale the weights", "Give one of them."
            )
        mapped = len(self.class_map)
        if (self.head == "map") is not (mapped > 0):
            raise UsageError(
                f"head map and class_map go together, but head is {self.head} and {mapped} classes are mapped",
                "Give head: map together with class_map, one source class (or null) for each target class.",
            )

    @property
    def converts_by_images(self) -> bool:
        """Whether a conversion finds its lambdas on images."""
        return self.convert in ("weight-normalisation", "threshold-balancing")

    @property
    def always_looks(self) -> bool:
        """Whether a network has to run on images: the source before a plan is made, or what is made of it."""
        return self.blocks == "greedy" or self.rescale == "threshold" or self.converts_by_images

    @property
    def looks_at_activations(self) -> bool:
        """Whether a network may have to run on images; ``merge`` looks only where the target has fewer channels."""
        return self.always_looks or self.channels == "merge"

    def unscaled(self) -> Rules:
        """These rules without what multiplies the tensors that they make: neither ``rescale`` nor ``convert``."""
        return replace(self, rescale="none", convert="none", percentile=PERCENTILE)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, without what is at its default beyond the four rules that every plan names."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        kept = ("blocks", "shortcut", "head", "rescale")
        default = Rules()
        plain = {key: value for key, value in plain.items() if key in kept or value != getattr(default, key)}
        return {key: _lists(value) for key, value in plain.items()}

    @staticmethod
    def from_dict(plain: dict[str, Any]) -> Rules:
        """What :meth:`to_dict` gave. Raises :class:`UsageError` or :class:`TypeError` for anything else."""
        if not isinstance(plain, dict):
            raise TypeError(f"rules are {type(plain).__name__}")
        values = dict(plain)
        for key in ("blocks", "class_map"):
            if isinstance(values.get(key), list):
                values[key] = tuple(tuple(each) if isinstance(each, list) else each for each in values[key])
        rules = Rules(**values)
        blocks = rules.blocks if isinstance(rules.blocks, tuple) else ()
        if not all(isinstance(each, tuple) and all(_is_place(block) for block in each) for each in blocks):
            raise UsageError("blocks lists what is no block", "Give one list of source blocks for each stage.")
        if type(rules.noise) not in (int, float):
            raise TypeError("noise is not a number")
        if not isinstance(rules.class_map, tuple) or not all(c is None or _is_place(c) for c in rules.class_map):
            raise UsageError("class_map lists what is no class", "Give one source class, or null, for each.")
        return rules


def _is_place(value: Any) -> bool:
    return type(value) is int and value >= 0


def _lists(value: Any) -> Any:
    return [_lists(each) for each in value] if isinstance(value, tuple) else value


# What `rule: best` stands for, and the batches on which it re-estimates BatchNorm: of all rules that
# benchmarks/initialisation.py scored, those after which a student was best after three epochs (benchmarks/README.md).
# What was not scored stays the paper's, whose own rule is Rules() without re-estimation.
BEST = Rules(blocks="proportional", channels="merge", multiplicity="divide", bare_shortcut="select", head="match")
BEST_REESTIMATE = 20
