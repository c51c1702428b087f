"""What a scheme is: rows of names in a file beside canonical ones, and what the family fixes that no name tells.

A row pairs the name of a module in the file with its canonical name. Placeholders are ``{s}`` stage, ``{b}`` block
and ``{i}`` convolution, counted from 0; ``{s+1}`` is the same number counted from 1, on either side. A canonical name
of None drops on purpose whatever tensors the pattern covers, with the reason beside it; ``{*}`` there is anything.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

# The blocks of which a trait holds; dense ones are bottlenecks without groups.
Where = Literal["any", "basic", "bottleneck", "dense"]
# Whether networks of these names spike: nothing says so; it has to be asked before one runs; the names themselves tell.
Neurons = Literal["unsaid", "asked", "told"]


@dataclass(frozen=True, slots=True)
class Row:
    """One module of a scheme: its name in the file, and the canonical one or None with the reason."""

    source: str
    canonical: str | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Trait:
    """A field of the description that every network of a family has, of the blocks that ``where`` says."""

    field: str
    value: str | bool | int
    where: Where = "any"


@dataclass(frozen=True, slots=True)
class Scheme:
    """The table of one family.

    ``spiking`` says that networks with neurons use the same names, ``neurons`` whether one of them is such a network,
    ``projection`` what a shortcut with weights is,
    ``traits`` what else the family fixes. ``ending`` says in words what the network ends in where that is no linear
    layer. ``first`` are rows that drop what other rows would explain. ``told`` says that ``projection`` was said by the
    user, whose own table it is.
    """

    name: str
    title: str
    rows: tuple[Row, ...]
    spiking: bool = False
    neurons: Neurons = "unsaid"
    projection: str = "projection"
    traits: tuple[Trait, ...] = ()
    ending: str = ""
    first: tuple[Row, ...] = ()
    told: bool = False

    def over(self, base: Scheme) -> Scheme:
        """A table of these rows and, for all that they do not say, those of ``base``."""
        return replace(
            base,
            name=self.name,
            title=f"{self.title}, and else {base.title}",
            rows=self.rows + base.rows,
            spiking=self.spiking,
            projection=self.projection if self.told else base.projection,
            first=tuple(row for row in self.rows if row.canonical is None),
        )


def rows(*pairs: tuple[str, str]) -> tuple[Row, ...]:
    return tuple(Row(source, canonical) for source, canonical in pairs)


def under(prefix: str, inner: tuple[Row, ...]) -> tuple[Row, ...]:
    return tuple(Row(prefix + row.source, row.canonical, row.reason) for row in inner)


def dropped(reason: str, *patterns: str) -> tuple[Row, ...]:
    return tuple(Row(pattern, None, reason) for pattern in patterns)


CONV, NORM = "stages.{s}.{b}.conv{i}", "stages.{s}.{b}.norm{i}"
SHORTCUT_CONV, SHORTCUT_NORM = "stages.{s}.{b}.shortcut.conv", "stages.{s}.{b}.shortcut.norm"
REDUCE, EXPAND = "stages.{s}.{b}.attention.reduce", "stages.{s}.{b}.attention.expand"
MIX = "stages.{s}.{b}.attention.mix"

# Every canonical name there is.
CANONICAL = rows(
    *((name, name) for name in ("input", "stem.conv", "stem.norm", "stem.{i}.conv", "stem.{i}.norm", CONV, NORM)),
    *((name, name) for name in (REDUCE, EXPAND, MIX, SHORTCUT_CONV, SHORTCUT_NORM, "final_norm", "head")),
)
