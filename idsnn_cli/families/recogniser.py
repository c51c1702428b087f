"""Which family's ResNet a checkpoint holds, from its tensors' names and shapes alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from idsnn_cli.errors import FamilyError
from idsnn_cli.families.layout import infer
from idsnn_cli.families.matching import Match, is_averaged, match, roots, source_name, without_transparent, wrapper_rank
from idsnn_cli.families.reading import (
    ALLOWED,
    AVERAGED_SHORTCUTS,
    BOTTLENECK_STRIDE,
    INPUT_NORMALISATION,
    NEURONS,
    OPTION_A_CHANNELS,
    STEM_STRIDE,
    Copy,
    Reading,
    Recognised,
)
from idsnn_cli.families.refusals import RESNET, nearest, no_fit
from idsnn_cli.families.regrouping import regroup
from idsnn_cli.families.scheme import Scheme
from idsnn_cli.families.schemes import SCHEMES
from idsnn_cli.families.structure import Certainty, infer_structure, unexplained
from idsnn_cli.families.surroundings import BESIDE, WRAPPERS
from idsnn_cli.families.torchvision_tables import LEARNT_DECAY
from idsnn_cli.families.words import shown
from idsnn_cli.networks.resnet.architecture import ResNetArchitecture

# What a file is called whose names no table knows; an unknown network may spike.
_STRUCTURE = Scheme("structure", "shapes and order", (), spiking=True)
_ANY_SHORTCUT = ("idsnn", "timm-resnetv2", "structure")
_MOST_TENSORS = 50_000
# Of SpikingJelly, snnTorch, Norse and their like.
_OF_NEURONS = ("v_threshold", "v_reset", "v_th", "vth", "tau_mem_inv", "mem", "membrane", "graded_spikes_factor")
_COPY_WORDS = {"ema": "averaged (EMA)", "raw": "raw"}


def recognise(shapes: Mapping[str, tuple[int, ...]], reading: Reading | None = None) -> Recognised:
    """Recognise the ResNet whose tensors have these names and ``shapes``, by ``reading`` where there is a choice.

    Wrappers and prefixes are seen through: the sub-tree that a scheme's table explains whole is taken, and what stands
    beside it is dropped by name. Where the names are not half known, shapes and order tell the layout. A block that
    ends its stage and changes the channels begins the next stage here, which is the same network. Every key ends used,
    dropped or unexplained. Raises :class:`FamilyError` where a key of the network stays unexplained, a tensor is
    missing or of another shape, where it is no ResNet that can be described, or where the copy that ``reading`` wants
    is not there.
    """
    reading = reading or Reading()
    schemes = SCHEMES if reading.scheme is None else (reading.scheme,)
    if not shapes:
        raise FamilyError("there are no tensors.", RESNET)
    if len(shapes) > _MOST_TENSORS:
        raise FamilyError(f"{len(shapes):,} tensors: no ResNet has so many.", RESNET)
    original = _original_keys(shapes)
    trees = roots(original)
    matches = [match(scheme, root, keys) for root, keys in trees.items() for scheme in schemes]
    fitting = [found for found in matches if found.fits]
    copies: tuple[Copy, ...] = tuple(dict.fromkeys(_copy(found) for found in fitting))
    wanted = [found for found in fitting if reading.weights in ("auto", _copy(found))]
    certainty: dict[str, Certainty] = {}
    ordered = {key: tuple(shapes[original[key]]) for key in original}
    if not fitting and reading.scheme is None and _unknown_names(matches, ordered):
        wanted, certainty = _inferred(trees, ordered, reading)
        copies = tuple(dict.fromkeys(_copy(found) for found in wanted))
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
    regrouped = regroup({name: tuple(shapes[key]) for name, key in sources.items()})
    sources = {regrouped.renamed(name): key for name, key in sources.items()}

    def naming(name: str) -> str:
        key = sources.get(name) or best.root + (source_name(best.scheme, regrouped.original(name)) or name)
        return shown(key) if key == name else f"{shown(key)} ({name})"

    found = {name: _as_usual(name, tuple(shapes[key])) for name, key in sources.items()}
    architecture, has_head = infer(found, naming, best.scheme.projection, best.scheme.traits)
    dropped = _dropped(best, original)
    return Recognised(
        scheme=best.scheme.name,
        architecture=architecture,
        names={name: sources[name] for name in architecture.tensors() if name in sources},
        dropped=dropped,
        unknown=_unknown(best, architecture),
        has_head=has_head,
        ending="" if has_head else best.scheme.ending or "has no linear layer",
        root=best.root,
        copy=_copy(best),
        copies=copies,
        certainty=certainty.get(best.root),
        neurons="told" if any(_is_of_neuron(key) for key in dropped) else best.scheme.neurons,
        decays=tuple(key for key, reason in dropped.items() if reason == LEARNT_DECAY),
    )


def _is_of_neuron(key: str) -> bool:
    """Whether a tensor that is set aside is a neuron's own, by the names that libraries of spiking networks give."""
    return key.rpartition(".")[2] in _OF_NEURONS


def _as_usual(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """A head's shape where it is stored as a 1x1 convolution's, and a gate's where it is stored as a linear layer's."""
    if name == "head.weight" and shape[2:] == (1, 1):
        return shape[:2]
    gate = name.endswith((".attention.reduce.weight", ".attention.expand.weight"))
    return (*shape, 1, 1) if gate and len(shape) == 2 else shape


def _unknown_names(matches: list[Match], shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether not even half of the kernels are named as any table would have it: else what is odd is to be said.

    ``shapes`` goes by the keys that were matched.
    """
    near = nearest(matches)
    known = sum(len(shapes[near.root + key]) == 4 for key in near.used.values())
    return 2 * known < known + sum(len(shapes[near.root + key]) == 4 for key in near.unexplained)


def _inferred(
    trees: Mapping[str, list[str]], shapes: Mapping[str, tuple[int, ...]], reading: Reading
) -> tuple[list[Match], dict[str, Certainty]]:
    """The sub-trees that are a ResNet by shapes and order alone, and how sure each is."""
    found: list[Match] = []
    certainty: dict[str, Certainty] = {}
    doubts: list[FamilyError] = []
    for root, keys in trees.items():
        try:
            structure = infer_structure({key: shapes[root + key] for key in keys})
        except FamilyError as error:
            doubts.append(error)
            continue
        copy: Copy = "ema" if is_averaged(root) else "raw"
        if structure is None or reading.weights not in ("auto", copy):
            continue
        if structure.unexplained and not reading.allow_unused:
            doubts.append(unexplained(structure, len(keys)))
            continue
        dropped = {**structure.dropped, **dict.fromkeys(structure.unexplained, ALLOWED)}
        found.append(Match(_STRUCTURE, root, structure.used, dropped, (), ()))
        certainty[root] = structure.certainty
    if doubts and not found:
        raise doubts[-1]
    return found, certainty


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
    refusal = no_fit(near or matches)
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


def _unknown(best: Match, architecture: ResNetArchitecture) -> tuple[str, ...]:
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
