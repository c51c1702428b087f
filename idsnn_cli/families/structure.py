"""A ResNet whose names nobody knows: its layout from shapes and order alone, and how sure that is."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from idsnn_cli.errors import FamilyError
from idsnn_cli.families.layout import infer
from idsnn_cli.families.paths import Path, PathBlock, paths
from idsnn_cli.families.tensor_parts import Part, Shape, parts_of
from idsnn_cli.families.words import MAY_BE_DROPPED, NEVER_DROPPED, dims, grouped, shown

_MOST = 10_000  # tensors; ResNet-1202 has 7,200
_OWN_TABLE = "Say which tensor is which in a table of your own: --scheme FILE (teacher.scheme in a recipe)."


@dataclass(frozen=True, slots=True)
class Certainty:
    """How sure a layout is that was inferred: a ``number`` from 0 to 1, the same in ``words``, and the ``reasons``."""

    number: float
    words: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Structure:
    """What shapes and order say: canonical tensor name -> key, and every other key as dropped or unexplained.

    ``inside`` are those unexplained that do not stand behind all blocks.
    """

    used: Mapping[str, str]
    dropped: Mapping[str, str]
    unexplained: tuple[str, ...]
    inside: tuple[str, ...]
    certainty: Certainty


@dataclass(slots=True)
class _Reading:
    """One way to read the parts, while it is put together."""

    path: Path
    preactivation: bool
    used: dict[str, str] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    unexplained: list[str] = field(default_factory=list)

    def use(self, module: str, part: Part) -> None:
        self.used.update({f"{module}.{leaf}": key for leaf, key in part.tensors.items()})

    def leave(self, parts: Iterable[Part], reason: str | None) -> None:
        """``reason`` says why these cannot be part of the path; None that they might be."""
        for part in parts:
            if reason is None:
                self.unexplained += part.keys
            else:
                self.dropped.update(dict.fromkeys(part.keys, reason))


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A norm that a reading needs: its name and length, and between which parts it may stand."""

    name: str
    length: int
    first: int
    last: int


def infer_structure(shapes: Mapping[str, Shape], given: Mapping[str, str]) -> Structure | None:
    """The one ResNet that tensors of these ``shapes``, in this order, can be; None where they can be none.

    ``given`` are keys that are known, by their canonical names. Raises :class:`FamilyError` where they can be two
    different ones.
    """
    if len(shapes) > _MOST:
        return None
    parts, named = parts_of(shapes)
    places = [at for at, part in enumerate(parts) if part.kind == "convolution" and "bias" not in part.tensors]
    readings: list[_Reading] = []
    for path in paths([parts[at].shape for at in places]):
        for preactivation in (False, True):
            reading = _read(parts, places, path, preactivation)
            agrees = reading is not None and all(reading.used.get(name) == key for name, key in given.items())
            if reading is not None and agrees and _is_network(reading, shapes) and not _is_mostly_else(reading):
                readings.append(reading)
    if not readings:
        return None
    fewest = min(len(reading.dropped) + len(reading.unexplained) for reading in readings)
    best = [each for each in readings if len(each.dropped) + len(each.unexplained) == fewest]
    first = best[0]
    for other in best[1:]:
        if other.used != first.used:
            raise _ambiguous(first, other)
    order = {key: place for place, key in enumerate(shapes)}
    last = max(order[key] for name, key in first.used.items() if name.startswith("stages."))
    inside = tuple(key for key in first.unexplained if order[key] < last)
    certainty = _certainty(first, named, in_order=not is_sorted(shapes))
    return Structure(first.used, first.dropped, tuple(first.unexplained), inside, certainty)


def is_sorted(keys: Iterable[str]) -> bool:
    """Whether keys are in the order of the alphabet, which need not be that of the layers."""
    return all(first <= second for first, second in itertools.pairwise(keys))


def _is_mostly_else(reading: _Reading) -> bool:
    """Whether so much stands beside the path that it is rather another network's part."""
    return 3 * (len(reading.dropped) + len(reading.unexplained)) > len(reading.used)


def _ambiguous(first: _Reading, other: _Reading) -> FamilyError:
    roles = {key: name for name, key in first.used.items()}
    others = {key: name for name, key in other.used.items()}
    key = next(key for key in (*roles, *others) if roles.get(key) != others.get(key))
    one, two = (found.get(key, "no part of the path") for found in (roles, others))
    return FamilyError(
        f"no naming scheme explains these tensors, and their shapes fit two different ResNets: "
        f"{shown(key)} may be {one} or {two}.",
        _OWN_TABLE,
    )


def _is_network(reading: _Reading, shapes: Mapping[str, Shape]) -> bool:
    found = {}
    for name, key in reading.used.items():
        shape = shapes[key]
        if name == "head.weight":
            shape = shape[:2]
        found[name] = (*shape, 1, 1) if ".attention." in name and len(shape) == 2 else shape
    try:
        infer(found, str)
    except FamilyError:
        return False
    return True


def _read(parts: list[Part], places: list[int], path: Path, preactivation: bool) -> _Reading | None:
    """The reading of all parts by one path through their convolutions; None where norms or gates do not fit it."""
    reading = _Reading(path, preactivation)
    blocks = [(block, f"stages.{s}.{b}") for s, stage in enumerate(path.stages()) for b, block in enumerate(stage)]
    stems = ["stem.conv"] if path.stem == 1 else [f"stem.{i}.conv" for i in range(path.stem)]
    for i, name in enumerate(stems):
        reading.use(name, parts[places[i]])
    for block, at in blocks:
        for i, position in enumerate(block.main):
            reading.use(f"{at}.conv{i}", parts[places[position]])
        if block.projection is not None:
            reading.use(f"{at}.shortcut.conv", parts[places[block.projection]])
    beside = _leave_dead(reading, parts, places)
    if not _use_norms(reading, parts, _wanted(parts, places, path, blocks, preactivation), beside):
        return None
    placed = {*reading.used.values(), *reading.dropped, *reading.unexplained}
    rest = [part for part in parts if placed.isdisjoint(part.keys)]
    heads = [part for part in rest if part.kind == "linear" and part.shape[1] == path.blocks[-1].outer]
    if heads:
        reading.use("head", heads[-1])
        rest.remove(heads[-1])
    for part in rest:
        if part.kind == "gate" and not _use_gate(reading, part, parts, places, blocks):
            return None
        if part.kind == "convolution":
            return None  # one with a bias
        if part.kind != "gate":
            reading.leave([part], None)
    return reading


def _leave_dead(reading: _Reading, parts: list[Part], places: list[int]) -> set[int]:
    """Set dead convolutions aside, and give the places of the norms that belong to them."""
    norms: set[int] = set()
    path = reading.path
    for position in path.dead:
        at, kernel = places[position], parts[places[position]].shape
        beside = [block for block in path.blocks if min(abs(position - i) for i in block.convolutions) <= 2]
        alike = any(parts[places[i]].shape == kernel for block in beside for i in block.convolutions)
        might = alike or (kernel[0] == kernel[1] and any(kernel[0] == block.outer for block in beside))
        own = [parts[at]]
        if at + 1 < len(parts) and parts[at + 1].kind == "norm" and parts[at + 1].shape == kernel[:1]:
            norms.add(at + 1)
            own.append(parts[at + 1])
        channels = beside[0].outer if beside else 0
        reason = f"never called: it is {dims(kernel)}, and no path reads or gives that beside {channels} channels"
        reading.leave(own, None if might else reason)
    return norms


def _wanted(
    parts: list[Part], places: list[int], path: Path, blocks: list[tuple[PathBlock, str]], preactivation: bool
) -> list[_Wanted]:
    """The norms that a reading needs, in the order of the file."""
    units: list[tuple[list[int], list[tuple[str, int]]]] = []
    last = path.stem - 1
    names = ["stem.norm"] if path.stem == 1 else [f"stem.{i}.norm" for i in range(path.stem)]
    stem = [(name, parts[places[i]].shape[0]) for i, name in enumerate(names)]
    units.append((list(range(path.stem)), stem[:last] if preactivation else stem))
    for block, at in blocks:
        norms = []
        for position in block.convolutions:
            shape = parts[places[position]].shape
            if position != block.projection:
                number = block.main.index(position)
                # Groups are in the second convolution, which reads what the first gives.
                entry = parts[places[block.main[0]]].shape[0] if number == 1 else shape[1]
                norms.append((f"{at}.norm{number}", entry if preactivation else shape[0]))
            elif not preactivation:
                norms.append((f"{at}.shortcut.norm", shape[0]))
        units.append((list(block.convolutions), norms))
    wanted = []
    for number, (_, norms) in enumerate(units):
        first = places[units[number - 1][0][-1]] if number else -1
        end = places[units[number + 1][0][0]] if number + 1 < len(units) else len(parts)
        wanted += [_Wanted(name, length, first, end) for name, length in norms]
    if preactivation:
        wanted.append(_Wanted("final_norm", path.blocks[-1].outer, places[units[-1][0][-1]], len(parts)))
    return wanted


def _use_norms(reading: _Reading, parts: list[Part], wanted: list[_Wanted], beside: set[int]) -> bool:
    """Give each norm that is wanted its tensors; False where some are lacking. The last one may be."""
    norms = [at for at, part in enumerate(parts) if part.kind == "norm" and at not in beside]
    if reading.preactivation and len(norms) < len(wanted):
        wanted = wanted[:-1]
    # Of as many as are wanted each has its place; of more, one behind a norm of its length is the doubtful one.
    order = norms if len(norms) == len(wanted) else [at for at in norms if not _repeats(parts, at)]
    for pool in (order, norms):
        chosen = _aligned(parts, wanted, pool)
        if chosen is not None:
            break
    else:
        return False
    for want, at in zip(wanted, chosen, strict=True):
        reading.use(want.name, parts[at])
    for at in norms:
        if at not in chosen:
            might = any(want.length == parts[at].shape[0] and want.first < at < want.last for want in wanted)
            reason = f"never called: no convolution beside it has {parts[at].shape[0]} channels"
            reading.leave([parts[at]], None if might else reason)
    return True


def _repeats(parts: list[Part], at: int) -> bool:
    return at > 0 and parts[at - 1].kind == "norm" and parts[at - 1].shape == parts[at].shape


def _aligned(parts: list[Part], wanted: list[_Wanted], norms: list[int]) -> list[int] | None:
    """For each that is wanted, in order, the first norm left that fits its length and place."""
    chosen: list[int] = []
    pending = iter(norms)
    for want in wanted:
        for at in pending:
            if parts[at].shape[0] == want.length and want.first < at < want.last:
                chosen.append(at)
                break
        else:
            return None
    return chosen


def _use_gate(
    reading: _Reading, gate: Part, parts: list[Part], places: list[int], blocks: list[tuple[PathBlock, str]]
) -> bool:
    here = parts.index(gate)
    before = [at for block, at in blocks if places[block.main[0]] < here]
    if not before:
        return False
    block = next(block for block, at in blocks if at == before[-1])
    name = f"{before[-1]}.attention"
    if any(used.startswith(name) for used in reading.used):
        return False
    if len(gate.shape) == 1:
        name += ".mix"
    elif gate.shape[1] != block.outer:
        return False
    reading.use(name, gate)
    return True


def _certainty(reading: _Reading, named: bool, in_order: bool) -> Certainty:
    path = reading.path
    doubts: list[tuple[float, str]] = []
    if not any(block.projection is not None for block in path.blocks):
        doubts.append((0.3, "no shortcut has weights, so a plain stack of convolutions would have the same shapes"))
    if reading.dropped:
        doubts.append((0.1, f"{len(reading.dropped)} tensors are part of no path"))
    if reading.unexplained:
        doubts.append((0.2, f"{len(reading.unexplained)} tensors that might be part of it are left out"))
    if "head.weight" not in reading.used:
        doubts.append((0.1, "there is no linear layer at its end"))
    if not in_order:
        doubts.append((0.3, "the names are in the order of the alphabet, which need not be that of the layers"))
    if not named:
        doubts.append((0.05, "gamma, beta, mean and variance of norms are told by their order alone"))
    doubts.append((0.02, "a block that changes the channels is taken as a stage's first, and as one that strides"))
    number = round(max(0.1, 1 - sum(size for size, _ in doubts)), 2)
    words = "sure" if number >= 0.9 else "fairly sure" if number >= 0.7 else "not sure"
    return Certainty(number, words, tuple(reason for _, reason in doubts))


def unexplained(structure: Structure, total: int) -> FamilyError:
    """The error for tensors that might be part of the network and that the structure has no place for."""
    return FamilyError(
        f"no naming scheme explains these tensors; their structure is a ResNet's but for {len(structure.unexplained)} "
        f"of {total}:\n{grouped(structure.unexplained, 6)}.",
        NEVER_DROPPED if structure.inside else MAY_BE_DROPPED,
    )
