"""Conversion without training: an ANN's weights scaled so that spike rates times lambda are its activations.

lambda of a channel space is what one spike at every step stands for. A kernel is multiplied by the lambda of what it
reads, which turns rates back into activations, and the gamma and beta behind it by theta / lambda of what they write,
so that an activation of lambda is a current of theta. BatchNorm's statistics then see what they were made from and stay
as they are: in evaluation mode the mean current of every layer is theta / lambda times the ANN's sum, and not only
nearly so (statistics divided by lambda would meet an epsilon that is not). The linear layer is multiplied by the lambda
of the features, so that the mean logits are the ANN's. theta itself stays one number for the whole network: dividing a
layer's threshold by a factor and multiplying its gamma and beta by it give the same neuron.

Rates are such activations only as T grows: an integrate-and-fire neuron of T steps has T + 1 rates. That with the half
start and T = L gives the L levels of QCFS for steady currents, but for ties, for a spike needs U above theta.

An identity or option-A shortcut adds the spikes themselves to a current. They keep their worth only where both streams
have one lambda, which is why such streams share theirs, and where theta is 1.

In MS blocks it is a sum of currents that shortcuts pass on. Where the neurons that read it have gains, the sum is the
ANN's and each gain is theta / lambda; where they have none, what is added is multiplied by theta / the lambda that they
share.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from idsnn_cli import rulebook
from idsnn_cli.architecture import QCFS, START_SHIFT, Architecture, Convolution, Spaces, is_scale
from idsnn_cli.errors import MappingError, UsageError
from idsnn_cli.initializer.activations import activation_spaces
from idsnn_cli.initializer.limits import same_places
from idsnn_cli.initializer.plan import BlockPair, Entry, Plan
from idsnn_cli.models import Model, build

State = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Conversion:
    """``lambdas``: of each channel space of the target that fires. ``reference``: the ANN whose activations the spikes
    stand for, with the target's blocks and widths, in evaluation mode on the device of its weights.
    """

    lambdas: Mapping[str, float]
    reference: Model


def require_convertible(target: Architecture, source: Architecture | None = None) -> None:
    """Raise :class:`UsageError` for a target whose rates cannot stand for an ANN's activations, those of ``source``."""
    refusal = None
    if target.kind != "spiking":
        refusal = ("a spiking target", "Use convert: none.")
    elif target.membranes and not (source is not None and source.membranes):
        refusal = (
            "spiking blocks: an MS block's shortcut adds membranes, values of either sign, where this ANN's adds what "
            "a ReLU gave",
            "Use student.block=spiking, or train an ANN of such blocks first (pretrain.epochs=N "
            "pretrain.activation=qcfs).",
        )
    elif source is not None and source.membranes and not target.membranes:
        refusal = (
            "students of MS blocks where the source's blocks add what no activation has seen",
            "Use student.block=ms.",
        )
    elif target.spiking_block == "sew":
        refusal = ("spiking blocks: a SEW block's sum of spikes is no ReLU of a sum", "Use student.block=spiking.")
    elif target.amplitude == "channel":
        refusal = ("spikes that count 1, not a learnt amplitude", "Use student.amplitude=one.")
    elif target.learn_decay != "none":
        refusal = (
            "neurons of one decay, best 1 (integrate and fire): learnt decays cannot start there, and rates of neurons "
            "that forget stay below the activations",
            "Use student.learn_decay=none.",
        )
    elif target.hidden_layers():
        refusal = (
            "networks of one linear layer: what several read is not scaled",
            "Use one of a name (spiking-vgg16).",
        )
    elif target.coding == "frames":
        refusal = (
            "direct coding: frames of events differ from step to step, so that no rate is an activation",
            "Use convert: none.",
        )
    elif target.coding != "direct":
        refusal = ("direct coding: Poisson spikes are not the normalised image", "Use student.coding=direct.")
    elif (
        target.amplitude == "one"
        and target.neuron.v_threshold != 1
        and not target.membranes
        and any(target.passes_input(*at) for at in target.blocks())
    ):
        theta = target.neuron.v_threshold
        refusal = (
            f"v_threshold 1, not {theta:g}: identity shortcuts add spikes of 1 to currents in units of the threshold",
            "Use student.v_threshold=1; the scales do the balancing.",
        )
    if refusal is not None:
        raise UsageError(f"convert is for {refusal[0]}", refusal[1])


def convert(
    plan: Plan, state: State, batches: Sequence[Tensor], say: Callable[[str], None] | None = None
) -> tuple[Plan, State, Conversion]:
    """Scale ``state``, which ``plan`` made, by the plan's rule ``convert``; ``plan`` then says so.

    ``batches`` are images (N, C, H, W) in 0 to 1 on the device of ``state``, and may be empty for a rule that asks for
    none. ``plan.lambdas`` are what the activations of a QCFS source learnt. Raises :class:`UsageError`
    where images are missing or the target cannot be converted.
    """
    rules, target = plan.rules, plan.target
    require_convertible(target, plan.source)
    neuron = target.neuron
    if say is not None and (neuron.decay != 1 or neuron.reset != "soft"):
        say(
            f"convert: with decay {neuron.decay:g} and a {neuron.reset} reset rates stay below the activations that "
            "they stand for; student.decay=1 and student.reset=soft keep them"
        )
    if say is not None and any(entry.target == "head.weight" and entry.action == "random" for entry in plan.entries):
        say("convert: the linear layer is random, so the network guesses until it is trained; init.head=copy takes it")
    rule = rulebook.rule("convert", rules.convert)
    if "images" in rule.asks and not batches:
        raise UsageError(f"{rule} needs images", "Give the data set, or another rule.")
    reference = ann_twin(plan, state)
    facts = {"twin": reference, "images": batches, "percentile": rules.percentile, "learnt": plan.lambdas}
    if "student" in rule.asks:
        facts["student"] = _spiking(plan, state)
    lambdas: Mapping[str, float] = rule(**facts)
    factors = scales(target, lambdas)
    scaled = {name: value * factors[name] if name in factors else value for name, value in state.items()}
    return scaled_plan(plan, lambdas), scaled, Conversion(lambdas, reference)


def scaled_plan(plan: Plan, lambdas: Mapping[str, float]) -> Plan:
    """``plan`` with the scales that convert what it makes, of random tensors too."""
    factors = scales(plan.target, lambdas)
    entries = tuple(_scaled(entry, factors.get(entry.target, 1.0)) for entry in plan.entries)
    return replace(plan, entries=entries, lambdas=dict(lambdas))


def scales(target: Architecture, lambdas: Mapping[str, float]) -> dict[str, float]:
    """Target tensor -> the factor that converts it, where it is not 1; what has no lambda counts as 1.

    ``lambdas`` go by channel space, or by activation where each learnt its own (:func:`apart`). A spike that stands for
    one lambda becomes one of another by the scale of the shortcut that passes it, in a target whose shortcuts have one.
    """
    if target.membranes:
        return _scales_of_membranes(target, lambdas)
    spaces, theta = target.streams(), target.neuron.v_threshold
    acts = {conv.name: act for act, conv in target.activation_layers().items()}
    found: dict[str, float] = {}

    def of(space: str, act: str) -> float:
        return lambdas.get(act, lambdas.get(space, 1.0))

    def convert_one(conv: Convolution, into: float, out: float) -> None:
        found[f"{conv.name}.weight"] = into
        found.update(dict.fromkeys((f"{conv.norm}.weight", f"{conv.norm}.bias"), theta / out))

    stream = 1.0
    for conv in target.stem_convolutions():
        out = of(spaces.writes[conv.name], acts.get(conv.name, ""))
        convert_one(conv, stream, out)
        stream = out
    for stage, block in target.blocks():
        into, before = stream, stream
        for conv in target.block_convolutions(stage, block):
            stream = of(spaces.writes[conv.name], acts.get(conv.name, ""))
            convert_one(conv, into, stream)
            into = stream
        projection = target.shortcut_convolution(stage, block)
        if projection is not None:
            convert_one(projection, before, stream)
        elif target.scaled_shortcuts and target.passes_input(stage, block):
            found[f"stages.{stage}.{block}.shortcut.amplitude.weight"] = theta * before / stream
    found["head.weight"] = stream
    return {name: factor for name, factor in found.items() if factor != 1.0}


def _scales_of_membranes(target: Architecture, lambdas: Mapping[str, float]) -> dict[str, float]:
    """:func:`scales` of blocks that add membranes: ``worth`` is what a current of 1 in a stream stands for."""
    spaces, theta = target.streams(), target.neuron.v_threshold
    found: dict[str, float] = {}

    def of(act: str, space: str) -> float:
        return lambdas.get(act, lambdas.get(space, 1.0))

    def write(conv: Convolution, worth: float) -> None:
        found.update(dict.fromkeys((f"{conv.norm}.weight", f"{conv.norm}.bias"), 1 / worth))

    def worth_of(act: str, space: str) -> float:
        """Also says by which gain its reader ``act`` makes currents of theta of it."""
        gain = target.gain_of(act)
        if gain is None:
            return of(act, space) / theta
        found[gain] = theta / of(act, space)
        return 1.0

    stem = target.stem_convolution()
    blocks = list(target.blocks())
    readers = [f"stages.{stage}.{block}.act0" for stage, block in blocks] + ["final_act"]
    space = spaces.writes[stem.name]
    worth = worth_of(readers[0], space)
    write(stem, worth)
    for (stage, block), reader, following in zip(blocks, readers, readers[1:], strict=False):
        convolutions = target.block_convolutions(stage, block)
        fired, before = of(reader, space), worth
        for i, conv in enumerate(convolutions[:-1], 1):
            found[f"{conv.name}.weight"] = fired
            fired = of(f"stages.{stage}.{block}.act{i}", spaces.writes[conv.name])
            write(conv, fired / theta)
        found[f"{convolutions[-1].name}.weight"] = fired
        space = spaces.writes[convolutions[-1].name]
        worth = worth_of(following, space)
        write(convolutions[-1], worth)
        projection = target.shortcut_convolution(stage, block)
        if projection is not None:
            found[f"{projection.name}.weight"] = before
            write(projection, worth)
    found["head.weight"] = of("final_act", space)
    return {name: factor for name, factor in found.items() if factor != 1.0}


def apart(source: Architecture) -> bool:
    """Whether each activation of a QCFS network learnt a lambda of its own, also along identity shortcuts."""
    return isinstance(source.activation, QCFS) and source.activation.limits == "each"


def ann_twin(plan: Plan, state: Mapping[str, Tensor]) -> Model:
    """The ANN with the target's blocks and the tensors of ``state``, its activations those of the plan's source."""
    source = plan.source
    quantised = source is not None and isinstance(source.activation, QCFS)
    description = plan.target.changed(
        kind="ann",
        activation="qcfs" if quantised else "relu",
        levels=source.levels if source is not None and quantised else 0,
        **({"membranes": True} if plan.target.membranes else {}),
        **({"limits": "each"} if source is not None and apart(source) else {}),
    )
    tensors = {name: value for name, value in state.items() if not (is_scale(name) or name.endswith(f".{START_SHIFT}"))}
    if quantised:
        like = state["head.weight"]
        for act, space in activation_spaces(description).items():
            name = f"{act}.limit"
            if name in description.tensors():
                value = plan.lambdas.get(act, plan.lambdas.get(space, 1.0))
                tensors[name] = torch.tensor(value, dtype=like.dtype, device=like.device)
    return _filled(description, tensors)


def learnt_lambdas(made_of: Mapping[str, set[str]], ours: Spaces, learnt: Mapping[str, float]) -> dict[str, float]:
    """lambda of each target space of those that a QCFS source learnt, by the source's spaces.

    Raises :class:`MappingError` where a target's identities join what has several lambdas in the source, whatever rule
    converts it: the ANN that the student stands for could not have them either.
    """
    found: dict[str, dict[str, float]] = {}
    for space, sources in made_of.items():
        root = found.setdefault(ours.linked(space), {})
        root |= {source: learnt[source] for source in sources if source in learnt}
    for stream, values in found.items():
        if len(set(values.values())) > 1:
            raise MappingError(
                f"identity shortcuts make one stream of the target's {stream}, but the source learns a lambda for each "
                f"of {', '.join(values)}",
                "Use the source's kind of shortcut (student.shortcut), or a ReLU source with another rule of convert.",
            )
    # Also of what is made of nothing, where an identity carries what has a lambda into it.
    joined = {root: next(iter(values.values())) for root, values in found.items() if values}
    return {space: joined[ours.linked(space)] for space in ours.sizes if ours.linked(space) in joined}


def lambdas_apart(target: Architecture, pairs: Sequence[BlockPair], learnt: Mapping[str, float]) -> dict[str, float]:
    """lambda of each activation of the target, of those that each activation of the source learnt.

    Raises :class:`MappingError` for a target whose shortcuts cannot turn spikes of one worth into those of another.
    """
    found = {act: learnt[theirs] for act, theirs in same_places(target, pairs).items() if theirs in learnt}
    if not (target.scaled_shortcuts or target.gains) and not _joins_equals(target, found):
        raise MappingError(
            "the source learnt a threshold for each activation, and the target's identity shortcuts pass on what they "
            "get as it is, to be added to what counts by another",
            "Give the student thresholds of its own (student.threshold=channel, or layer), or use a source with one "
            "threshold for each residual stream.",
        )
    return found


def _joins_equals(target: Architecture, lambdas: Mapping[str, float]) -> bool:
    """Whether shortcuts that pass something on add it to what is of the same worth."""
    if target.membranes:
        owners = target.changed(kind="ann", activation="qcfs", levels=1, membranes=True).activations()
        return all(lambdas.get(act, 1.0) == lambdas.get(owner, 1.0) for act, owner in owners)
    last = {(conv.stage, conv.block): act for act, conv in target.activation_layers().items()}
    stream = lambdas.get(last.get((None, None), ""), 1.0)
    for at in target.blocks():
        out = lambdas.get(last.get(at, ""), 1.0)
        if target.passes_input(*at) and out != stream:
            return False
        stream = out
    return True


def _spiking(plan: Plan, state: Mapping[str, Tensor]) -> Model:
    return _filled(plan.target, {name: value.clone() for name, value in state.items()})


def _filled(architecture: Architecture, tensors: Mapping[str, Tensor]) -> Model:
    model = build(architecture, 0)
    model.load_state_dict(dict(tensors), assign=True)
    return model.requires_grad_(False).eval()


def _scaled(entry: Entry, factor: float) -> Entry:
    if factor == 1.0:
        return entry
    action = entry.action if entry.source is None else "interpolated"
    return replace(entry, scale=entry.scale * factor, action=action)
