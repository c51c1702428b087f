"""Which ResNets can be built, said of their traits as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from idsnn_cli.architecture.parts import (
    LEAST_LEARNT_DECAY,
    SPIKING_TRAITS,
    Activation,
    Amplitude,
    Coding,
    Join,
    Kind,
    LearnDecay,
    LearnStart,
    Limits,
    Neuron,
    Reset,
    ResetGradient,
    SpikingBlock,
    Start,
)
from idsnn_cli.errors import UsageError
from idsnn_cli.networks.resnet.attention import ATTENTIONS
from idsnn_cli.networks.resnet.blocks import BLOCKS, SHORTCUTS, PaddedIdentity
from idsnn_cli.networks.resnet.stems import POOLS, STEMS, Stem
from idsnn_cli.registry import names

Traits = Mapping[str, Any]
# What nobody builds, but a damaged file may claim: it must not take hours, or all memory, to find that out.
_MOST, _MOST_BLOCKS = 2**31 - 1, 4_000
_LARGEST = 1e30  # with room to multiply within float32
TUPLES = ("depths", "widths", "inner_widths", "stem_widths", "attention_sizes")
# Traits that a spiking network cannot have, with their usual values.
ANN_TRAITS: dict[str, Any] = {
    "groups": 1,
    "inner_widths": (),
    "bottleneck_stride": "3x3",
    "stem_widths": (),
    "attention": "none",
    "attention_sizes": (),
    "preactivation": False,
    "membranes": False,
    "stem_pool": "usual",
    "attention_bias": True,
    "attention_activated": False,
    "final_norm": True,
    "activation": "relu",
    "levels": 0,
    "limits": "shared",
}
# The others, with the values that they have unless they are given.
USUAL_TRAITS: dict[str, Any] = {
    "stem": "3x3",
    "stem_padding": 1,
    "shortcut": "projection",
    "in_channels": 3,
    "timesteps": 1,
    "neuron": Neuron(),
    "spiking_block": "spiking",
    "join": "add",
    "coding": "direct",
    "amplitude": "one",
    "learn_decay": "none",
    "learn_start": "none",
}
NEEDED_TRAITS = {"kind", "block", "depths", "widths", "num_classes"}
OF_ATTENTION = ("attention_sizes", "attention_bias", "attention_activated")
TRAIT_ORDER = (
    *("kind", "block", "depths", "widths", "num_classes", "stem", "stem_padding", "shortcut", "in_channels"),
    *SPIKING_TRAITS,
)
_CHOICES: dict[str, tuple[str, ...]] = {
    "kind": get_args(Kind),
    "block": tuple(BLOCKS),
    "stem": tuple(STEMS),
    "shortcut": tuple(SHORTCUTS),
    "bottleneck_stride": ("3x3", "1x1", "average"),
    "stem_pool": tuple(POOLS),
    "attention": tuple(ATTENTIONS),
    "activation": get_args(Activation),
    "limits": get_args(Limits),
    "spiking_block": get_args(SpikingBlock),
    "join": get_args(Join),
    "coding": get_args(Coding),
    "amplitude": get_args(Amplitude),
    "learn_decay": get_args(LearnDecay),
    "learn_start": get_args(LearnStart),
}


def check_traits(traits: Traits) -> None:
    """Raise :class:`UsageError` for what no network can be built from; every trait is in ``traits``."""
    for key, allowed in _CHOICES.items():
        if traits[key] not in allowed:
            raise UsageError(f"{key} is {traits[key]!r}", f"Give one of {', '.join(allowed)}.")
    counts = {
        "num_classes": traits["num_classes"],
        "timesteps": traits["timesteps"],
        "in_channels": traits["in_channels"],
        "groups": traits["groups"],
        **{f"{key}[{i}]": n for key in TUPLES for i, n in enumerate(traits[key])},
    }
    for key, value in counts.items():
        if type(value) is not int or not 1 <= value <= _MOST:
            raise UsageError(f"{key} is {value}", f"Give an integer from 1 to {_MOST:,}.")
    if sum(traits["depths"]) > _MOST_BLOCKS:
        raise UsageError(f"depths count {sum(traits['depths']):,} blocks", f"Give at most {_MOST_BLOCKS:,}.")
    if type(traits["stem_padding"]) is not int or traits["stem_padding"] < 0:
        raise UsageError(f"stem_padding is {traits['stem_padding']}", "Give an integer of 0 or more.")
    check_neuron(traits["neuron"])
    check_learnt_of_neurons(traits)
    if len(traits["depths"]) != len(traits["widths"]) or not traits["depths"]:
        raise UsageError("depths and widths differ in length", "Give one of each for every stage.")
    _validate_amplitude(traits)
    _validate_ann_traits(traits)
    _validate_attention(traits)
    _validate_activation(traits)
    for key in ("preactivation", "membranes", "attention_bias", "attention_activated", "final_norm"):
        if type(traits[key]) is not bool:
            raise UsageError(f"{key} is {traits[key]!r}", "Give true or false.")
    if issubclass(SHORTCUTS[traits["shortcut"]], PaddedIdentity):
        outer = [w * BLOCKS[traits["block"]].expansion for w in traits["widths"]]
        steps = zip([_stem(traits).width(traits["widths"][0]), *outer[:-1]], outer, strict=True)
        if traits["block"] != "basic" or any(b < a or (b - a) % 2 for a, b in steps):
            raise UsageError(
                "option-A shortcuts need basic blocks whose widths grow by an even number of channels",
                "Use shortcut: projection.",
            )


def _validate_amplitude(traits: Traits) -> None:
    if traits["amplitude"] == "one":
        return
    if traits["kind"] == "ann":
        raise UsageError(f"amplitude is {traits['amplitude']}, but an ANN has no spikes", "Use amplitude: one.")
    if traits["spiking_block"] == "sew":
        found = "in SEW blocks, whose sums no single amplitude can be folded out of"
        raise UsageError(f"spikes of learnt amplitudes {found}", "Use block: spiking, or amplitude: one.")
    if traits["spiking_block"] == "ms" and traits["amplitude"] == "channel":
        found = "in MS blocks, whose shortcuts add membranes, not spikes"
        raise UsageError(f"spikes of learnt amplitudes {found}", "Use block: spiking, or amplitude: one.")


def _validate_ann_traits(traits: Traits) -> None:
    if traits["kind"] == "spiking":
        usual = {**ANN_TRAITS, "stem": _stem(traits).named, "shortcut": SHORTCUTS[traits["shortcut"]]().named}
        for key, value in usual.items():
            if traits[key] != value:
                raise UsageError(f"{key} is {traits[key]}, which a Spiking ResNet cannot have", f"Use {key}: {value}.")
    inner = traits["inner_widths"]
    if len(inner) not in (0, len(traits["depths"])):
        raise UsageError("depths and inner_widths differ in length", "Give one of each for every stage.")
    if traits["block"] == "basic" and (traits["groups"], inner, traits["bottleneck_stride"]) != (1, (), "3x3"):
        raise UsageError(
            "groups, inner_widths and bottleneck_stride are traits of bottlenecks", "Leave them out of basic blocks."
        )
    if any(width % traits["groups"] for width in inner or traits["widths"]):
        raise UsageError(
            f"{traits['groups']} groups do not divide the inner widths", "Give widths that the groups divide."
        )
    if (len(traits["stem_widths"]) > 1) is not (traits["stem"] == "deep"):
        raise UsageError(
            f"a {traits['stem']} stem does not have {len(traits['stem_widths'])} stem_widths",
            "Give one for each convolution: two or more for a deep stem, one or none for a plain one.",
        )
    needed = {"convolution": ("deep",), "usual": (traits["stem"],)}.get(traits["stem_pool"], ("7x7", "deep"))
    if traits["stem"] not in needed:
        raise UsageError(
            f"stem_pool is {traits['stem_pool']}, which a {traits['stem']} stem does not have",
            f"Use a stem of {' or '.join(needed)}, or leave stem_pool out.",
        )


def _validate_attention(traits: Traits) -> None:
    sizes = traits["attention_sizes"]
    if len(sizes) != (0 if traits["attention"] == "none" else len(traits["depths"])):
        raise UsageError(
            f"attention is {traits['attention']!r} with {len(sizes)} attention_sizes",
            "Give one size for every stage, and none without attention.",
        )
    padded = issubclass(SHORTCUTS[traits["shortcut"]], PaddedIdentity)
    averages = traits["bottleneck_stride"] == "average"
    if traits["preactivation"] and (traits["attention"] != "none" or padded or averages):
        raise UsageError(
            "pre-activation blocks with attention, option-A shortcuts or strides by averages",
            "Use projections, no attention, and bottleneck_stride 3x3 or 1x1.",
        )
    odd = {"attention": ("none",), "preactivation": (False,), "bottleneck_stride": ("3x3", "1x1")}
    if traits["membranes"] and (traits["stem"] == "deep" or any(traits[key] not in fit for key, fit in odd.items())):
        raise UsageError(
            "blocks that add membranes, with attention, pre-activation, strides by averages or a deep stem",
            "Leave membranes out, or these.",
        )
    if traits["attention"] != "se" and (traits["attention_activated"] or not traits["attention_bias"]):
        raise UsageError("attention_bias and attention_activated are traits of se", "Use attention: se.")
    if not (traits["final_norm"] or traits["preactivation"]):
        raise UsageError("final_norm is false without preactivation", "Leave it out: other blocks end in a norm.")
    if traits["attention"] == "eca" and any(size % 2 == 0 for size in sizes):
        raise UsageError(f"attention_sizes are {sizes}", "Give odd kernels.")


def _validate_activation(traits: Traits) -> None:
    quantised, levels = traits["activation"] == "qcfs", traits["levels"]
    if type(levels) is not int or not (1 if quantised else 0) <= levels <= (_MOST if quantised else 0):
        raise UsageError(
            f"activation is {traits['activation']} with {levels!r} levels",
            "Give qcfs one level or more, and relu none.",
        )
    if not quantised and traits["limits"] != "shared":
        raise UsageError("limits are for activation qcfs", "Leave them out.")
    if quantised and (traits["preactivation"] or traits["stem"] == "deep" or traits["attention"] != "none"):
        raise UsageError(
            "QCFS activations in a network with pre-activation, a deep stem or attention",
            "Use activation: relu, or a plain ResNet.",
        )


def check_neuron(neuron: Neuron) -> None:
    """Raise :class:`UsageError` for constants that no neuron can have, of networks of any family."""
    surrogates = names("idsnn_cli.spiking.surrogates")
    if neuron.surrogate not in surrogates:
        raise UsageError(f"surrogate is {neuron.surrogate!r}", f"Give one of {', '.join(surrogates)}.")
    for word, value, allowed in (
        ("reset", neuron.reset, get_args(Reset)),
        ("start", neuron.start, get_args(Start)),
        ("reset_gradient", neuron.reset_gradient, get_args(ResetGradient)),
    ):
        if value not in allowed:
            raise UsageError(f"{word} is {value!r}", f"Give one of {', '.join(allowed)}.")
    for key in ("v_threshold", "surrogate_scale"):
        value = getattr(neuron, key)
        if not 0 < value <= _LARGEST:
            raise UsageError(f"{key} is {value}", f"Give a number above 0, and at most {_LARGEST:g}.")
    if not 0 <= neuron.decay <= 1:
        raise UsageError(f"decay is {neuron.decay}", "Give a number from 0 to 1.")


def check_learnt_of_neurons(traits: Traits) -> None:
    """Raise :class:`UsageError` for starts and decays that cannot be learnt, of networks of any family."""
    if traits["learn_start"] != "none" and traits["kind"] == "ann":
        raise UsageError("learn_start is channel, but an ANN has no neurons", "Use learn_start: none.")
    if traits["learn_decay"] == "none":
        return
    if traits["kind"] == "ann":
        raise UsageError("learn_decay is layer, but an ANN has no neurons", "Use learn_decay: none.")
    decay = traits["neuron"].decay
    if not LEAST_LEARNT_DECAY <= decay <= 1 - LEAST_LEARNT_DECAY:
        raise UsageError(
            f"learn_decay is layer with a decay of {decay:g}: a sigmoid that starts at 0 or 1 has no slope to learn by",
            f"Start from {LEAST_LEARNT_DECAY:.6f} to {1 - LEAST_LEARNT_DECAY:.6f}, or use learn_decay: none.",
        )


def _stem(traits: Traits) -> Stem:
    return STEMS[traits["stem"]].of(traits)
