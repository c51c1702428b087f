"""VGGs with BatchNorm in the files of others, whose convolutions and norms are numbered in one list, ``features``.

The numbers are places of layers: convolution, BatchNorm, activation, and a max-pool at times. So the step from one
convolution to the next tells whether a pool stands between them. The last pool stands behind all that is numbered, as
in every network of these names. Linear layers are ``classifier`` or numbered in it. Biases of the convolutions are not
explained here: :mod:`idsnn_cli.families.folding` folds them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt
from typing import NoReturn

from idsnn_cli.errors import FamilyError, UsageError
from idsnn_cli.families.activations import no_thresholds
from idsnn_cli.families.choosing import prefix_of
from idsnn_cli.families.reading import ALLOWED, INPUT_NORMALISATION, NEURONS, Copy, Reading, Recognised
from idsnn_cli.families.surroundings import BESIDE, DROPPED_LEAVES, is_averaged, is_known, preference, roots
from idsnn_cli.families.words import MAY_BE_DROPPED, grouped, shown
from idsnn_cli.networks.vgg.architecture import VGGArchitecture

Shapes = Mapping[str, tuple[int, ...]]
VGG = "Give the state dict of a VGG with BatchNorm, as torchvision's vgg16_bn is."
_NUMBERED = re.compile(r"(features|classifier)\.(?:module\.)?(?:(\d+)\.)?([a-z_]+)")
_NORM = ("weight", "bias", "running_mean", "running_var")
# From one convolution to the next: BatchNorm, activation, the next; or a max-pool between.
_BESIDE, _POOLED = 3, 4


@dataclass(frozen=True, slots=True)
class _Found:
    """A network's tensors by canonical name, their keys in the file without its ``root``."""

    architecture: VGGArchitecture
    keys: Mapping[str, str]
    scheme: str
    has_head: bool
    beside: tuple[str, ...]


def recognise_vgg(original: Mapping[str, str], shapes: Shapes, reading: Reading) -> Recognised | None:
    """The VGG in a file, by ``reading`` where there is a choice; None where its names are not those of one.

    ``original`` leads from keys without the parts of wrappers to the file's, whose ``shapes`` are. Raises
    :class:`FamilyError` where it is a VGG by its names that cannot be described, or lacks what is asked for.
    """
    if reading.scheme is not None:
        return None
    within = "" if reading.root is None else prefix_of(reading.root)
    plain = {key: tuple(shapes[other]) for key, other in original.items()}
    trees = {
        root: {key: plain[root + key] for key in keys}
        for root, keys in roots(plain).items()
        if root.startswith(within) and is_known(root.removeprefix(within))
    }
    trees = {root: inside for root, inside in trees.items() if _is_vgg(inside)}
    if not trees:
        return None
    copies: tuple[Copy, ...] = tuple(dict.fromkeys(map(_copy, trees)))
    wanted = [root for root in trees if reading.weights in ("auto", _copy(root))]
    if not wanted:
        words = {"ema": "averaged (EMA)", "raw": "raw"}[reading.weights]
        raise FamilyError(f"there are no {words} weights in it.", "Leave --weights out (teacher.weights in a recipe).")
    root = min(wanted, key=preference)
    found = _read(trees[root], root, reading)
    _require_read_so(reading)
    used = {root + key for key in found.keys.values()}
    dropped = {other: _reason(key, root, found) for key, other in original.items() if key not in used}
    notes = (f"left out, as is allowed: {grouped(found.beside, 4)}",) if found.beside else ()
    return Recognised(
        scheme=found.scheme,
        architecture=found.architecture,
        names={name: original[root + key] for name, key in found.keys.items()},
        dropped=dropped,
        unknown=(INPUT_NORMALISATION, NEURONS),
        has_head=found.has_head,
        ending="" if found.has_head else "has no linear layer",
        root=root,
        copy=_copy(root),
        copies=copies,
        notes=notes,
    )


def _copy(root: str) -> Copy:
    return "ema" if is_averaged(root) else "raw"


def _is_vgg(shapes: Shapes) -> bool:
    """Whether all of ``features`` is numbered in one list, and its kernels are 3x3."""
    inside = {key: shape for key, shape in shapes.items() if key.startswith("features.")}
    kernels = [shape for key, shape in inside.items() if len(shape) == 4]
    plain = all(
        (at := _NUMBERED.fullmatch(key)) and at[2] for key in inside if key.split(".")[-1] not in DROPPED_LEAVES
    )
    return len(kernels) > 1 and plain and all(shape[2:] == (3, 3) for shape in kernels)


def _require_read_so(reading: Reading) -> None:
    if reading.lenient:
        return
    if reading.levels is not None:
        raise no_thresholds()
    if reading.option_a is not None:
        raise FamilyError(
            "a VGG has no shortcuts: there are no zeros to place.",
            "Leave --option-a out (teacher.option_a in a recipe).",
        )


def _reason(key: str, root: str, found: _Found) -> str:
    if key.rpartition(".")[2] in DROPPED_LEAVES:
        return DROPPED_LEAVES[key.rpartition(".")[2]]
    if key.startswith(root) and key.removeprefix(root) in found.beside:
        return ALLOWED
    return BESIDE.get(key.partition(".")[0], f"outside '{root}', which holds the network")


def _read(shapes: Shapes, root: str, reading: Reading) -> _Found:
    """What the tensors of one sub-tree are."""
    layers: dict[str, dict[int, dict[str, str]]] = {"features": {}, "classifier": {}}
    beside = []
    for key in shapes:
        at = _NUMBERED.fullmatch(key)
        if key.rpartition(".")[2] in DROPPED_LEAVES:
            continue
        if at is None or (at[1] == "features" and at[2] is None):
            if key.partition(".")[0] not in BESIDE:
                beside.append(key)
            continue
        layers[at[1]].setdefault(-1 if at[2] is None else int(at[2]), {})[at[3]] = key
    vital = [key for key in beside if key.startswith(("features.", "classifier."))]
    if vital or (beside and not reading.allow_unused):
        _unexplained(vital or beside, root, len(shapes))
    body = _Body(shapes, root, layers["features"])
    ends = _Ends(shapes, root, layers["classifier"], body.widths[-1])
    try:
        architecture = VGGArchitecture.of(
            kind="ann",
            depths=(body.counts[0] - 1, *body.counts[1:]),
            widths=tuple(body.widths),
            num_classes=ends.classes,
            in_channels=body.in_channels,
            head_widths=ends.widths,
            head_side=ends.side,
        )
    except UsageError as error:
        raise FamilyError(f"a VGG that cannot be described: {error.message}.", error.fix or VGG) from error
    own = architecture.tensors()
    keys = dict(zip((n for n in own if n.startswith(("stem.", "stages."))), body.keys_in_order(), strict=True))
    if ends.keys:
        keys |= dict(zip((n for n in own if n.startswith(("hidden.", "head."))), ends.keys, strict=True))
    kept = {name: key for name, key in keys.items() if key is not None}
    for name, key in kept.items():
        if shapes[key] != own[name]:
            _refuse(f"{shown(root + key)} is {list(shapes[key])} where {list(own[name])} fits")
    if body.biases:
        _unexplained(body.biases, root, len(shapes))
    return _Found(architecture, kept, _scheme(layers, ends.side, shapes), bool(ends.keys), tuple(beside))


class _Body:
    """The convolutions and norms of ``features``. Raises :class:`FamilyError` where they are no VGG's."""

    def __init__(self, shapes: Shapes, root: str, layers: dict[int, dict[str, str]]) -> None:
        self.layers, self.root = layers, root
        self.places = sorted(
            at
            for at, leaves in layers.items()
            if len(shapes[leaves.get("weight", "")] if "weight" in leaves else ()) == 4
        )
        if not any("running_mean" in leaves for leaves in layers.values()):
            raise FamilyError(
                f"a VGG without BatchNorm: known, but not supported. It shows in "
                f"{grouped((root + key for at in self.places[:2] for key in layers[at].values()), 2)}.",
                VGG,
            )
        if self.places[0] != 0:
            _refuse(f"{shown(root)} begins its features with layer {self.places[0]}, which is not the first")
        self.counts, self.widths = [0], [0]
        before = None
        self.in_channels = entry = shapes[layers[0]["weight"]][1]
        for at in self.places:
            kernel = layers[at]["weight"]
            step = _BESIDE if before is None else at - before
            if step not in (_BESIDE, _POOLED):
                _refuse(
                    f"between {shown(f'{root}features.{before}')} and {shown(root + kernel)} stand {step - 1} layers"
                )
            if step == _POOLED:
                self.counts.append(0)
                self.widths.append(0)
            out = shapes[kernel][0]
            if self.widths[-1] not in (0, out) or shapes[kernel][1] != entry:
                _refuse(
                    f"{shown(root + kernel)} is {list(shapes[kernel])}, but there are {entry} channels before it, "
                    f"and its stage has {self.widths[-1] or out}"
                )
            self.counts[-1] += 1
            self.widths[-1] = entry = out
            before = at
            norm = layers.get(at + 1, {})
            lacking = [leaf for leaf in _NORM if leaf not in norm]
            if lacking:
                _refuse(f"the BatchNorm {shown(f'{root}features.{at + 1}')} lacks {', '.join(lacking)}")
            bias = layers[at].get("bias")
            if bias is not None and shapes[bias] != (out,):
                _refuse(f"{shown(root + bias)} is {list(shapes[bias])} where [{out}] fits")
        self.biases = [layers[at]["bias"] for at in self.places if "bias" in layers[at]]
        known = {at + more for at in self.places for more in (0, 1)}
        leaves = {at: {"weight", "bias"} if at in self.places else {*_NORM, "num_batches_tracked"} for at in known}
        odd = [key for at, of in layers.items() for leaf, key in of.items() if leaf not in leaves.get(at, ())]
        if odd:
            _unexplained(odd, root, len(shapes))

    def keys_in_order(self) -> list[str | None]:
        """Of each convolution its kernel, then its norm's; None for a batch counter that the file lacks."""
        found: list[str | None] = []
        for at in self.places:
            norm = self.layers[at + 1]
            found += [self.layers[at]["weight"], *(norm[leaf] for leaf in _NORM), norm.get("num_batches_tracked")]
        return found


class _Ends:
    """The linear layers of ``classifier``, in order. Raises :class:`FamilyError` where they do not follow another."""

    def __init__(self, shapes: Shapes, root: str, layers: dict[int, dict[str, str]], channels: int) -> None:
        self.keys: list[str] = []
        self.widths: tuple[int, ...] = ()
        self.side, self.classes = 1, 1
        entries = channels
        outs: list[int] = []
        for at in sorted(layers):
            weight, bias = (layers[at].get(leaf) for leaf in ("weight", "bias"))
            if weight is None or bias is None or len(layers[at]) > 2 or len(shapes[weight]) != 2:
                _refuse(f"{grouped((root + key for key in layers[at].values()), 1)} is no linear layer with its bias")
            out, into = shapes[weight]
            if (
                not outs
                and into != entries
                and into % channels == 0
                and isqrt(into // channels) ** 2 == into // channels
            ):
                self.side = isqrt(into // channels)
            elif into != entries:
                _refuse(f"{shown(root + weight)} is {list(shapes[weight])}, and what stands before it gives {entries}")
            self.keys += [weight, bias]
            outs.append(out)
            entries = out
        if outs:
            self.widths, self.classes = tuple(outs[:-1]), outs[-1]


def _scheme(layers: Mapping[str, Mapping[int, object]], side: int, shapes: Shapes) -> str:
    """Whose names these are."""
    numbers = sorted(layers["classifier"])
    if any(key.startswith("features.module.") for key in shapes) or numbers == [1, 4, 6]:
        return "chengyangfu-vgg"
    if numbers in ([], [-1]):
        return "kuangliu-vgg"
    return "torchvision-vgg" if side > 1 else "chenyaofo-vgg"


def _refuse(words: str) -> NoReturn:
    raise FamilyError(f"a VGG by its names, but {words}.", VGG)


def _unexplained(keys: list[str], root: str, total: int) -> NoReturn:
    vital = any(key.startswith(("features.", "classifier.")) for key in keys)
    raise FamilyError(
        f"{len(keys)} of {total} tensors of a VGG are not explained: {grouped((root + key for key in keys), 6)}.",
        VGG if vital else MAY_BE_DROPPED,
    )
