"""Which of a file's sub-trees is the network, by which table, and what of it is found by its shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from idsnn_cli.errors import FamilyError
from idsnn_cli.families.activations import is_threshold
from idsnn_cli.families.completing import Alike, Completed, complete, is_behind_something
from idsnn_cli.families.layout import infer
from idsnn_cli.families.matching import Match, match, source_name
from idsnn_cli.families.reading import ALLOWED, Copy, Reading
from idsnn_cli.families.refusals import nearest, no_fit, vital_keys
from idsnn_cli.families.regrouping import regroup
from idsnn_cli.families.scheme import Scheme
from idsnn_cli.families.schemes import SCHEMES
from idsnn_cli.families.structure import Certainty, infer_structure, is_sorted, unexplained
from idsnn_cli.families.surroundings import is_averaged, is_known, preference, roots, without_transparent
from idsnn_cli.families.tensor_parts import Shape
from idsnn_cli.families.words import grouped, listed, shown
from idsnn_cli.networks.resnet.architecture import ResNetArchitecture

# What a file is called whose names no table knows; an unknown network may spike.
_STRUCTURE = Scheme("structure", "shapes and order", (), spiking=True)
_MOST_OPEN = 500  # tensors that a table lacks and order may tell
_COPY_WORDS = {"ema": "averaged (EMA)", "raw": "raw"}


@dataclass(frozen=True)
class File:
    """The shapes by plain key, in the order of the file, and whether two keys hold the same values."""

    shapes: Mapping[str, Shape]
    alike: Alike

    def alike_under(self, root: str) -> Alike:
        """The same of keys without ``root`` before them."""
        return lambda key, other: self.alike(root + key, root + other)

    @cached_property
    def thresholds(self) -> list[str]:
        """Keys of activations' thresholds, which no table names."""
        return [key for key, shape in self.shapes.items() if is_threshold(key, shape)]


@dataclass(frozen=True, slots=True)
class Choice:
    """The ``match`` that is taken; ``others`` are the roots of further networks like it, and ``filled`` leads from the
    canonical modules that were found by their shape to those of the file.
    """

    match: Match
    copies: tuple[Copy, ...]
    others: tuple[str, ...]
    filled: Mapping[str, str]
    certainty: Certainty | None

    def notes(self) -> tuple[str, ...]:
        """What was chosen, in words."""
        found = []
        if self.others:
            every = listed((_under(root) for root in (self.match.root, *self.others)), 5)
            found.append(
                f"it holds {1 + len(self.others)} networks: {every}; the first is taken (--root PREFIX for another, "
                "teacher.root in a recipe)"
            )
        if self.filled:
            pairs = (f"{shown(self.match.root + module)} is read as {name}" for name, module in self.filled.items())
            title = self.match.scheme.title
            found.append(f"{listed(pairs, 4)}, by place, order and shape; the other names are those of {title}")
        allowed = [self.match.root + key for key, reason in self.match.dropped.items() if reason == ALLOWED]
        if allowed:
            count = "1 tensor is" if len(allowed) == 1 else f"{len(allowed)} tensors are"
            found.append(f"{count} left out, as is allowed: {grouped(allowed, 4)}")
        return tuple(found)


@dataclass(frozen=True, slots=True)
class Layout:
    """A description, and canonical tensor name -> key of the file."""

    architecture: ResNetArchitecture
    has_head: bool
    sources: Mapping[str, str]


def choose(file: File, reading: Reading) -> Choice:
    """The network that ``reading`` means. Raises :class:`FamilyError` where there is none, or it is not explained."""
    own = reading.scheme
    schemes = SCHEMES if own is None else (own, *(own.over(scheme) for scheme in SCHEMES))
    aside = set(file.thresholds)
    trees = _trees([key for key in file.shapes if key not in aside], reading.root)
    top = "" if reading.root is None else prefix_of(reading.root)
    tried = [match(scheme, root, keys) for root, keys in trees.items() for scheme in schemes]
    # Under a prefix that nobody knows a part of a network is no network.
    matches = _without_others([found for found in tried if found.begins or is_known(found.root.removeprefix(top))])
    fitting = [found for found in matches if found.fits]
    wanted = [found for found in fitting if reading.weights in ("auto", copy_of(found))]
    filled: dict[int, Mapping[str, str]] = {}
    certainty: dict[str, Certainty] = {}
    if not fitting and _unknown_names(matches, file.shapes):
        wanted, certainty = _inferred(trees, file.shapes, reading)
        fitting = wanted
    if not wanted:
        for each in _completed(matches, file, reading, tuple(dict.fromkeys(map(copy_of, fitting)))):
            wanted.append(each.match)
            filled[id(each.match)] = each.filled
        fitting = [*fitting, *wanted]
    best = min(wanted, key=lambda found: (*preference(found.root), -found.explained))
    copies: tuple[Copy, ...] = tuple(dict.fromkeys(map(copy_of, fitting)))
    return Choice(best, copies, _others(best, fitting), filled.get(id(best), {}), certainty.get(best.root))


def copy_of(found: Match) -> Copy:
    return "ema" if is_averaged(found.root) else "raw"


def prefix_of(root: str) -> str:
    """``root``, as a user wrote it, as what keys begin with."""
    plain = without_transparent(root.strip("."))
    return f"{plain}." if plain else ""


def laid_out(best: Match, shapes: Mapping[str, Shape], more: Mapping[str, str] | None = None) -> Layout:
    """The description that a match makes, with ``more`` tensors by canonical names. Raises :class:`FamilyError`."""
    sources = {name: best.root + key for name, key in best.used.items()} | dict(more or {})
    regrouped = regroup({name: shapes[key] for name, key in sources.items()})
    sources = {regrouped.renamed(name): key for name, key in sources.items()}

    def naming(name: str) -> str:
        key = sources.get(name) or best.root + (source_name(best.scheme, regrouped.original(name)) or name)
        return shown(key) if key == name else f"{shown(key)} ({name})"

    found = {name: _as_usual(name, shapes[key]) for name, key in sources.items()}
    architecture, has_head = infer(found, naming, best.scheme.projection, best.scheme.traits)
    return Layout(architecture, has_head, sources)


def _as_usual(name: str, shape: Shape) -> Shape:
    """A head's shape where it is stored as a 1x1 convolution's, and a gate's where it is stored as a linear layer's."""
    if name == "head.weight" and shape[2:] == (1, 1):
        return shape[:2]
    gate = name.endswith((".attention.reduce.weight", ".attention.expand.weight"))
    return (*shape, 1, 1) if gate and len(shape) == 2 else shape


def _trees(keys: list[str], root: str | None) -> dict[str, list[str]]:
    """The sub-trees to look at: of the whole file, or of what stands under ``root``."""
    if root is None:
        return roots(keys)
    prefix = prefix_of(root)
    inside = [key[len(prefix) :] for key in keys if key.startswith(prefix)]
    if not inside:
        firsts = dict.fromkeys(key.partition(".")[0] for key in keys if "." in key)
        raise FamilyError(
            f"no name of a tensor begins with {shown(prefix)}. They begin with {listed(map(shown, firsts), 6)}.",
            "Give --root one of these (teacher.root in a recipe).",
        )
    return {prefix + inner: rest for inner, rest in roots(inside).items()}


def _without_others(matches: list[Match]) -> list[Match]:
    """The matches, each without the whole networks that stand in modules of their own beside its keys."""
    networks = {found.root for found in matches if found.fits and found.whole}
    result = []
    for found in matches:
        inner = tuple(
            root[len(found.root) :] for root in networks if root != found.root and root.startswith(found.root)
        )
        beside = {key: f"of another network, under '{found.root}{at}'" for at in inner for key in _under_it(found, at)}
        if inner and found.has_blocks and not any(key.startswith(inner) for key in found.used.values()):
            rest = tuple(key for key in found.unexplained if key not in beside)
            found = replace(found, dropped={**found.dropped, **beside}, unexplained=rest)
        result.append(found)
    return result


def _under_it(found: Match, prefix: str) -> list[str]:
    return [key for key in found.unexplained if key.startswith(prefix)]


def _others(best: Match, fitting: list[Match]) -> tuple[str, ...]:
    """The roots of whole networks beside the one that is taken, of the same kind of weights."""
    seen = {best.root + key for key in (*best.used.values(), *_known_parts(best))}
    found = []
    for other in sorted(fitting, key=lambda each: -each.explained):
        keys = {other.root + key for key in other.used.values()}
        if copy_of(other) == copy_of(best) and not keys & seen:
            found.append(other.root)
            seen |= keys
    return tuple(found)


def _known_parts(best: Match) -> list[str]:
    """Keys that the table itself drops: a second encoder that belongs to the method is no choice."""
    reasons = {row.reason for row in best.scheme.rows if row.canonical is None}
    return [key for key, reason in best.dropped.items() if reason in reasons]


def _under(root: str) -> str:
    return f"under {shown(root)}" if root else "with nothing before its names"


def _unknown_names(matches: list[Match], shapes: Mapping[str, Shape]) -> bool:
    """Whether not even half of the kernels are named as any table would have it: else what is odd is to be said."""
    near = nearest(matches)
    known = sum(len(shapes[near.root + key]) == 4 for key in near.used.values())
    return 2 * known < known + sum(len(shapes[near.root + key]) == 4 for key in near.unexplained)


def _inferred(
    trees: Mapping[str, list[str]], shapes: Mapping[str, Shape], reading: Reading
) -> tuple[list[Match], dict[str, Certainty]]:
    """The sub-trees that are a ResNet by shapes and order alone, and how sure each is."""
    found: list[Match] = []
    certainty: dict[str, Certainty] = {}
    doubts: list[FamilyError] = []
    top = "" if reading.root is None else prefix_of(reading.root)
    for root, keys in trees.items():
        if not is_known(root.removeprefix(top)):
            continue
        # What a table of the user's own says holds; shapes and order say the rest.
        own = None if reading.scheme is None else match(reading.scheme, root, keys)
        aside = {} if own is None else own.dropped
        given = {} if own is None else own.used
        try:
            structure = infer_structure({key: shapes[root + key] for key in keys if key not in aside}, given)
        except FamilyError as error:
            doubts.append(error)
            continue
        copy: Copy = "ema" if is_averaged(root) else "raw"
        if structure is None or reading.weights not in ("auto", copy):
            continue
        if structure.inside or (structure.unexplained and not reading.allow_unused):
            doubts.append(unexplained(structure, len(keys)))
            continue
        dropped = {**aside, **structure.dropped, **dict.fromkeys(structure.unexplained, ALLOWED)}
        found.append(Match(_STRUCTURE, root, structure.used, dropped, (), ()))
        certainty[root] = structure.certainty
    if doubts and not found:
        raise doubts[-1]
    return found, certainty


def _completed(matches: list[Match], file: File, reading: Reading, copies: tuple[Copy, ...]) -> list[Completed]:
    """The nearest matches, each with what its table lacks, and without the unexplained keys that ``reading`` allows to
    leave out. Raises what is to be said of a file that is not explained.
    """
    near = [found for found in matches if reading.weights in ("auto", copy_of(found))]
    most = max((len(found.used) for found in near), default=0)
    if copies and not most:
        raise FamilyError(
            f"there are no {_COPY_WORDS[reading.weights]} weights in it, only {_COPY_WORDS[copies[0]]} ones.",
            "Take those: leave --weights out (teacher.weights=auto in a recipe).",
        )
    done = [
        complete(found, _shapes_under(found, file), file.alike_under(found.root))
        for found in near
        if 2 * len(found.used) >= most and found.has_blocks
    ]
    whole = [each for each in done if not each.match.unexplained and _describable(each.match, file)]
    if whole:
        fewest = min(len(each.filled) for each in whole)
        return [each for each in whole if len(each.filled) == fewest]
    fewest_filled = sorted(done, key=lambda each: len(each.filled))
    closest = nearest([each.match for each in fewest_filled] or near or matches)
    vital = vital_keys(closest)
    refusal = no_fit(closest, vital)
    ordered = None if refusal.known else _by_order(closest, file)
    if ordered is not None:
        return [ordered]
    left = closest.unexplained and not (reading.allow_unused and refusal.can_go_on)
    if left or not closest.has_blocks:
        raise refusal
    allowed = {**closest.dropped, **dict.fromkeys(closest.unexplained, ALLOWED)}
    filled = next((each.filled for each in done if each.match is closest), {})
    return [Completed(replace(closest, dropped=allowed, unexplained=()), filled)]


def _by_order(found: Match, file: File) -> Completed | None:
    """``found`` with what several modules could be, as the order of the file says; None where that says nothing."""
    known = {*found.used.values(), *found.unexplained}
    shapes = {key[len(found.root) :]: shape for key, shape in file.shapes.items() if key.startswith(found.root)}
    shapes = {key: shape for key, shape in shapes.items() if key in known}
    if not found.has_blocks or len(found.unexplained) > _MOST_OPEN or is_sorted(shapes):
        return None
    try:
        structure = infer_structure(shapes, found.used)
    except FamilyError:
        return None
    if structure is None or structure.dropped or structure.unexplained:
        return None
    more = {name: key for name, key in structure.used.items() if name not in found.used}
    filled = {name.rpartition(".")[0]: key.rpartition(".")[0] for name, key in more.items()}
    completed = replace(found, used={**found.used, **more}, unexplained=())
    return None if is_behind_something(filled) else Completed(completed, filled)


def _shapes_under(found: Match, file: File) -> dict[str, Shape]:
    keys = (*found.used.values(), *found.unexplained)
    return {key: file.shapes[found.root + key] for key in keys}


def _describable(found: Match, file: File) -> bool:
    try:
        laid_out(found, file.shapes)
    except FamilyError:
        return False
    return True
