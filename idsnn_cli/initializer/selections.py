"""Which source channels make up a target's channels: one choice for each pair of channel spaces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import torch
from torch import Tensor

from idsnn_cli import rulebook
from idsnn_cli.architecture import Spaces
from idsnn_cli.errors import UsageError
from idsnn_cli.initializer.json_values import integer, integers, items, members, text
from idsnn_cli.results import Result
from idsnn_cli.seeding import derive_seed

Channels = tuple[tuple[int, ...], ...]


def loop_indices(source_size: int, target_size: int) -> list[int]:
    """``c mod C`` for every target channel: the first ones kept, or all of them repeated."""
    return [c % source_size for c in range(target_size)]


@dataclass(frozen=True, slots=True)
class Selection(Result):
    """The channels of the space ``target`` made of those of the space ``source``, which has ``of``.

    ``channels`` holds for each target channel the source channels that it stands for: one, several that are averaged,
    or none where it keeps the target's own start.
    """

    target: Annotated[str, "the target's channel space"]
    source: Annotated[str, "the source's that it is made of"]
    of: Annotated[int, "how many channels that has"]
    channels: Annotated[Channels, "for each channel the source channel that it takes, or a list of those averaged"]

    @property
    def merges(self) -> bool:
        return any(len(each) > 1 for each in self.channels)

    def multiplicities(self) -> list[int]:
        """For each source channel, how many target channels stand for it."""
        counts = [0] * self.of
        for each in self.channels:
            for channel in each:
                counts[channel] += 1
        return counts

    def spread(self, pixels: int) -> Selection:
        """The same choice of vectors in which each channel has so many places, one behind the other."""
        channels = tuple(
            tuple(channel * pixels + pixel for channel in each) for each in self.channels for pixel in range(pixels)
        )
        return replace(self, of=self.of * pixels, channels=channels)

    def to_dict(self) -> dict[str, Any]:
        channels = [each[0] if len(each) == 1 else list(each) for each in self.channels]
        return Result.to_dict(self) | {"channels": channels}

    @staticmethod
    def from_dict(plain: Any) -> Selection:
        """What :meth:`to_dict` gave. Raises :class:`ValueError` or :class:`KeyError` for anything else."""
        values = members(plain, Selection.__slots__)
        of = integer(values["of"], 1)
        channels = (each if isinstance(each, list | tuple) else (each,) for each in items(values["channels"]))
        chosen = tuple(integers(each, 0, of - 1) for each in channels)
        return Selection(text(values["target"]), text(values["source"]), of, chosen)


IMAGE = "input"
"""The channel space of images, whose channels have meanings: a rule of their own, ``input``, chooses among them."""


@dataclass(frozen=True)
class Selector:
    """Chooses channels by one rule, for every pair of spaces that a plan asks for, and those of images by ``input``.

    ``scores`` and ``correlations``, (C, C), are by source space; a rule that draws does so from ``seed``. ``narrowed``
    collects the source spaces of which a target space kept fewer channels than there are to choose from.
    """

    rule: rulebook.Rule
    input: rulebook.Rule
    source: Spaces
    target: Spaces
    scores: Mapping[str, Sequence[float]]
    correlations: Mapping[str, Tensor]
    seed: int
    narrowed: set[str] = field(default_factory=set)

    def select(self, target: str, source: str) -> Selection:
        """The channels of one target space, made of one source space. Raises :class:`UsageError` without its facts."""
        of, to = self.source.sizes[source], self.target.sizes[target]
        if IMAGE not in (target, source):
            return Selection(target, source, of, self._channels(target, source))
        same = tuple((channel,) for channel in range(to))
        return Selection(target, source, of, same if of == to else self.input(have=of, count=to))

    def _channels(self, target: str, source: str) -> Channels:
        of, to = self.source.sizes[source], self.target.sizes[target]
        ours, theirs = self.target.nested.get(target), self.source.nested.get(source)
        if self.rule.whole or ours is None or theirs is None:
            return self._pick(target, source, range(of), to)
        # What an option-A shortcut carries on must be the same channels on both sides of it.
        carried = self._channels(ours.inner, theirs.inner)
        inner = self.source.sizes[theirs.inner]
        after = to - ours.offset - len(carried)
        sides = range(theirs.offset), range(theirs.offset + inner, of)
        if bool(ours.offset) == bool(theirs.offset):
            before = self._pick(target, source, sides[0], ours.offset)
            rest = self._pick(target, source, sides[1], after)
        else:
            # One has its new channels on both sides, the other on one: all are chosen from all.
            new = self._pick(target, source, [*sides[0], *sides[1]], ours.offset + after)
            before, rest = new[: ours.offset], new[ours.offset :]
        return (*before, *(tuple(theirs.offset + c for c in each) for each in carried), *rest)

    def _pick(self, target: str, source: str, among: Sequence[int], count: int) -> Channels:
        """``count`` channels made of those ``among`` the source's."""
        if not among or not count:
            return ((),) * count
        if len(among) == count:
            return tuple((channel,) for channel in among)
        if len(among) > count:
            self.narrowed.add(source)
        facts: dict[str, Any] = {"have": len(among), "count": count, "scores": None, "correlations": None}
        if "scores" in self.rule.asks and source in self.scores:
            facts["scores"] = [self.scores[source][channel] for channel in among]
        if "correlations" in self.rule.asks and len(among) > count:
            if source not in self.correlations:
                raise UsageError(f"{self.rule} needs images", "Give the data set, or another rule.")
            rows = torch.tensor(among)
            facts["correlations"] = self.correlations[source][rows][:, rows]
        if "generator" in self.rule.asks:
            seed = derive_seed(self.seed, "channels", target, source, among[0])
            facts["generator"] = torch.Generator().manual_seed(seed)
        places = (each if isinstance(each, tuple) else (each,) for each in self.rule(**facts))
        return tuple(tuple(among[place] for place in each) for each in places)
