"""What a table leaves open, filled by what fits there: a stem, a norm, a shortcut or a linear layer of another name."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from idsnn_cli.errors import FamilyError
from idsnn_cli.families.matching import Match
from idsnn_cli.families.tensor_parts import Kind, Part, Shape, modules_of
from idsnn_cli.families.words import listed, shown

Place = tuple[int, int]
Alike = Callable[[str, str], bool]
_MOST_OPEN = 1_000  # modules that may be what a table lacks
_MOST_DOUBLES = 40  # modules that are compared value by value
_BLOCK = re.compile(r"stages\.(\d+)\.(\d+)\.(.+)")
_HEAD_WORDS = frozenset(
    ("fc", "head", "classifier", "linear", "last_linear", "cls", "clf", "output", "out", "logits", "logit", "final")
)
# Linear layers of other purposes than the classes that are meant.
_NO_HEAD = re.compile(r"proj|pred|aux|rot|contrast|ssl|embed|bottleneck|neck|domain|disc")


@dataclass(frozen=True, slots=True)
class Completed:
    """A match with what was open in it; ``filled`` leads from canonical modules to those of the file."""

    match: Match
    filled: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Role:
    """A module that the network needs: its name, kind, the prefix under which it stands, and which shapes fit."""

    name: str
    kind: Kind
    place: str | None
    fits: Callable[[Shape], bool]


def complete(found: Match, shapes: Mapping[str, Shape], alike: Alike) -> Completed:
    """``found`` with each module that its table lacks, where exactly one unexplained module can be that.

    ``shapes`` goes by the keys of the match's sub-tree, and ``alike`` says whether two of those hold the same values:
    a module that is stored twice is one. What several modules can be stays open.
    """
    found = _without_doubles(found, shapes, alike)
    parts, _ = modules_of({key: shapes[key] for key in found.unexplained})
    if not parts or not found.has_blocks or len(parts) > _MOST_OPEN:
        return Completed(found, {})
    prefixes = block_prefixes(found.used)
    chosen = _assigned(list(_roles(found, shapes, prefixes)), parts, list(prefixes.values()))
    if "head.weight" not in found.used and not found.scheme.ending:
        features = _features({name: shapes[key] for name, key in found.used.items()})
        rest = {module: part for module, part in parts.items() if module not in chosen.values()}
        outside = {module: part for module, part in rest.items() if not module.startswith(tuple(prefixes.values()))}
        head = linear_layer(outside, features, alike, named=False)
        chosen |= {} if head is None else {"head": head}
    if is_behind_something(chosen):
        chosen = {name: module for name, module in chosen.items() if ".shortcut." not in name}
    more = {f"{name}.{leaf}": key for name, module in chosen.items() for leaf, key in parts[module].tensors.items()}
    taken = {*more.values()}
    unexplained = tuple(key for key in found.unexplained if key not in taken)
    completed = replace(found, used={**found.used, **more}, unexplained=unexplained)
    return Completed(_without_doubles(completed, shapes, alike), chosen)


def _without_doubles(found: Match, shapes: Mapping[str, Shape], alike: Alike) -> Match:
    """``found`` without unexplained modules that hold the same values as one that is used: tied, and stored twice."""
    modules: dict[str, list[str]] = {}
    for key in found.unexplained:
        modules.setdefault(key.rpartition(".")[0], []).append(key)
    doubles: dict[str, str] = {}
    for keys in list(modules.values())[:_MOST_DOUBLES]:
        twins = [_twin(key, found.used.values(), shapes, alike) for key in keys]
        if all(twins):
            doubles |= {key: f"the same values as {shown(twin)}" for key, twin in zip(keys, twins, strict=True) if twin}
    rest = tuple(key for key in found.unexplained if key not in doubles)
    return replace(found, dropped={**found.dropped, **doubles}, unexplained=rest)


def _twin(key: str, used: Iterable[str], shapes: Mapping[str, Shape], alike: Alike) -> str | None:
    leaf = key.rpartition(".")[2]
    fitting = [other for other in used if other.rpartition(".")[2] == leaf and shapes[other] == shapes[key]]
    return next((other for other in fitting if alike(key, other)), None)


def block_prefixes(used: Mapping[str, str]) -> dict[Place, str]:
    """What the keys of each block, and of no other, begin with: ``layer2.0.``; ``used`` is canonical name -> key."""
    keys: dict[Place, list[list[str]]] = {}
    for name, key in used.items():
        at = _BLOCK.fullmatch(name)
        if at is not None:
            keys.setdefault((int(at[1]), int(at[2])), []).append(key.split("."))
    owners: dict[tuple[str, ...], set[Place]] = {}
    for place, each in keys.items():
        for parts in each:
            for length in range(1, len(parts)):
                owners.setdefault(tuple(parts[:length]), set()).add(place)
    found = {}
    for place, each in keys.items():
        for length in range(1, min(map(len, each))):
            start = tuple(each[0][:length])
            if owners[start] == {place} and all(tuple(parts[:length]) == start for parts in each):
                found[place] = ".".join(start) + "."
                break
    return found


def linear_layer(parts: Mapping[str, Part], features: int, alike: Alike, *, named: bool) -> str | None:
    """The module that gives the classes: it reads ``features`` and is the only layer of its container, but for a
    Dropout. None where there is no such, or several that differ. ``named`` takes only what is called as heads are.
    """
    fitting = []
    containers = Counter(module.partition(".")[0] for module in parts)
    for module, part in parts.items():
        alone = containers[module.partition(".")[0]] == 1
        if _reads(part, features) and alone and not _NO_HEAD.search(module.lower()):
            fitting.append(module)
    called = [module for module in fitting if is_called_head(module)]
    candidates = called if called or named else fitting
    first = parts[candidates[0]].tensors if candidates else {}
    one = all(alike(first[leaf], key) for each in candidates[1:] for leaf, key in parts[each].tensors.items())
    return candidates[0] if candidates and one else None


def head_beside(root: str, file: Mapping[str, Shape], features: int, alike: Alike) -> tuple[dict[str, str], str]:
    """The tensors of the linear layer that stands beside the network under ``root``, in the nearest module around it:
    canonical name -> key; else none, and in words what a network ends in whose layers there are several.
    """
    around = root
    while around:
        around = "".join(f"{part}." for part in around.split(".")[:-2])
        outside = {key: file[key] for key in file if key.startswith(around) and not key.startswith(root)}
        every, _ = modules_of({key[len(around) :]: shape for key, shape in outside.items()})
        parts = {
            module: replace(part, tensors={leaf: around + key for leaf, key in part.tensors.items()})
            for module, part in every.items()
            if is_called_head(module)
        }
        head = linear_layer(parts, features, alike, named=True)
        if head is not None:
            _refuse_between(head, every, features)
            return {f"head.{leaf}": key for leaf, key in parts[head].tensors.items()}, ""
        if parts:
            return {}, f"ends in no single linear layer (beside it are {listed(map(shown, parts), 3)})"
    return {}, ""


def _refuse_between(head: str, parts: Mapping[str, Part], features: int) -> None:
    """Raise :class:`FamilyError` for what may stand between the network and the linear layer beside it: a norm, or an
    activation, that is alone in its module.
    """
    containers = Counter(module.partition(".")[0] for module in parts)
    for module, part in parts.items():
        alone = containers[module.partition(".")[0]] == 1
        if alone and module != head and part.kind in ("norm", "other") and part.shape in ((features,), (1,)):
            raise FamilyError(
                f"{shown(module)} may stand between the network and its linear layer {shown(head)}.",
                "Give a network whose linear layer reads the mean of the last stage, or its backbone alone: --root "
                "PREFIX (teacher.root in a recipe).",
            )


def is_called_head(module: str) -> bool:
    """Whether a module's first word is what linear layers behind a network are called."""
    return re.sub(r"[\d_]+$", "", module.partition(".")[0].lower()) in _HEAD_WORDS


def _reads(part: Part, features: int) -> bool:
    shape = part.shape
    flat = len(shape) == 2 or (len(shape) == 4 and shape[2:] == (1, 1))
    return part.kind in ("linear", "convolution") and flat and shape[1] == features and "bias" in part.tensors


def _features(shapes: Mapping[str, Shape]) -> int:
    """Channels behind the last block."""
    last = max((int(at[1]), int(at[2])) for at in map(_BLOCK.fullmatch, shapes) if at)
    convolutions = (shapes.get(f"stages.{last[0]}.{last[1]}.conv{i}.weight", ()) for i in range(3))
    outer = [shape[0] for shape in convolutions if len(shape) == 4]
    return outer[-1] if outer else 0


def _roles(found: Match, every: Mapping[str, Shape], prefixes: Mapping[Place, str]) -> Iterable[_Role]:
    """What the network lacks, from the stem to the last block."""
    shapes = {name: every[key] for name, key in found.used.items()}
    places = sorted(prefixes)
    length = 3 if any(re.search(r"\.(conv|norm)2\.", name) for name in shapes) else 2
    kernels = [(1, 1), (3, 3), (1, 1)] if length == 3 else [(3, 3), (3, 3)]
    firsts = [f"stages.{stage}.{block}" for stage, block in places]
    first = shapes.get(f"{firsts[0]}.conv0.weight", ())
    before = "final_norm.weight" in shapes  # of the convolution that reads it, whose input it has
    if not any(re.match(r"stem\.\d", name) for name in shapes):
        yield from _stem_roles(shapes, first[1:2], before)
    entry = first[1] if len(first) == 4 else 0
    for place, at in zip(places, firsts, strict=True):
        outer = entry
        for i, kernel in enumerate(kernels):
            conv, norm = shapes.get(f"{at}.conv{i}.weight", ()), shapes.get(f"{at}.norm{i}.weight", ())
            if not conv:
                yield _Role(f"{at}.conv{i}", "convolution", prefixes[place], _kernel(kernel, () if before else norm))
            elif not norm:
                yield _Role(f"{at}.norm{i}", "norm", prefixes[place], _exactly(conv[1:2] if before else conv[:1]))
            outer = (conv[:1] or norm[:1] or (outer,))[0]
        ours = [name for name in shapes if name.startswith(f"{at}.shortcut.")]
        if entry != outer and not ours and found.scheme.projection != "average":
            yield _Role(f"{at}.shortcut.conv", "convolution", prefixes[place], _exactly((outer, entry, 1, 1)))
            if not before:
                yield _Role(f"{at}.shortcut.norm", "norm", prefixes[place], _exactly((outer,)))
        entry = outer


def _stem_roles(shapes: Mapping[str, Shape], width: Shape, before: bool) -> Iterable[_Role]:
    conv, norm = shapes.get("stem.conv.weight", ()), shapes.get("stem.norm.weight", ())
    if not conv:
        yield _Role(
            "stem.conv", "convolution", None, lambda shape: shape[2:] in ((3, 3), (7, 7)) and shape[:1] == width
        )
    if not norm and not before:
        yield _Role("stem.norm", "norm", None, _exactly(conv[:1] or width))


def _kernel(kernel: Shape, norm: Shape) -> Callable[[Shape], bool]:
    return lambda shape: shape[2:] == kernel and norm in ((), shape[:1])


def _exactly(wanted: Shape) -> Callable[[Shape], bool]:
    return lambda shape: shape == wanted


def _assigned(roles: list[_Role], parts: Mapping[str, Part], blocks: list[str]) -> dict[str, str]:
    """Canonical module -> module of the file, for each role that just one module is left for."""
    chosen: dict[str, str] = {}

    def candidates(role: _Role) -> list[str]:
        free = [
            module
            for module, part in parts.items()
            if module not in chosen.values()
            and part.kind == role.kind
            and role.fits(part.shape)
            and (module.startswith(role.place) if role.place else not module.startswith(tuple(blocks)))
        ]
        partner = chosen.get(re.sub(r"norm(\d*)$", r"conv\1", role.name), "")
        container = partner.rpartition(".")[0] + "."
        beside = [module for module in free if module.startswith(container) and container not in (".", role.place)]
        return beside or free

    while True:
        open_roles = [role for role in roles if role.name not in chosen]
        options = {role.name: candidates(role) for role in open_roles}
        single = next((role for role in open_roles if len(options[role.name]) == 1), None)
        if single is not None:
            chosen[single.name] = options[single.name][0]
            continue
        numbered = next(filter(None, (_numbered(name, options) for name in options)), None)
        if numbered is None:
            return chosen
        chosen |= numbered


def _numbered(name: str, options: Mapping[str, list[str]]) -> dict[str, str] | None:
    """As many modules as roles for them, whose names differ in one number alone: by that."""
    alike = [other for other, modules in options.items() if modules == options[name]]
    modules = options[name]
    if len(modules) != len(alike) or len({re.sub(r"\d+", "#", module) for module in modules}) != 1:
        return None
    in_order = sorted(modules, key=lambda module: [int(number) for number in re.findall(r"\d+", module)])
    return dict(zip(alike, in_order, strict=True))


def is_behind_something(chosen: Mapping[str, str]) -> bool:
    """Whether, of modules by their canonical names, a projection would stand second in its container: an average,
    perhaps, is before it.
    """
    convolutions = [module for name, module in chosen.items() if name.endswith(".shortcut.conv")]
    return any(module.rpartition(".")[2] in ("1", "2") for module in convolutions)
