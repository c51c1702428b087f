"""Which keys of a file a scheme's table explains, and under which names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from idsnn_cli.families.scheme import Row, Scheme
from idsnn_cli.families.surroundings import DROPPED_LEAVES

# The tensors of each kind of module.
LEAVES: dict[str, tuple[str, ...]] = {
    "conv": ("weight",),
    "norm": ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"),
    "head": ("weight", "bias"),
    "input": ("mean", "std"),
    "final_norm": ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"),
    "reduce": ("weight", "bias"),
    "expand": ("weight", "bias"),
    "mix": ("weight",),
}
_PLACEHOLDER = re.compile(r"\{([sbi])(?:\+(\d))?\}")
_MANY, _SAMPLE = 5_000, 300
_Table = tuple[re.Pattern[str], list[tuple[str, dict[str, int]]]]


@dataclass(frozen=True, slots=True)
class Match:
    """What one scheme makes of one sub-tree of a file.

    ``used`` is canonical tensor name -> key, ``dropped`` key -> reason; ``twice`` holds pairs of keys that would
    both be the same tensor. Keys are those of the sub-tree, without what stands around it.
    """

    scheme: Scheme
    root: str
    used: Mapping[str, str]
    dropped: Mapping[str, str]
    unexplained: tuple[str, ...]
    twice: tuple[tuple[str, str], ...]

    @property
    def explained(self) -> int:
        return len(self.used) + len(self.dropped)

    @property
    def whole(self) -> bool:
        """Whether there are a ResNet's blocks and its linear layer among what is used."""
        return "head.weight" in self.used and self.has_blocks

    @property
    def begins(self) -> bool:
        """Whether there are a stem and a first stage among what is used."""
        return all(any(name.startswith(part) for name in self.used) for part in ("stem.", "stages.0."))

    @property
    def has_blocks(self) -> bool:
        return any(name.startswith("stages.") for name in self.used)

    @property
    def fits(self) -> bool:
        """Whether every key is explained and there are a ResNet's blocks among them."""
        return not self.unexplained and self.has_blocks


def match(scheme: Scheme, root: str, keys: Sequence[str]) -> Match:
    """Explain the keys of a sub-tree by a scheme's table."""
    if len(keys) > _MANY:  # more than any ResNet has: not worth looking at all where a sample is strange
        sample = keys[:: len(keys) // _SAMPLE]
        if len(_explained(scheme, root, sample).unexplained) == len(sample):
            return Match(scheme, root, {}, {}, tuple(keys), ())
    return _explained(scheme, root, keys)


def _explained(scheme: Scheme, root: str, keys: Iterable[str]) -> Match:
    used: dict[str, str] = {}
    dropped: dict[str, str] = {}
    unexplained: list[str] = []
    twice: list[tuple[str, str]] = []
    modules: dict[str, str | None] = {}
    table = _table(scheme)
    for key in keys:
        module, _, leaf = key.rpartition(".")
        first_row = next((row for row, pattern in _patterns(scheme.first) if pattern.fullmatch(key)), None)
        if first_row is not None or leaf in DROPPED_LEAVES:
            dropped[key] = DROPPED_LEAVES[leaf] if first_row is None else first_row.reason
            continue
        if module not in modules:
            modules[module] = _canonical(table, module)
        canonical = modules[module]
        if canonical is not None and leaf in LEAVES[kind_of(canonical)]:
            first = used.setdefault(f"{canonical}.{leaf}", key)
            if first != key:
                twice.append((first, key))
            continue
        # Rows of single tensors, for names that have no last part.
        tensor = _canonical(table, key)
        if tensor is not None and _is_tensor(tensor):
            first = used.setdefault(tensor, key)
            if first != key:
                twice.append((first, key))
            continue
        row = _dropping_row(scheme, key)
        if row is None:
            unexplained.append(key)
        else:
            dropped[key] = row.reason
    return Match(scheme, root, used, dropped, tuple(unexplained), tuple(twice))


def _is_tensor(canonical: str) -> bool:
    module, _, leaf = canonical.rpartition(".")
    return leaf in LEAVES.get(kind_of(module), ())


def kind_of(canonical: str) -> str:
    """``conv``, ``norm``, ``head``, ``input``, ``final_norm`` or a part of attention, from a canonical module name."""
    last = canonical.rpartition(".")[2]
    return re.sub(r"(\{i(\+\d)?\}|[0-9]+)$", "", last)


def source_name(scheme: Scheme, canonical: str) -> str | None:
    """The key that a scheme gives a canonical tensor name, or None where it has no row for it."""
    module, _, leaf = canonical.rpartition(".")
    for row in scheme.rows:
        if row.canonical is None:
            continue
        whole = _is_tensor(row.canonical)
        found = re.fullmatch(_pattern(row.canonical), canonical if whole else module)
        if found is None:
            continue
        numbers = _numbers(row.canonical, found.groupdict())
        if min(numbers.values(), default=0) >= 0:
            return _fill(row.source, numbers) + ("" if whole else f".{leaf}")
    return None


def _fill(template: str, numbers: Mapping[str, int]) -> str:
    return _PLACEHOLDER.sub(lambda at: str(numbers[at[1]] + int(at[2] or 0)), template)


def _offsets(template: str) -> dict[str, int]:
    return {at[1]: int(at[2] or 0) for at in _PLACEHOLDER.finditer(template)}


def _numbers(template: str, written: Mapping[str, str]) -> dict[str, int]:
    """What the placeholders of ``template`` stand for where they are ``written`` so."""
    return {name: int(written[name]) - offset for name, offset in _offsets(template).items()}


def _canonical(table: _Table, module: str) -> str | None:
    expression, rows = table
    found = expression.fullmatch(module)
    if found is None or found.lastgroup is None:
        return None
    number = found.lastgroup.removeprefix("row")
    canonical, offsets = rows[int(number)]
    values = {name: int(found[f"{name}{number}"]) - offset for name, offset in offsets.items()}
    return _fill(canonical, values) if min(values.values(), default=0) >= 0 else None


@cache
def _table(scheme: Scheme) -> _Table:
    """All rows as one expression, whose outer groups are numbered as the rows are."""
    branches: list[str] = []
    rows: list[tuple[str, dict[str, int]]] = []
    for row in scheme.rows:
        if row.canonical is not None:
            branches.append(f"(?P<row{len(rows)}>{_pattern(row.source, str(len(rows)))})")
            rows.append((row.canonical, _offsets(row.source)))
    return re.compile("|".join(branches)), rows


def _pattern(template: str, suffix: str = "") -> str:
    parts = re.split(r"(\{[sbi](?:\+\d)?\}|\{\*\})", template)
    return "".join(_part(part, suffix) for part in parts)


def _part(part: str, suffix: str) -> str:
    if part == "{*}":
        return ".*"
    found = _PLACEHOLDER.fullmatch(part)
    return rf"(?P<{found[1]}{suffix}>0|[1-9][0-9]{{0,3}})" if found else re.escape(part)


def _dropping_row(scheme: Scheme, key: str) -> Row | None:
    return next((row for row, pattern in _patterns(scheme.rows) if pattern.fullmatch(key)), None)


@cache
def _patterns(rows: tuple[Row, ...]) -> list[tuple[Row, re.Pattern[str]]]:
    """The rows that drop."""
    drops = [row for row in rows if row.canonical is None]
    return [(row, re.compile(_pattern(row.source), re.DOTALL)) for row in drops]
