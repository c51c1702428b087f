"""Which descriptions a network can be built from."""

from __future__ import annotations

from typing import get_args

from idsnn_cli.architecture.description import ANN_TRAITS, Architecture
from idsnn_cli.architecture.parts import Neuron
from idsnn_cli.architecture.words import (
    SPIKING_NAMES,
    Activation,
    Amplitude,
    Attention,
    Block,
    BottleneckStride,
    Coding,
    ForeignShortcut,
    ForeignStem,
    Join,
    Kind,
    Reset,
    Shortcut,
    SpikingBlock,
    Start,
    Stem,
    StemPool,
)
from idsnn_cli.errors import UsageError
from idsnn_cli.registry import names

# What nobody builds, but a damaged file may claim: it must not take hours, or all memory, to find that out.
_MOST, _MOST_BLOCKS = 2**31 - 1, 4_000
_LARGEST = 1e30  # with room to multiply within float32
TUPLES = ("depths", "widths", "inner_widths", "stem_widths", "attention_sizes")
_CHOICES: dict[str, tuple[str, ...]] = {
    "kind": get_args(Kind),
    "block": get_args(Block),
    "stem": (*get_args(Stem), *get_args(ForeignStem)),
    "shortcut": (*get_args(Shortcut), *get_args(ForeignShortcut)),
    "bottleneck_stride": get_args(BottleneckStride),
    "stem_pool": get_args(StemPool),
    "attention": get_args(Attention),
    "activation": get_args(Activation),
    "spiking_block": get_args(SpikingBlock),
    "join": get_args(Join),
    "coding": get_args(Coding),
    "amplitude": get_args(Amplitude),
}


def validate(architecture: Architecture) -> None:
    """Raise :class:`UsageError` for a description that no network can be built from."""
    for key, allowed in _CHOICES.items():
        if getattr(architecture, key) not in allowed:
            raise UsageError(f"{key} is {getattr(architecture, key)!r}", f"Give one of {', '.join(allowed)}.")
    counts = {
        "num_classes": architecture.num_classes,
        "timesteps": architecture.timesteps,
        "in_channels": architecture.in_channels,
        "groups": architecture.groups,
        **{f"{key}[{i}]": n for key in TUPLES for i, n in enumerate(getattr(architecture, key))},
    }
    for key, value in counts.items():
        if type(value) is not int or not 1 <= value <= _MOST:
            raise UsageError(f"{key} is {value}", f"Give an integer from 1 to {_MOST:,}.")
    if sum(architecture.depths) > _MOST_BLOCKS:
        raise UsageError(f"depths count {sum(architecture.depths):,} blocks", f"Give at most {_MOST_BLOCKS:,}.")
    if type(architecture.stem_padding) is not int or architecture.stem_padding < 0:
        raise UsageError(f"stem_padding is {architecture.stem_padding}", "Give an integer of 0 or more.")
    _validate_neuron(architecture.neuron)
    if len(architecture.depths) != len(architecture.widths) or not architecture.depths:
        raise UsageError("depths and widths differ in length", "Give one of each for every stage.")
    if architecture.kind == "spiking" and architecture.block != "basic":
        raise UsageError(
            f"a Spiking ResNet-{architecture.depth} would need bottleneck blocks",
            f"Choose a basic-block depth: {', '.join(SPIKING_NAMES)}.",
        )
    _validate_amplitude(architecture)
    _validate_ann_traits(architecture)
    _validate_attention(architecture)
    _validate_activation(architecture)
    for key in ("preactivation", "attention_bias", "attention_activated", "final_norm"):
        if type(getattr(architecture, key)) is not bool:
            raise UsageError(f"{key} is {getattr(architecture, key)!r}", "Give true or false.")
    if architecture.shortcut == "pad":
        outer = [w * architecture.expansion for w in architecture.widths]
        steps = zip([architecture.stem_width, *outer[:-1]], outer, strict=True)
        if architecture.block != "basic" or any(b < a or (b - a) % 2 for a, b in steps):
            raise UsageError(
                "option-A shortcuts need basic blocks whose widths grow by an even number of channels",
                "Use shortcut: projection.",
            )


def _validate_amplitude(architecture: Architecture) -> None:
    if architecture.amplitude == "one":
        return
    if architecture.kind == "ann":
        raise UsageError(f"amplitude is {architecture.amplitude}, but an ANN has no spikes", "Use amplitude: one.")
    if architecture.spiking_block == "sew":
        raise UsageError(
            "spikes of learnt amplitudes in SEW blocks, whose sums no single amplitude can be folded out of",
            "Use block: spiking, or amplitude: one.",
        )


def _validate_ann_traits(architecture: Architecture) -> None:
    if architecture.kind == "spiking":
        usual = {**ANN_TRAITS, "stem": architecture.named_stem, "shortcut": architecture.named_shortcut}
        for key, value in usual.items():
            if getattr(architecture, key) != value:
                raise UsageError(
                    f"{key} is {getattr(architecture, key)}, which a Spiking ResNet cannot have", f"Use {key}: {value}."
                )
    inner = architecture.inner_widths
    if len(inner) not in (0, len(architecture.depths)):
        raise UsageError("depths and inner_widths differ in length", "Give one of each for every stage.")
    if architecture.block == "basic" and (architecture.groups, inner, architecture.bottleneck_stride) != (1, (), "3x3"):
        raise UsageError(
            "groups, inner_widths and bottleneck_stride are traits of bottlenecks", "Leave them out of basic blocks."
        )
    if any(width % architecture.groups for width in inner or architecture.widths):
        raise UsageError(
            f"{architecture.groups} groups do not divide the inner widths", "Give widths that the groups divide."
        )
    if (len(architecture.stem_widths) > 1) is not (architecture.stem == "deep"):
        raise UsageError(
            f"a {architecture.stem} stem does not have {len(architecture.stem_widths)} stem_widths",
            "Give one for each convolution: two or more for a deep stem, one or none for a plain one.",
        )
    needed = {"convolution": ("deep",), "usual": (architecture.stem,)}.get(architecture.stem_pool, ("7x7", "deep"))
    if architecture.stem not in needed:
        raise UsageError(
            f"stem_pool is {architecture.stem_pool}, which a {architecture.stem} stem does not have",
            f"Use a stem of {' or '.join(needed)}, or leave stem_pool out.",
        )


def _validate_attention(architecture: Architecture) -> None:
    sizes = architecture.attention_sizes
    if len(sizes) != (0 if architecture.attention == "none" else len(architecture.depths)):
        raise UsageError(
            f"attention is {architecture.attention!r} with {len(sizes)} attention_sizes",
            "Give one size for every stage, and none without attention.",
        )
    if architecture.preactivation and (architecture.attention != "none" or architecture.shortcut == "pad"):
        raise UsageError(
            "pre-activation blocks with attention or option-A shortcuts", "Use projections, and no attention."
        )
    if architecture.attention != "se" and (architecture.attention_activated or not architecture.attention_bias):
        raise UsageError("attention_bias and attention_activated are traits of se", "Use attention: se.")
    if not (architecture.final_norm or architecture.preactivation):
        raise UsageError("final_norm is false without preactivation", "Leave it out: other blocks end in a norm.")
    if architecture.attention == "eca" and any(size % 2 == 0 for size in sizes):
        raise UsageError(f"attention_sizes are {sizes}", "Give odd kernels.")


def _validate_activation(architecture: Architecture) -> None:
    quantised, levels = architecture.activation == "qcfs", architecture.levels
    if type(levels) is not int or not (1 if quantised else 0) <= levels <= (_MOST if quantised else 0):
        raise UsageError(
            f"activation is {architecture.activation} with {levels!r} levels",
            "Give qcfs one level or more, and relu none.",
        )
    if quantised and (architecture.preactivation or architecture.stem == "deep" or architecture.attention != "none"):
        raise UsageError(
            "QCFS activations in a network with pre-activation, a deep stem or attention",
            "Use activation: relu, or a plain ResNet.",
        )


def _validate_neuron(neuron: Neuron) -> None:
    surrogates = names("idsnn_cli.spiking.surrogates")
    if neuron.surrogate not in surrogates:
        raise UsageError(f"surrogate is {neuron.surrogate!r}", f"Give one of {', '.join(surrogates)}.")
    for word, value, allowed in (("reset", neuron.reset, get_args(Reset)), ("start", neuron.start, get_args(Start))):
        if value not in allowed:
            raise UsageError(f"{word} is {value!r}", f"Give one of {', '.join(allowed)}.")
    for key in ("v_threshold", "surrogate_scale"):
        value = getattr(neuron, key)
        if not 0 < value <= _LARGEST:
            raise UsageError(f"{key} is {value}", f"Give a number above 0, and at most {_LARGEST:g}.")
    if not 0 <= neuron.decay <= 1:
        raise UsageError(f"decay is {neuron.decay}", "Give a number from 0 to 1.")
