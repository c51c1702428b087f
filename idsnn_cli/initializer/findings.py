"""What rules need to know of a source beyond its shapes: figures of its weights and of its activations."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from idsnn_cli.architecture import Architecture
from idsnn_cli.errors import MappingError, UsageError
from idsnn_cli.initializer.blocks import choose_blocks
from idsnn_cli.initializer.converting import activation_spaces, require_convertible
from idsnn_cli.initializer.correlations import correlations
from idsnn_cli.initializer.greedy import Say, greedy_blocks
from idsnn_cli.initializer.importance import channel_scores
from idsnn_cli.initializer.spaces import channel_spaces
from idsnn_cli.initializer.thresholds import thresholds
from idsnn_cli.models import Network, ResNet
from idsnn_cli.rules import BlockLists, Rules


@dataclass(frozen=True, slots=True)
class Findings:
    """Facts by the source's channel spaces (:mod:`idsnn_cli.initializer.spaces`); what no rule asks for is left out.

    ``blocks``: the blocks that the rule ``greedy`` keeps, by stage. ``scores``: how much each channel counts, for
    ``importance``. ``correlations``: (C, C) of the channels' activations, for ``merge``. ``thresholds``: lambda of each
    space, for ``threshold``. ``learnt``: lambda of each space of a QCFS source, for ``convert``.
    """

    blocks: BlockLists | None = None
    scores: Mapping[str, Sequence[float]] = field(default_factory=dict)
    correlations: Mapping[str, Tensor] = field(default_factory=dict)
    thresholds: Mapping[str, float] = field(default_factory=dict)
    learnt: Mapping[str, float] = field(default_factory=dict)


def find(
    rules: Rules,
    source: Network,
    target: Architecture,
    *,
    running: Callable[[], ResNet] | None,
    batches: Sequence[tuple[Tensor, Tensor]] | None,
    say: Say | None = None,
) -> Findings:
    """What ``rules`` need to know of ``source`` to make ``target`` of it, and nothing else.

    ``running`` gives the source as a network that runs, and is called once at most, for the rules ``greedy``, ``merge``
    and ``threshold``; ``batches`` are images (N, C, H, W) in 0 to 1 and labels (N,) on that network's device, labels
    being those of the source's classes. Activations are those of the whole source, also where blocks are left out.
    ``say`` is given lines of progress. Raises :class:`UsageError`, naming the rule, where images, a head or a fitting
    source are missing.
    """
    check_rules(rules, source.architecture, target, has_head=source.has_head)
    scores: Mapping[str, Sequence[float]] = {}
    if rules.channels == "importance":
        scores = channel_scores(source.architecture, source.names, source.read)
    learnt = {} if rules.convert == "none" else _learnt(source)
    if not rules.looks_at_source:
        return Findings(scores=scores, learnt=learnt)
    if running is None or not batches:
        raise UsageError(f"{_looking(rules)} has to run the source on images", "Give the data set, or another rule.")
    model, images = running(), [each for each, _ in batches]
    blocks = None
    if rules.blocks == "greedy":
        blocks = greedy_blocks(model, target.depths, batches, say)
    alike: Mapping[str, Tensor] = {}
    if rules.channels == "merge":
        lists = choose_blocks(source.architecture, target, rules, blocks)
        alike = correlations(model, images, _used(source.architecture, lists))
    limits = thresholds(model, images, rules.percentile) if rules.rescale == "threshold" else {}
    return Findings(blocks, scores, alike, limits, learnt)


def _looking(rules: Rules) -> str:
    """The first rule that looks at activations, as a recipe writes it."""
    if rules.blocks == "greedy":
        return "blocks: greedy"
    return "channels: merge" if rules.channels == "merge" else "rescale: threshold"


def check_rules(rules: Rules, source: Architecture, target: Architecture, *, has_head: bool) -> None:
    """Raise :class:`UsageError` where ``rules`` do not fit ``source``: what can be said before it is trained, or runs.

    ``has_head`` says whether the source has its linear layer.
    """
    if rules.blocks == "greedy":
        if not has_head:
            raise UsageError("blocks: greedy needs the source's linear layer, which it lacks", "Use another rule.")
        classes = (source.num_classes, target.num_classes)
        if classes[0] != classes[1]:
            raise UsageError(
                f"blocks: greedy scores the source on the target's labels, but it has {classes[0]} classes, "
                f"the target {classes[1]}",
                "Use another rule, or a source that was trained on the target's data.",
            )
    if source.kind == "spiking":
        for rule, asked in (
            ("blocks: greedy", rules.blocks == "greedy"),
            ("rescale: threshold", rules.rescale == "threshold"),
            (f"convert: {rules.convert}", rules.convert != "none"),
        ):
            if asked:
                raise UsageError(f"{rule} is for an ANN source, but this one is spiking", "Use another rule.")
    if rules.rescale == "threshold" and target.kind != "spiking":
        raise UsageError("rescale: threshold is for a spiking target", "Use rescale: none.")
    if rules.convert != "none":
        require_convertible(target)
    if rules.convert == "learnt-thresholds" and source.activation != "qcfs":
        raise UsageError(
            "convert: learnt-thresholds needs a source with QCFS activations, which this one does not have",
            "Train one with teacher.activation=qcfs, or use convert: weight-normalisation.",
        )


def _learnt(source: Network) -> dict[str, float]:
    """lambda of each channel space of a QCFS source; empty for another. Raises :class:`MappingError` for one of 0."""
    architecture = source.architecture
    if architecture.activation != "qcfs":
        return {}
    found = {}
    spaces = activation_spaces(architecture)
    for name, owner in architecture.activations():
        found[spaces[name]] = float(source.read(source.names[f"{owner}.limit"]))
        if not 0 < found[spaces[name]] < math.inf:
            raise MappingError(
                f"{owner}.limit of the source is {found[spaces[name]]:g}, and no spike can stand for that",
                "Use another source: its training drove a layer's range below 0.",
            )
    return found


def _used(source: Architecture, lists: BlockLists) -> set[str]:
    """The channel spaces that a target made of these blocks can ask for: streams, stems, and those blocks' own."""
    inner = tuple(f"stages.{stage}.{block}." for stage, chosen in enumerate(lists) for block in chosen)
    return {space for space in channel_spaces(source).sizes if space.count(".") < 3 or space.startswith(inner)}
