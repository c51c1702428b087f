"""From canonical names and shapes to the one architecture that has exactly these tensors."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from idsnn_cli.architecture import Architecture
from idsnn_cli.errors import FamilyError, UsageError
from idsnn_cli.families.odd_layouts import odd_layout
from idsnn_cli.families.scheme import Trait
from idsnn_cli.families.words import dims, listed
from idsnn_cli.networks.resnet.architecture import ResNetArchitecture
from idsnn_cli.networks.resnet.blocks import BLOCKS

Shape = tuple[int, ...]
Naming = Callable[[str], str]

_SUPPORTED = "Give a ResNet of basic or bottleneck blocks and BatchNorm, with a 3x3, 7x7 or deep stem."
_ORDER = "Store it as (out, in, height, width)."
_WHOLE = "Give the whole state dict of one network."
_BLOCK = re.compile(r"stages\.(\d+)\.(\d+)\.(.+)")


def infer(
    shapes: Mapping[str, Shape],
    naming: Naming,
    projection: str = "projection",
    traits: tuple[Trait, ...] = (),
) -> tuple[ResNetArchitecture, bool]:
    """The ANN description with these tensors, and whether they include a head.

    ``shapes`` is canonical tensor name -> shape; ``naming`` gives the words for a canonical name; ``projection`` is
    what a shortcut with weights is in the scheme and ``traits`` what else that fixes. Without a head, ``num_classes``
    is 1, a stand-in. Raises :class:`FamilyError` where no description has exactly these tensors.
    """
    try:
        return _infer(shapes, naming, projection, traits)
    except FamilyError as error:
        odd = odd_layout(shapes, naming) if error.fix == _WHOLE else None
        raise odd or error from None


def _infer(
    shapes: Mapping[str, Shape], naming: Naming, projection: str, traits: tuple[Trait, ...]
) -> tuple[ResNetArchitecture, bool]:
    depths = _depths(shapes, naming)
    _check_kernels(shapes, naming)
    _check_norms(shapes, naming)
    block = _block_kind(shapes, depths, naming)
    last_norm = any(name.startswith("final_norm.") for name in shapes)
    preactivation = _preactivation(shapes, last_norm, naming)
    firsts = [f"stages.{stage}.0" for stage in range(len(depths))]
    if preactivation:  # whose norms are as wide as what comes in
        inner = tuple(_get(shapes, f"{at}.conv0.weight", naming)[0] for at in firsts)
    else:
        inner = tuple(_length(shapes, f"{at}.norm0.weight", naming) for at in firsts)
    widths = inner if block == "basic" else _quarters(shapes, firsts, preactivation, naming)
    groups = _groups(shapes, depths, block, naming)
    stem, stem_widths = _stem(shapes, widths, preactivation, naming)
    attention, attention_sizes = _attention(shapes, len(depths), naming)
    has_head = any(name.startswith("head.") for name in shapes)
    first = "stem.0.conv.weight" if stem == "deep" else "stem.conv.weight"

    def describe(shortcut: str) -> ResNetArchitecture:
        return ResNetArchitecture.of(
            kind="ann",
            block=block,
            depths=depths,
            widths=widths,
            num_classes=_get(shapes, "head.weight", naming)[0] if has_head else 1,
            stem=stem,
            stem_padding=3 if stem == "7x7" else 1,
            shortcut=shortcut,
            in_channels=_get(shapes, first, naming)[1],
            groups=groups,
            inner_widths=() if inner == widths else inner,
            stem_widths=stem_widths,
            attention=attention,
            attention_sizes=attention_sizes,
            preactivation=preactivation,
            final_norm=last_norm or not preactivation,
            attention_bias=attention != "se" or any(name.endswith(".reduce.bias") for name in shapes),
            **_fixed(traits, block, groups),
        )

    expansion = BLOCKS[block].expansion
    if has_head:
        _check_head(shapes, widths[-1] * expansion, naming)
    try:
        architecture = describe(projection)
        wanted = [name for name in architecture.tensors() if ".shortcut." in name]
        bare = bool(wanted) and not any(".shortcut." in name for name in shapes)
        architecture = describe("pad") if bare and block == "basic" else architecture
    except UsageError as error:
        raise FamilyError(f"a ResNet that cannot be described: {error.message}.", _SUPPORTED) from error
    _compare(shapes, architecture, has_head, naming)
    return architecture, has_head


def _fixed(traits: tuple[Trait, ...], block: str, groups: int) -> dict[str, Any]:
    """The fields that a scheme fixes for networks of these blocks; of several for one field the first that holds."""
    kinds = {"any", block, *(("dense",) if block == "bottleneck" and groups == 1 else ())}
    usual = {"bottleneck_stride"} if block == "basic" else set()
    return {trait.field: trait.value for trait in reversed(traits) if trait.where in kinds and trait.field not in usual}


def _depths(shapes: Mapping[str, Shape], naming: Naming) -> tuple[int, ...]:
    blocks: dict[int, set[int]] = {}
    for name in shapes:
        found = _BLOCK.fullmatch(name)
        if found is not None:
            blocks.setdefault(int(found[1]), set()).add(int(found[2]))
    for stage in range(max(blocks, default=0)):
        if stage not in blocks:
            raise FamilyError(
                f"stage {stage} (from 0) of {max(blocks) + 1} is missing: "
                f"there is no {naming(f'stages.{stage}.0.conv0.weight')}.",
                _WHOLE,
            )
    for stage, numbers in blocks.items():
        for number in range(max(numbers)):
            if number not in numbers:
                raise FamilyError(
                    f"block {number} (from 0) of stage {stage} is missing: "
                    f"there is no {naming(f'stages.{stage}.{number}.conv0.weight')}.",
                    _WHOLE,
                )
    return tuple(len(blocks[stage]) for stage in sorted(blocks))


def _check_kernels(shapes: Mapping[str, Shape], naming: Naming) -> None:
    for name, shape in shapes.items():
        if not re.search(r"conv\d*\.weight$", name):
            continue
        if len(shape) != 4:
            raise FamilyError(f"{naming(name)} has shape {dims(shape)}, but a convolution has 4 axes.", _SUPPORTED)
        if shape[2] != shape[3]:
            turned = shape[0] == shape[1] and shape[0] in (1, 3, 7)
            why = "its axes look transposed (height, width, in, out)" if turned else "its kernel is not square"
            raise FamilyError(
                f"{naming(name)} has shape {dims(shape)}: {why}.", "Store it as (out, in, height, width)."
            )
    stem = shapes.get("stem.conv.weight", (0, 0, 3, 3))
    if stem[2] not in (3, 7):
        raise FamilyError(
            f"{naming('stem.conv.weight')} has a {stem[2]}x{stem[3]} kernel: not supported yet.", _SUPPORTED
        )


def _check_norms(shapes: Mapping[str, Shape], naming: Naming) -> None:
    """Raise :class:`FamilyError` where there are norms, and none that keeps statistics."""
    norms = [name for name in shapes if re.search(r"norm\d*\.weight$", name)]
    if norms and not any(name.endswith((".running_mean", ".running_var")) for name in shapes):
        trait = "norms without running statistics (GroupNorm, as BiT has)"
        raise _unsupported(trait, norms[-1], shapes, naming)


def _block_kind(shapes: Mapping[str, Shape], depths: tuple[int, ...], naming: Naming) -> str:
    """What all blocks are; where some have a third convolution and norm and others neither, they are of both kinds."""
    blocks = [f"stages.{stage}.{block}" for stage, depth in enumerate(depths) for block in range(depth)]
    thirds = [f"{at}.conv2.weight" for at in blocks if f"{at}.conv2.weight" in shapes]
    plain = [at for at in blocks if not any(name.startswith((f"{at}.conv2.", f"{at}.norm2.")) for name in shapes)]
    if thirds and plain:
        raise _unsupported("basic and bottleneck blocks in one network", thirds[0], shapes, naming)
    return "bottleneck" if thirds else "basic"


def _preactivation(shapes: Mapping[str, Shape], found: bool, naming: Naming) -> bool:
    """Whether norms stand before the convolutions: there is a last norm, or none behind the stem and theirs fit so."""
    if not found and not any(re.match(r"stem\.(\d+\.)?norm\.", name) for name in shapes):
        firsts = [name.rpartition(".norm0.")[0] for name in shapes if name.endswith(".norm0.weight")]
        kernels = {at: shapes.get(f"{at}.conv0.weight", ())[:2] for at in firsts}
        unequal = [at for at, kernel in kernels.items() if len(set(kernel)) == 2]
        return bool(unequal) and all(shapes[f"{at}.norm0.weight"] == kernels[at][1:] for at in unequal)
    return found


def _quarters(shapes: Mapping[str, Shape], blocks: list[str], preactivation: bool, naming: Naming) -> tuple[int, ...]:
    """A quarter of the output of these bottlenecks."""
    names = [f"{at}.{'conv2' if preactivation else 'norm2'}.weight" for at in blocks]
    outer = [_get(shapes, name, naming)[0] if preactivation else _length(shapes, name, naming) for name in names]
    for name, width in zip(names, outer, strict=True):
        if width % 4:
            raise _unsupported(f"bottlenecks of {width} channels, no multiple of 4", name, shapes, naming)
    return tuple(width // 4 for width in outer)


def _groups(shapes: Mapping[str, Shape], depths: tuple[int, ...], block: str, naming: Naming) -> int:
    """The groups of the second convolutions: what goes in over what one of their kernels reads."""
    groups: set[float] = set()
    for stage, depth in enumerate(depths):
        for at in (f"stages.{stage}.{number}" for number in range(depth)):
            first, second = (shapes.get(f"{at}.conv{i}.weight", (0, 0)) for i in (0, 1))
            groups.add(first[0] / second[1] if second[1] else 0)
    if min(groups) <= 1:  # more in some blocks alone would be a wrong shape
        return 1
    if block == "basic" or len(groups) > 1 or min(groups) % 1:
        counts = "-".join(f"{count:g}" for count in sorted(groups))
        raise _unsupported(f"{counts} groups", "stages.0.0.conv1.weight", shapes, naming)
    return int(min(groups))


def _stem(
    shapes: Mapping[str, Shape], widths: tuple[int, ...], bare: bool, naming: Naming
) -> tuple[str, tuple[int, ...]]:
    """The stem's kind and its ``stem_widths``; ``bare`` has no norm behind its last convolution."""
    numbers = [int(found[1]) for found in map(re.compile(r"stem\.(\d+)\.").match, shapes) if found]
    if numbers:
        # A deep stem of less than two convolutions lacks some.
        count = max(2, min(max(numbers) + 1, 8))
        return "deep", tuple(_get(shapes, f"stem.{i}.conv.weight", naming)[0] for i in range(count))
    width = _stem_width(shapes, widths, bare, naming)
    kernel = _get(shapes, "stem.conv.weight", naming)[2]
    return "3x3" if kernel == 3 else "7x7", () if width == widths[0] else (width,)


def _stem_width(shapes: Mapping[str, Shape], widths: tuple[int, ...], bare: bool, naming: Naming) -> int:
    conv = _get(shapes, "stem.conv.weight", naming)
    stem = conv[0] if bare else _length(shapes, "stem.norm.weight", naming)
    if conv[1] == stem != conv[0]:
        raise FamilyError(f"{naming('stem.conv.weight')} has shape {dims(conv)}: its axes look transposed.", _ORDER)
    # Where norm, convolution and first block disagree one of them is wrong, and the comparison says so.
    reads = shapes.get("stages.0.0.conv0.weight", (0, 0))[1]
    return stem if stem == conv[0] == reads else widths[0]


def _attention(shapes: Mapping[str, Shape], stages: int, naming: Naming) -> tuple[str, tuple[int, ...]]:
    """The kind of attention and its ``attention_sizes``."""
    parts = {name.split(".")[4] for name in shapes if ".attention." in name}
    if not parts:
        return "none", ()
    kind = "eca" if parts == {"mix"} else "se"
    names = [f"stages.{stage}.0.attention.{'mix' if kind == 'eca' else 'reduce'}.weight" for stage in range(stages)]
    found = [_get(shapes, name, naming) for name in names]
    for name, shape in zip(names, found, strict=True):
        if kind == "eca" and (len(shape) != 3 or shape[:2] != (1, 1) or shape[2] % 2 == 0):
            raise _unsupported("an ECA that is no convolution over neighbours", name, shapes, naming)
        if kind == "se" and len(shape) != 4:
            raise _unsupported("squeeze-and-excitation that is not of 1x1 convolutions", name, shapes, naming)
    return kind, tuple(shape[2] if kind == "eca" else shape[0] for shape in found)


def _check_head(shapes: Mapping[str, Shape], features: int, naming: Naming) -> None:
    shape = _get(shapes, "head.weight", naming)
    classes = shapes.get("head.bias", ())
    if len(shape) != 2:
        raise _unsupported("a head that is no linear layer", "head.weight", shapes, naming)
    if shape[1] == features and shape[0] > 0:
        return
    if shape[0] == features and classes == (shape[1],):
        raise FamilyError(
            f"{naming('head.weight')} has shape {dims(shape)}: its axes look transposed.", "Store it as (classes, in)."
        )
    later = " A later stage looks missing." if shape[1] and shape[1] % features == 0 else ""
    raise FamilyError(
        f"{naming('head.weight')} reads {shape[1]} channels, but the last stage gives {features}.{later}", _WHOLE
    )


def _compare(shapes: Mapping[str, Shape], architecture: Architecture, has_head: bool, naming: Naming) -> None:
    expected = architecture.tensors()
    normalised = any(name.startswith("input.") for name in shapes)
    missing = [
        name
        for name in expected
        if name not in shapes
        and not name.endswith("num_batches_tracked")
        and (normalised or not name.startswith("input."))
        and (has_head or not name.startswith("head."))
    ]
    if missing:
        raise FamilyError(f"{_count(missing, 'tensor')} missing: {listed(map(naming, missing), 3)}.", _WHOLE)
    extra = [name for name in shapes if name not in expected]
    if extra:
        what = "projections where the shortcut should be an identity" if ".shortcut." in extra[0] else "other blocks"
        raise FamilyError(
            f"{architecture.name} with {what}: not supported yet: {listed(map(naming, extra), 3)}.", _SUPPORTED
        )
    wrong = [name for name, shape in shapes.items() if shape != expected[name]]
    if wrong:
        found = listed((_mismatch(name, shapes[name], expected[name], naming) for name in wrong), 3)
        raise FamilyError(f"{_count(wrong, 'tensor')} not as the rest of the network has it: {found}.", _WHOLE)


def _mismatch(name: str, found: Shape, expected: Shape, naming: Naming) -> str:
    turned = len(found) > 1 and sorted(found) == sorted(expected)
    return f"{naming(name)} is {dims(found)} where {dims(expected)} fits" + (", its axes transposed" if turned else "")


def _count(names: list[str], noun: str) -> str:
    return f"{len(names)} {noun}{' is' if len(names) == 1 else 's are'}"


def _unsupported(trait: str, name: str, shapes: Mapping[str, Shape], naming: Naming) -> FamilyError:
    return FamilyError(
        f"a ResNet with {trait}: known, but not supported yet ({naming(name)} is {dims(shapes[name])}).", _SUPPORTED
    )


def _get(shapes: Mapping[str, Shape], name: str, naming: Naming) -> Shape:
    if name not in shapes:
        raise FamilyError(f"1 tensor is missing: {naming(name)}.", _WHOLE)
    return shapes[name]


def _length(shapes: Mapping[str, Shape], name: str, naming: Naming) -> int:
    shape = _get(shapes, name, naming)
    if len(shape) != 1 or shape[0] < 1:
        raise FamilyError(f"{naming(name)} has shape {dims(shape)}, but a BatchNorm's has one axis.", _SUPPORTED)
    return shape[0]
