"""Which family's ResNet a checkpoint holds, from its tensors' names and shapes alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from idsnn_cli.architecture import Architecture
from idsnn_cli.errors import FamilyError
from idsnn_cli.families.layout import infer
from idsnn_cli.families.matching import Match, is_averaged, match, roots, source_name, without_transparent, wrapper_rank
from idsnn_cli.families.schemes import SCHEMES
from idsnn_cli.families.surroundings import BESIDE, TRAITS, WRAPPERS
from idsnn_cli.families.words import grouped, shown

# What names and shapes cannot tell.
STEM_STRIDE = "the stem's stride, padding and pooling"
BOTTLENECK_STRIDE = "which convolution of a bottleneck strides"
AVERAGED_SHORTCUTS = "whether a projection reads the mean of 2x2 pixels"
OPTION_A_CHANNELS = "where option-A shortcuts put their zeros"
INPUT_NORMALISATION = "the input normalisation"
NEURONS = "whether the network spikes, and its neurons' constants"

ALLOWED = "unexplained, allowed"
Copy = Literal["ema", "raw"]
Weights = Literal["auto", "ema", "raw"]

_ANY_SHORTCUT = ("idsnn", "timm-resnetv2", "structure")
_MOST_TENSORS = 50_000
_COPY_WORDS = {"ema": "averaged (EMA)", "raw": "raw"}
_RESNET = "Give the state dict of a ResNet, or rename its tensors as torchvision does."


@dataclass(frozen=True, slots=True)
class Reading:
    """What to do where a file leaves a choice.

    ``weights`` says which copy is taken of a file with raw and averaged ones (EMA); ``auto`` takes the averaged.
    ``allow_unused`` drops keys that no row explains, where the others are a whole ResNet.
    """

    weights: Weights = "auto"
    allow_unused: bool = False


@dataclass(frozen=True, slots=True)
class Recognised:
    """A checkpoint's ResNet in canonical terms.

    ``names`` maps canonical tensor names, in canonical order, to the file's keys; only tensors that the file has are
    in it. ``dropped`` maps every other key to the reason. ``root`` is what stood before the network's own names
    (``state_dict.module.``). ``unknown`` lists what keys cannot tell; ``architecture`` has the usual choice there:
    kind ``ann``, stride 1 for a 3x3 stem, stride 2 and a max-pool for a 7x7 one, bottlenecks that stride in their
    3x3, averages before the projections of pre-activation networks that have a deep stem. Without a head ``has_head``
    is False, ``ending`` says in words what there is instead, and ``architecture.num_classes`` is 1, which only stands
    in. ``copy`` says whether the weights are averaged ones, ``copies`` which kinds the file has.
    """

    scheme: str
    architecture: Architecture
    names: Mapping[str, str]
    dropped: Mapping[str, str]
    unknown: tuple[str, ...]
    has_head: bool
    ending: str
    root: str
    copy: Copy
    copies: tuple[Copy, ...]


def recognise(shapes: Mapping[str, tuple[int, ...]], reading: Reading | None = None) -> Recognised:
    """Recognise the ResNet whose tensors have these names and ``shapes``, by ``reading`` where there is a choice.

    Wrappers and prefixes are seen through: the sub-tree that a scheme's table explains whole is taken, and what
    stands beside it is dropped by name. Every key ends used, dropped or unexplained. Raises :class:`FamilyError`
    where a key of the network stays unexplained, a tensor is missing or of another shape, where it is no ResNet that
    can be described, or where the copy that ``reading`` wants is not there.
    """
    reading = reading or Reading()
    if not shapes:
        raise FamilyError("there are no tensors.", _RESNET)
    if len(shapes) > _MOST_TENSORS:
        raise FamilyError(f"{len(shapes):,} tensors: no ResNet has so many.", _RESNET)
    original = _original_keys(shapes)
    matches = [match(scheme, root, keys) for root, keys in roots(original).items() for scheme in SCHEMES]
    fitting = [found for found in matches if found.fits]
    copies: tuple[Copy, ...] = tuple(dict.fromkeys(_copy(found) for found in fitting))
    wanted = [found for found in fitting if reading.weights in ("auto", _copy(found))]
    if not wanted:
        wanted = _not_fitting(matches, reading, copies)
        copies = tuple(dict.fromkeys((*copies, *(_copy(found) for found in wanted))))
    best = min(wanted, key=lambda found: (wrapper_rank(found.root), -found.explained))
    if best.twice:
        first, second = (original[best.root + key] for key in best.twice[0])
        raise FamilyError(
            f"{shown(first)} and {shown(second)} are the same tensor by the names of {best.scheme.title}.",
            "Give the state dict of one network.",
        )
    sources = {name: original[best.root + key] for name, key in best.used.items()}

    def naming(name: str) -> str:
        key = sources.get(name) or best.root + (source_name(best.scheme, name) or name)
        return shown(key) if key == name else f"{shown(key)} ({name})"

    found = {name: _as_usual(name, tuple(shapes[key])) for name, key in sources.items()}
    architecture, has_head = infer(found, naming, best.scheme.projection, best.scheme.traits)
    return Recognised(
        scheme=best.scheme.name,
        architecture=architecture,
        names={name: sources[name] for name in architecture.tensors() if name in sources},
        dropped=_dropped(best, original),
        unknown=_unknown(best, architecture),
        has_head=has_head,
        ending="" if has_head else best.scheme.ending or "has no linear layer",
        root=best.root,
        copy=_copy(best),
        copies=copies,
    )


def _as_usual(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """A head's shape where it is stored as a 1x1 convolution's, and a gate's where it is stored as a linear layer's."""
    if name == "head.weight" and shape[2:] == (1, 1):
        return shape[:2]
    gate = name.endswith((".attention.reduce.weight", ".attention.expand.weight"))
    return (*shape, 1, 1) if gate and len(shape) == 2 else shape


def _copy(found: Match) -> Copy:
    return "ema" if is_averaged(found.root) else "raw"


def _not_fitting(matches: list[Match], reading: Reading, copies: tuple[Copy, ...]) -> list[Match]:
    """The nearest matches without their unexplained keys, where ``reading`` allows that; else the error."""
    near = [found for found in matches if reading.weights in ("auto", _copy(found))]
    most = max((len(found.used) for found in near), default=0)
    if copies and not most:
        raise FamilyError(
            f"there are no {_COPY_WORDS[reading.weights]} weights in it, only {_COPY_WORDS[copies[0]]} ones.",
            "Take those: leave --weights out (teacher.weights=auto in a recipe).",
        )
    refusal = _no_fit(near or matches)
    if not (reading.allow_unused and refusal.can_go_on):
        raise refusal
    return [
        replace(found, dropped={**found.dropped, **dict.fromkeys(found.unexplained, ALLOWED)}, unexplained=())
        for found in near
        if len(found.used) == most
    ]


def _original_keys(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
    """Key without the parts of module wrappers -> key in the file."""
    original: dict[str, str] = {}
    for key in shapes:
        plain = without_transparent(key)
        if plain in original:
            raise FamilyError(
                f"{shown(original[plain])} and {shown(key)} name the same tensor.",
                "Give the state dict of one network.",
            )
        original[plain] = key
    return original


def _dropped(best: Match, original: Mapping[str, str]) -> dict[str, str]:
    dropped: dict[str, str] = {}
    taken = set(best.used.values())
    for plain, key in original.items():
        if not plain.startswith(best.root):
            dropped[key] = _reason_outside(plain, best.root)
        elif plain[len(best.root) :] not in taken:
            dropped[key] = best.dropped[plain[len(best.root) :]]
    return dropped


def _reason_outside(plain: str, root: str) -> str:
    first = plain.partition(".")[0]
    if first in BESIDE:
        return BESIDE[first]
    if first in WRAPPERS and root.partition(".")[0] in WRAPPERS and first != root.partition(".")[0]:
        return f"other weights; those under '{root}' were taken"
    return f"outside '{root}', which holds the network"


def _unknown(best: Match, architecture: Architecture) -> tuple[str, ...]:
    fixed = {trait.field for trait in best.scheme.traits}
    told = {
        STEM_STRIDE: "stem_pool" in fixed,
        BOTTLENECK_STRIDE: architecture.block == "basic" or "bottleneck_stride" in fixed,
        # In these names alone both are the same.
        AVERAGED_SHORTCUTS: best.scheme.name not in _ANY_SHORTCUT or architecture.shortcut == "pad",
        OPTION_A_CHANNELS: architecture.shortcut != "pad",
        INPUT_NORMALISATION: "input.mean" in best.used,
        NEURONS: not best.scheme.spiking,
    }
    return tuple(question for question, known in told.items() if not known)


class _NoFit(FamilyError):
    """``can_go_on`` says that the unexplained keys may be dropped, if the user allows it."""

    def __init__(self, message: str, fix: str, can_go_on: bool = False) -> None:
        super().__init__(message, fix)
        self.can_go_on = can_go_on


def _no_fit(matches: list[Match]) -> _NoFit:
    """The error for a file that no table explains whole, by the one that comes nearest."""
    nearest = max(matches, key=lambda found: (len(found.used), -len(found.unexplained)))
    total = nearest.explained + len(nearest.unexplained)
    convolutions = sum(bool(re.search(r"conv\d*\.weight$", name)) for name in nearest.used)
    for pattern, words, alone in TRAITS:
        traced = [key for key in nearest.unexplained if re.search(pattern, key)]
        if traced and (alone or convolutions > 1):
            return _NoFit(
                f"a ResNet with {words}: known, but not supported yet. It shows in {grouped(traced, 2)}.",
                "Give a plain ResNet of basic or bottleneck blocks.",
            )
    if convolutions < 2 or not nearest.unexplained:
        return _NoFit(
            f"not a ResNet that is known: of {total} tensors, the nearest naming scheme ({nearest.scheme.title}) "
            f"explains {len(nearest.used)}.\nThere are {grouped(nearest.unexplained or nearest.used.values(), 3)}.",
            _RESNET,
        )
    return _NoFit(
        f"{len(nearest.unexplained)} of {total} tensors are not explained by the nearest naming scheme "
        f"({nearest.scheme.title}):\n{grouped(nearest.unexplained, 6)}.",
        "Go on without them if the network does not need them: --allow-unused (teacher.allow_unused in a recipe).",
        can_go_on=True,
    )
