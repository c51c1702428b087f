"""Which family's ResNet a checkpoint holds, from its tensors' names and shapes alone."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet

from idsnn_cli.architecture import QCFS
from idsnn_cli.errors import FamilyError, UsageError
from idsnn_cli.families.activations import (
    is_of_neuron,
    levels_unknown,
    no_thresholds,
    odd_thresholds,
    own_thresholds,
    place_thresholds,
    shape_of_limit,
)
from idsnn_cli.families.choosing import File, Layout, choose, copy_of, laid_out, prefix_of
from idsnn_cli.families.completing import Alike, head_beside
from idsnn_cli.families.learnt_decays import place_decays
from idsnn_cli.families.matching import Match
from idsnn_cli.families.reading import (
    AVERAGED_SHORTCUTS,
    BOTTLENECK_STRIDE,
    INPUT_NORMALISATION,
    MEMBRANES,
    NEURONS,
    OPTION_A_CHANNELS,
    STEM_STRIDE,
    Reading,
    Recognised,
)
from idsnn_cli.families.refusals import RESNET
from idsnn_cli.families.surroundings import BESIDE, WRAPPERS, without_transparent
from idsnn_cli.families.torchvision_tables import LEARNT_DECAY
from idsnn_cli.families.words import grouped, shown
from idsnn_cli.networks.resnet.architecture import ResNetArchitecture

_ANY_SHORTCUT = ("idsnn", "timm-resnetv2", "structure")
_MOST_TENSORS = 50_000
_OUTSIDE = "outside "


def never_alike(key: str, other: str) -> bool:
    """Of a caller who cannot tell: no two keys hold the same values."""
    return False


def recognise_resnet(
    shapes: Mapping[str, tuple[int, ...]], reading: Reading | None = None, alike: Alike = never_alike
) -> Recognised:
    """Recognise the ResNet whose tensors have these names and ``shapes``, by ``reading`` where there is a choice.

    Wrappers and prefixes are seen through: the sub-tree that a scheme's table explains whole is taken, and what stands
    beside it is dropped by name, but for a linear layer. A module that a table lacks is found by its shape where just
    one can be it. Where the names are not half known, shapes and order tell the layout. A block that ends its stage and
    changes the channels begins the next stage here, which is the same network. ``alike`` says whether two keys hold the
    same values. Every key ends used, dropped or unexplained. Raises :class:`FamilyError` where a key of the network
    stays unexplained, a tensor is missing or of another shape, where it is no ResNet that can be described, or where
    what ``reading`` wants is not there.
    """
    reading = reading or Reading()
    if not shapes:
        raise FamilyError("there are no tensors.", RESNET)
    if len(shapes) > _MOST_TENSORS:
        raise FamilyError(f"{len(shapes):,} tensors: no ResNet has so many.", RESNET)
    original = original_keys(shapes)
    file = File({key: tuple(shapes[original[key]]) for key in original}, lambda a, b: alike(original[a], original[b]))
    choice = choose(file, reading)
    best = choice.match
    if best.twice:
        first, second = (original[best.root + key] for key in best.twice[0])
        raise FamilyError(
            f"{shown(first)} and {shown(second)} are the same tensor by the names of {best.scheme.title}.",
            "Give the state dict of one network.",
        )
    layout = laid_out(best, file.shapes)
    head, ending = ({}, "") if layout.has_head or best.scheme.ending else _head_beside(best, layout, file, reading)
    layout = laid_out(best, file.shapes, head) if head else layout
    thresholds = [key for key in file.thresholds if key.startswith(best.root)]
    architecture, limits = _quantised(layout, best.root, file, thresholds, reading)
    architecture = _padded(architecture, reading)
    sources = {**layout.sources, **limits}
    dropped = _dropped(best, original, {*head.values(), *limits.values()})
    names = {name: original[sources[name]] for name in architecture.tensors() if name in sources}
    return Recognised(
        scheme=best.scheme.name,
        architecture=architecture,
        names=names,
        dropped=dropped,
        unknown=_unknown(best, architecture, choice.filled, reading),
        has_head=layout.has_head,
        ending="" if layout.has_head else best.scheme.ending or ending or "has no linear layer",
        root=best.root,
        copy=copy_of(best),
        copies=choice.copies,
        certainty=choice.certainty,
        neurons="told" if any(map(is_of_neuron, dropped)) else best.scheme.neurons,
        decays=place_decays((key for key, why in dropped.items() if why == LEARNT_DECAY), names, best.root),
        notes=(
            *choice.notes(),
            *([f"its linear layer is {shown(head['head.weight'])}"] if head else ()),
            *_notes_outside(dropped, set(best.used.values())),
        ),
    )


def _notes_outside(dropped: Mapping[str, str], used: AbstractSet[str]) -> list[str]:
    """What stands beside the network and is of no kind that is known, in words; copies of it are told of elsewhere."""
    beside = [
        key for key, reason in dropped.items() if reason.startswith(_OUTSIDE) and not _endings(key).intersection(used)
    ]
    if not beside:
        return []
    count = "1 tensor stands" if len(beside) == 1 else f"{len(beside)} tensors stand"
    return [f"{count} beside the network and {'is' if len(beside) == 1 else 'are'} not read: {grouped(beside, 4)}"]


def _endings(key: str) -> set[str]:
    parts = key.split(".")
    return {".".join(parts[at:]) for at in range(len(parts))}


def _padded(architecture: ResNetArchitecture, reading: Reading) -> ResNetArchitecture:
    """With the zeros of its option-A shortcuts where ``reading`` says that they are."""
    if reading.option_a is None or architecture.shortcut == "pad":
        return architecture if reading.option_a is None else architecture.changed(shortcut=reading.option_a)
    if reading.lenient:
        return architecture
    raise FamilyError(
        "its shortcuts have weights, or none changes the channels: there are no zeros to place.",
        "Leave --option-a out (teacher.option_a in a recipe).",
    )


def _head_beside(best: Match, layout: Layout, file: File, reading: Reading) -> tuple[dict[str, str], str]:
    """The linear layer beside the network, within what the user named."""
    within = "" if reading.root is None else prefix_of(reading.root)
    inside = {key: shape for key, shape in file.shapes.items() if key.startswith(within)}
    return head_beside(best.root, inside, layout.architecture.features, file.alike)


def _quantised(
    layout: Layout, root: str, file: File, keys: list[str], reading: Reading
) -> tuple[ResNetArchitecture, dict[str, str]]:
    """The description with the activations that learnt the thresholds ``keys``, and the key of each."""
    if not keys:
        if reading.levels is not None and not reading.lenient:
            raise no_thresholds()
        return layout.architecture, {}
    if reading.levels is None:
        raise levels_unknown(keys)
    inside = {key.removeprefix(root): file.shapes[key] for key in keys}
    used = {name: key.removeprefix(root) for name, key in layout.sources.items()}
    found = own_thresholds(inside) or place_thresholds(inside, used)
    given = {name: shape_of_limit(inside[key]) for name, key in found.used.items()}
    # The activation behind the last sum is that of blocks that add membranes.
    order = {"membranes": True} if "final_act.limit" in given else {}
    for limits in found.limits:
        try:
            architecture = layout.architecture.changed(activation="qcfs", levels=reading.levels, limits=limits, **order)
        except UsageError as error:
            raise FamilyError(f"a ResNet that cannot be described: {error.message}.", error.fix or RESNET) from error
        wanted = {name: shape for name, shape in architecture.tensors().items() if name.endswith(".limit")}
        if wanted == given:
            return architecture, {name: root + key for name, key in found.used.items()}
    raise odd_thresholds(keys, f"{len(given)} activations have one, and this network has {len(wanted)}")


def original_keys(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
    """Key without the parts of module wrappers -> key in the file. Raises :class:`FamilyError` for one key of two."""
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


def _dropped(best: Match, original: Mapping[str, str], also: AbstractSet[str]) -> dict[str, str]:
    """Why each key that is not used is not; ``also`` are used beside those of the match."""
    taken = {*(best.root + key for key in best.used.values()), *also}
    return {
        key: best.dropped[plain[len(best.root) :]] if plain.startswith(best.root) else _reason_outside(plain, best.root)
        for plain, key in original.items()
        if plain not in taken
    }


def _reason_outside(plain: str, root: str) -> str:
    first = plain.partition(".")[0]
    if first in BESIDE:
        return BESIDE[first]
    if first in WRAPPERS and root.partition(".")[0] in WRAPPERS and first != root.partition(".")[0]:
        return f"other weights; those under '{root}' were taken"
    return f"{_OUTSIDE}'{root}', which holds the network"


def _unknown(
    best: Match, architecture: ResNetArchitecture, filled: Mapping[str, str], reading: Reading
) -> tuple[str, ...]:
    fixed = {trait.field for trait in best.scheme.traits}
    told = {
        STEM_STRIDE: "stem_pool" in fixed,
        BOTTLENECK_STRIDE: architecture.block == "basic" or "bottleneck_stride" in fixed,
        # In these names alone both are the same.
        AVERAGED_SHORTCUTS: architecture.shortcut.startswith("pad")
        or not (best.scheme.name in _ANY_SHORTCUT or any(".shortcut." in name for name in filled)),
        OPTION_A_CHANNELS: architecture.shortcut != "pad" or reading.option_a is not None,
        # Nobody else's networks of these names have such blocks, and thresholds tell.
        MEMBRANES: best.scheme.name != "idsnn" or isinstance(architecture.activation, QCFS),
        INPUT_NORMALISATION: "input.mean" in best.used,
        NEURONS: not best.scheme.spiking,
    }
    return tuple(question for question, known in told.items() if not known)
