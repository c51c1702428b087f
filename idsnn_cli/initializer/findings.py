"""What can be said and found before a plan is made: what rules need to know of a source, and what they would make."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from idsnn_cli.architecture import QCFS, Architecture
from idsnn_cli.errors import MappingError, UsageError
from idsnn_cli.initializer.activations import activation_spaces
from idsnn_cli.initializer.blocks import choose_blocks
from idsnn_cli.initializer.channel_facts import channel_scores, correlations
from idsnn_cli.initializer.conversion import apart, scaled_plan
from idsnn_cli.initializer.counterparts import make_plan, planned
from idsnn_cli.initializer.entries import Findings, check_rules
from idsnn_cli.initializer.thresholds import thresholds
from idsnn_cli.models import Model, Network
from idsnn_cli.rulebook import NONE
from idsnn_cli.rules import BlockLists, Rules

Say = Callable[[str], None]


def find(
    rules: Rules,
    source: Network,
    target: Architecture,
    *,
    running: Callable[[], Model] | None,
    batches: Sequence[tuple[Tensor, Tensor]] | None,
    say: Say | None = None,
) -> Findings:
    """What ``rules`` need to know of ``source`` to make ``target`` of it, and nothing else.

    ``running`` gives the source as a network that runs, and is called once at most, for rules that ask for what is seen
    then (correlations where the target has fewer channels); ``batches`` are images (N, C, H, W) in 0 to 1 and labels
    (N,) on that network's device, labels being those of the source's classes. Activations are those of the whole
    source, also where blocks are left out.
    ``say`` is given lines of progress. Raises :class:`UsageError`, naming the rule, where images, a head or a fitting
    source are missing.
    """
    check_rules(rules, source.architecture, target, has_head=source.has_head)
    asked = frozenset[str]().union(*(rule.asks for rule in rules.used()))
    scores: Mapping[str, Sequence[float]] = {}
    if "scores" in asked:
        scores = channel_scores(source.architecture, source.names, source.read)
    learnt = {} if rules.convert == NONE else _learnt(source)
    merging = merges(rules, source.architecture, target, source.names)
    looking = [rule for rule in rules.used() if rule.searches or "thresholds" in rule.asks or (rule.merges and merging)]
    if not looking:
        return Findings(scores=scores, learnt=learnt)
    if running is None or not batches:
        raise UsageError(f"{looking[0]} has to run the source on images", "Give the data set, or another rule.")
    model, images = running(), [each for each, _ in batches]
    search, blocks = rules.searched_blocks(), None
    if search is not None:
        blocks = search(model=model, depths=target.depths, batches=batches, say=say)
    alike: Mapping[str, Tensor] = {}
    if merging:
        lists = choose_blocks(source.architecture, target, rules, blocks)
        alike = correlations(model, images, _used(source.architecture, lists))
    limits = thresholds(model, images, rules.percentile) if "thresholds" in asked else {}
    return Findings(blocks, scores, alike, limits, learnt)


def looks_at_images(rules: Rules, source: Network, target: Architecture) -> bool:
    """Whether ``rules`` have to run a network on images to make ``target`` of ``source``.

    Raises :class:`MappingError` as :func:`make_plan` does, where merging is what decides it.
    """
    return rules.always_looks or merges(rules, source.architecture, target, source.names)


def count_values(source: Architecture, target: Architecture, names: Mapping[str, str], rules: Rules) -> dict[str, int]:
    """How many of the target's values would end as each action, found without running the source.

    Raises :class:`MappingError` as :func:`make_plan` does, and :class:`UsageError` for a source or a target that a rule
    refuses.
    """
    check_rules(rules, source, target, has_head="head.weight" in names)
    # Any lambda makes as many values; nothing scales what comes in. What is learnt apart will differ.
    spaces = source.streams()
    scaled = spaces.sizes.keys() - {"input"}
    different = {space: math.e + place for place, space in enumerate(spaces.sizes)}
    learnt = {space: different[spaces.linked(space)] for space in scaled}
    if apart(source):
        learnt = {act: math.e + place for place, act in enumerate(source.activation_layers())}
    quantised = rules.convert != NONE and isinstance(source.activation, QCFS)
    found = Findings(thresholds=dict.fromkeys(scaled, math.e), learnt=learnt if quantised else {})
    plan = make_plan(source, target, names, rules.without_images(), found)
    if rules.convert != NONE:
        plan = scaled_plan(plan, dict.fromkeys(target.streams().sizes.keys() - {"input"}, math.e))
    return plan.counts()


def merges(rules: Rules, source: Architecture, target: Architecture, names: Mapping[str, str]) -> bool:
    """Whether ``rules`` may merge channels, and would: the target has fewer somewhere.

    Raises :class:`MappingError` as :func:`make_plan` does.
    """
    if not rules.may_merge:
        return False
    planner, _ = planned(source, target, names, rules.unscaled().without_images(), Findings(), 0)
    return bool(planner.selector.narrowed)


def _learnt(source: Network) -> dict[str, float]:
    """lambda of each channel space of a QCFS source, or of each activation where those learnt their own; empty for
    another.

    Raises :class:`MappingError` for one of 0, and where a space has several: each channel its own, or each of the
    activations that an identity shortcut joins.
    """
    architecture = source.architecture
    if not isinstance(architecture.activation, QCFS):
        return {}
    found: dict[str, float] = {}
    each = apart(architecture)
    spaces = {act: act if each else space for act, space in activation_spaces(architecture).items()}
    for name, owner in architecture.activations():
        limit = source.read(source.names[f"{owner}.limit"])
        before = found.setdefault(spaces[name], float(limit.flatten()[0]))
        if bool((limit != before).any()):
            raise MappingError(
                f"the source learnt a threshold for each channel or activation, and {owner}.limit is not that of all "
                f"whose spikes are added to its own",
                "Convert by another rule, such as convert: weight-normalisation, or use a source with one threshold "
                "for each residual stream.",
            )
        found[spaces[name]] = float(limit.flatten()[0])
        if not 0 < found[spaces[name]] < math.inf:
            raise MappingError(
                f"{owner}.limit of the source is {found[spaces[name]]:g}, and no spike can stand for that",
                "Use another source: its training drove a layer's range below 0.",
            )
    return found


def _used(source: Architecture, lists: BlockLists) -> set[str]:
    """The channel spaces that a target made of these blocks can ask for: streams, stems, those blocks' own, and what
    other blocks hand to them, as blocks without shortcuts do.
    """
    inner = tuple(f"stages.{stage}.{block}." for stage, chosen in enumerate(lists) for block in chosen)
    spaces = source.streams()
    convolutions = [
        conv for stage, chosen in enumerate(lists) for b in chosen for conv in source.block_convolutions(stage, b)
    ]
    handed = {spaces.reads[conv.name] for conv in convolutions} | {spaces.features}
    return handed | {space for space in spaces.sizes if space.count(".") < 3 or space.startswith(inner)}
