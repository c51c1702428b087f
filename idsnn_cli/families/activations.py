"""Tensors that belong to activations: learnt thresholds (QCFS), which can be read, and all else that changes them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from idsnn_cli.architecture import DECAY_LOGIT
from idsnn_cli.errors import FamilyError
from idsnn_cli.families.completing import block_prefixes
from idsnn_cli.families.tensor_parts import Shape
from idsnn_cli.families.words import grouped, shown

# Last names of what QCFS activations learn: of Bu et al.'s own code, of those who followed, and ours.
_THRESHOLDS = frozenset(("thresh", "threshold", "thre", "up", "vthr", "limit"))
# Last names of what other activations learn.
_LEARNT = re.compile(
    r"(alpha|beta|gamma|slope|negative_slope|lam|lambda|lambd|bound|clip|clip_val|bias_act|tau|decay|amplitude|step"
    r"|step_size|threshold|thresh|vth|v_th|v_threshold)_?s?\d*"
)
_ACTIVATION = re.compile(
    r"(p?relu|act|act_fn|activation|neuron|lif|plif|if|sn|qcfs|nonlin|nonlinearity|swish|mish)_?\d*"
)
# Of SpikingJelly, snnTorch, Norse and their like, and ours.
_OF_NEURONS = (
    *("v_threshold", "v_reset", "v_th", "vth", "tau_mem_inv", "mem", "membrane", "graded_spikes_factor"),
    DECAY_LOGIT,
)
# Last names of what a stored tensor is to be multiplied by.
_SCALE = re.compile(r"\w*scales?(_inv)?|scale_\w+|zero_points?|\w*_zero_point|amax|\w*_amax")

Limits = Literal["each", "channel", "shared"]


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Canonical name of a limit -> key; ``limits`` says who may have one of its own, the first that fits."""

    used: Mapping[str, str]
    limits: tuple[Limits, ...]


def is_threshold(key: str, shape: Shape) -> bool:
    """Whether a tensor is, by its name, the threshold of an activation: one number, or one for each channel."""
    module, _, leaf = key.rpartition(".")
    return bool(module) and leaf in _THRESHOLDS and sum(size != 1 for size in shape) <= 1


def is_of_neuron(key: str) -> bool:
    """Whether a tensor is a neuron's own, by the names that libraries of spiking networks give."""
    return key.rpartition(".")[2] in _OF_NEURONS


def is_learnt(key: str) -> bool:
    """Whether a tensor is, by its name, part of an activation: a slope, a blend, a threshold."""
    *modules, leaf = key.split(".")
    within = bool(modules) and _ACTIVATION.fullmatch(modules[-1].lower()) is not None
    return within or _LEARNT.fullmatch(leaf.lower()) is not None


def is_scale(key: str) -> bool:
    """Whether a tensor is, by its name, what others are to be multiplied by."""
    return _SCALE.fullmatch(key.rpartition(".")[2].lower()) is not None


def place_thresholds(keys: Mapping[str, Shape], used: Mapping[str, str]) -> Thresholds:
    """The activation that each threshold of ``keys`` belongs to, beside the tensors that are ``used``.

    Raises :class:`FamilyError` where some activation has none, or one more is there than activations.
    """
    length = 3 if any(".conv2." in name for name in used) else 2
    prefixes = block_prefixes(used)
    found: dict[str, str] = {}
    left = dict.fromkeys(keys)
    for (stage, block), prefix in prefixes.items():
        inside = [key for key in keys if key.startswith(prefix)]
        for key in inside:
            del left[key]
        for number, key in enumerate(_in_order(inside, length)):
            found[f"stages.{stage}.{block}.act{number}.limit"] = key
    if len(left) != 1:
        raise odd_thresholds(
            keys, f"{len(left)} stand outside the blocks, where there is one activation, behind the stem"
        )
    found = {"stem.act.limit": next(iter(left)), **found}
    single = {key for key in found.values() if all(size == 1 for size in keys[key])}
    if single and len(single) != len(set(found.values())):
        raise odd_thresholds(keys, "some are single numbers and others one for each channel")
    return Thresholds(found, ("each",) if single else ("channel",))


def own_thresholds(keys: Iterable[str]) -> Thresholds | None:
    """Thresholds under our own names; None where the names are others'."""
    every = list(keys)
    ours = all(re.fullmatch(r"(stem\.|final_)act\.limit|stages\.\d+\.\d+\.act\d\.limit", key) for key in every)
    return Thresholds({key: key for key in every}, ("shared", "each", "channel")) if ours else None


def _in_order(keys: list[str], length: int) -> list[str]:
    """The threshold of each of a block's activations, of which a single one may serve all."""
    number = {key: re.search(r"(\d+)$", key.rpartition(".")[0]) for key in keys}
    numbered = sorted((int(at[1]), key) for key, at in number.items() if at is not None)
    plain = [key for key, at in number.items() if at is None]
    order = [key for _, key in numbered] + plain
    alike = len({re.sub(r"\d+$", "", key.rpartition(".")[0]) for _, key in numbered}) <= 1
    if len(order) == 1 and plain:
        return plain * length
    if len(order) != length or len(plain) > 1 or not alike:
        where = f"beside {shown(order[0])} {len(order)} stand" if order else "none stands"
        raise odd_thresholds(keys, f"{where} in a block of {length} activations")
    return order


def shape_of_limit(shape: Shape) -> Shape:
    """A threshold's shape without axes of one: () or (channels,)."""
    return tuple(size for size in shape if size != 1)


def odd_thresholds(keys: Iterable[str], why: str) -> FamilyError:
    """The error for thresholds that are not those of all activations."""
    return FamilyError(
        f"learnt thresholds of activations that cannot be told apart: {why}.\nThey are {grouped(keys, 4)}.",
        "Give a network whose every activation has one threshold, or one for each channel.",
    )


def levels_unknown(keys: Iterable[str]) -> FamilyError:
    """The error for thresholds of which nothing says how many levels they have."""
    return FamilyError(
        f"its activations have learnt thresholds, so it is no ReLU network: {grouped(keys, 4)}.",
        "If they are QCFS activations (Bu et al. 2022), say how many levels they have: --levels L (teacher.levels in a "
        "recipe). Others, such as plain clipping, are not supported.",
    )


def no_thresholds() -> FamilyError:
    """The error for levels that are given of a network whose activations learnt nothing."""
    return FamilyError(
        "levels are given, but none of its tensors is the threshold of an activation.",
        "Leave --levels out (teacher.levels in a recipe).",
    )
