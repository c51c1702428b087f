"""What rules need to know of a source beyond its shapes: figures of its weights and of its activations."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from idsnn_cli.architecture import Architecture
from idsnn_cli.errors import MappingError, UsageError
from idsnn_cli.initializer.blocks import choose_blocks
from idsnn_cli.initializer.checks import check_rules
from idsnn_cli.initializer.correlations import correlations
from idsnn_cli.initializer.facts import Findings
from idsnn_cli.initializer.greedy import Say, greedy_blocks
from idsnn_cli.initializer.importance import channel_scores
from idsnn_cli.initializer.planning import merges
from idsnn_cli.initializer.spaces import activation_spaces, channel_spaces
from idsnn_cli.initializer.thresholds import thresholds
from idsnn_cli.models import Network, ResNet
from idsnn_cli.rules import BlockLists, Rules


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
    (where the target has fewer channels) and ``threshold``; ``batches`` are images (N, C, H, W) in 0 to 1 and labels
    (N,) on that network's device, labels being those of the source's classes. Activations are those of the whole
    source, also where blocks are left out.
    ``say`` is given lines of progress. Raises :class:`UsageError`, naming the rule, where images, a head or a fitting
    source are missing.
    """
    check_rules(rules, source.architecture, target, has_head=source.has_head)
    scores: Mapping[str, Sequence[float]] = {}
    if rules.channels == "importance":
        scores = channel_scores(source.architecture, source.names, source.read)
    learnt = {} if rules.convert == "none" else _learnt(source)
    merging = merges(rules, source.architecture, target, source.names)
    if not merging and rules.blocks != "greedy" and rules.rescale != "threshold":
        return Findings(scores=scores, learnt=learnt)
    if running is None or not batches:
        raise UsageError(
            f"{_looking(rules, merging)} has to run the source on images", "Give the data set, or another rule."
        )
    model, images = running(), [each for each, _ in batches]
    blocks = None
    if rules.blocks == "greedy":
        blocks = greedy_blocks(model, target.depths, batches, say)
    alike: Mapping[str, Tensor] = {}
    if merging:
        lists = choose_blocks(source.architecture, target, rules, blocks)
        alike = correlations(model, images, _used(source.architecture, lists))
    limits = thresholds(model, images, rules.percentile) if rules.rescale == "threshold" else {}
    return Findings(blocks, scores, alike, limits, learnt)


def looks_at_images(rules: Rules, source: Network, target: Architecture) -> bool:
    """Whether ``rules`` have to run a network on images to make ``target`` of ``source``.

    Raises :class:`MappingError` as :func:`make_plan` does, where ``merge`` is what decides it.
    """
    return rules.always_looks or merges(rules, source.architecture, target, source.names)


def _looking(rules: Rules, merging: bool) -> str:
    """The first rule that looks at activations, as a recipe writes it."""
    if rules.blocks == "greedy":
        return "blocks: greedy"
    return "channels: merge" if merging else "rescale: threshold"


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
