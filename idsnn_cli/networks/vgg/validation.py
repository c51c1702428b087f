"""Which VGGs can be built, said of their traits as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from idsnn_cli.architecture.parts import Activation, Coding, Kind, LearnDecay, LearnStart, Limits
from idsnn_cli.errors import UsageError
from idsnn_cli.networks.resnet.validation import check_learnt_of_neurons, check_neuron

# What nobody builds, but a damaged file may claim: it must not take hours, or all memory, to find that out.
_MOST, _MOST_LAYERS, _MOST_SIDE = 2**31 - 1, 4_000, 64
TUPLES = ("depths", "widths", "head_widths")
_CHOICES: dict[str, tuple[str, ...]] = {
    "kind": get_args(Kind),
    "activation": get_args(Activation),
    "limits": get_args(Limits),
    "coding": get_args(Coding),
    "learn_decay": get_args(LearnDecay),
    "learn_start": get_args(LearnStart),
}
# What spiking networks of other families have.
_OTHERS: dict[str, tuple[str, ...]] = {
    "spiking_block": ("spiking",),
    "join": ("add",),
    # Folded amplitudes are all in kernels here, for no shortcut keeps one: thresholds of channels are learnt so.
    "amplitude": ("one", "folded", "folded-layer"),
}


def check_traits(traits: Mapping[str, Any]) -> None:
    """Raise :class:`UsageError` for what no network can be built from; every trait is in ``traits``."""
    for key, allowed in _CHOICES.items():
        if traits[key] not in allowed:
            raise UsageError(f"{key} is {traits[key]!r}", f"Give one of {', '.join(allowed)}.")
    for key, only in _OTHERS.items():
        if traits[key] not in only:
            word = "block" if key == "spiking_block" else key
            raise UsageError(f"{word} is {traits[key]!r}, which a VGG cannot have", f"Use {word}: {only[0]}.")
    if traits["kind"] == "ann" and traits["amplitude"] != "one":
        raise UsageError(f"amplitude is {traits['amplitude']}, but an ANN has no spikes", "Use amplitude: one.")
    _check_counts(traits)
    check_neuron(traits["neuron"])
    check_learnt_of_neurons(traits)
    _check_activation(traits)


def _check_counts(traits: Mapping[str, Any]) -> None:
    counts = {key: traits[key] for key in ("num_classes", "timesteps", "in_channels", "head_side")}
    counts |= {f"{key}[{i}]": n for key in ("widths", "head_widths") for i, n in enumerate(traits[key])}
    for key, value in counts.items():
        if type(value) is not int or not 1 <= value <= _MOST:
            raise UsageError(f"{key} is {value}", f"Give an integer from 1 to {_MOST:,}.")
    for i, depth in enumerate(traits["depths"]):
        # The stem is the first stage's, too, which may be all that it has.
        least = 1 if i else 0
        if type(depth) is not int or not least <= depth <= _MOST_LAYERS:
            raise UsageError(f"depths[{i}] is {depth}", f"Give an integer from {least} to {_MOST_LAYERS:,}.")
    if sum(traits["depths"]) > _MOST_LAYERS or len(traits["head_widths"]) > _MOST_LAYERS:
        raise UsageError("more layers than anyone builds", f"Give at most {_MOST_LAYERS:,}.")
    if len(traits["depths"]) != len(traits["widths"]) or not traits["depths"]:
        raise UsageError("depths and widths differ in length", "Give one of each for every stage.")
    if traits["head_side"] > _MOST_SIDE:
        raise UsageError(f"head_side is {traits['head_side']}", f"Give at most {_MOST_SIDE}.")
    if traits["head_side"] > 1 and not traits["head_widths"]:
        raise UsageError("head_side is for the first of several linear layers", "Give head_widths, or leave it out.")


def _check_activation(traits: Mapping[str, Any]) -> None:
    quantised, levels = traits["activation"] == "qcfs", traits["levels"]
    if type(levels) is not int or not (1 if quantised else 0) <= levels <= (_MOST if quantised else 0):
        raise UsageError(
            f"activation is {traits['activation']} with {levels!r} levels",
            "Give qcfs one level or more, and relu none.",
        )
    if not quantised and traits["limits"] != "shared":
        raise UsageError("limits are for activation qcfs", "Leave them out.")
    if quantised and traits["kind"] == "spiking":
        raise UsageError("activation is qcfs, which a spiking network cannot have", "Use activation: relu.")
    if quantised and traits["head_widths"]:
        raise UsageError(
            "QCFS activations between several linear layers", "Use activation: relu, or a VGG of one linear layer."
        )
