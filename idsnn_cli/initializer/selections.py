"""Which source channels make up a target's channels: one choice for each pair of channel spaces."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from idsnn_cli.errors import UsageError
from idsnn_cli.initializer.spaces import Spaces
from idsnn_cli.initializer.stored import integer, integers, items, members, text
from idsnn_cli.rules import ChannelRule
from idsnn_cli.seeding import derive_seed

Channels = tuple[tuple[int, ...], ...]
# (correlations of the channels, how many to make of them) -> the source channels of each.
Cluster = Callable[[Tensor, int], Channels]


def loop_indices(source_size: int, target_size: int) -> list[int]:
    """``c mod C`` for every target channel: the first ones kept, or all of them repeated."""
    return [c % source_size for c in range(target_size)]


@dataclass(frozen=True, slots=True)
class Selection:
    """The channels of the space ``target`` made of those of the space ``source``, which has ``of``.

    ``channels`` holds for each target channel the source channels that it stands for: one, several that are averaged
    (by the rule ``merge``), or none where it keeps the target's own start.
    """

    target: str
    source: str
    of: int
    channels: Channels

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

    def to_dict(self) -> dict[str, Any]:
        plain = [each[0] if len(each) == 1 else list(each) for each in self.channels]
        return {"target": self.target, "source": self.source, "of": self.of, "channels": plain}

    @staticmethod
    def from_dict(plain: Any) -> Selection:
        """What :meth:`to_dict` gave. Raises :class:`ValueError` or :class:`KeyError` for anything else."""
        values = members(plain, Selection.__slots__)
        of = integer(values["of"], 1)
        channels = (each if isinstance(each, list | tuple) else (each,) for each in items(values["channels"]))
        chosen = tuple(integers(each, 0, of - 1) for each in channels)
        return Selection(text(values["target"]), text(values["source"]), of, chosen)


@dataclass(frozen=True)
class Selector:
    """Chooses channels by one rule, for every pair of spaces that a plan asks for.

    ``scores`` (for ``importance``) and ``correlations`` (for ``merge``, (C, C), clustered by ``cluster``) are by source
    space; ``random`` draws from ``seed``. ``narrowed`` collects the source spaces of which a target space kept fewer
    channels than there are to choose from.
    """

    rule: ChannelRule
    source: Spaces
    target: Spaces
    scores: Mapping[str, Sequence[float]]
    correlations: Mapping[str, Tensor]
    cluster: Cluster | None
    seed: int
    narrowed: set[str] = field(default_factory=set)

    def select(self, target: str, source: str) -> Selection:
        """The channels of one target space, made of one source space. Raises :class:`UsageError` without its facts."""
        channels = self._channels(target, source)
        return Selection(target, source, self.source.sizes[source], channels)

    def _channels(self, target: str, source: str) -> Channels:
        of, to = self.source.sizes[source], self.target.sizes[target]
        ours, theirs = self.target.nested.get(target), self.source.nested.get(source)
        if self.rule == "loop" or ours is None or theirs is None:
            return self._pick(target, source, range(of), to)
        # What an option-A shortcut carries on must be the same channels on both sides of it.
        carried = self._channels(ours.inner, theirs.inner)
        inner = self.source.sizes[theirs.inner]
        after = to - ours.offset - len(carried)
        before = self._pick(target, source, range(theirs.offset), ours.offset)
        rest = self._pick(target, source, range(theirs.offset + inner, of), after)
        return (*before, *(tuple(theirs.offset + c for c in each) for each in carried), *rest)

    def _pick(self, target: str, source: str, among: range, count: int) -> Channels:
        """``count`` channels made of those ``among`` the source's."""
        if not among or not count:
            return ((),) * count
        if len(among) == count:
            return tuple((channel,) for channel in among)
        if len(among) > count:
            self.narrowed.add(source)
        if self.rule == "merge" and len(among) > count:
            if source not in self.correlations or self.cluster is None:
                raise UsageError("channels: merge needs images", "Give the data set, or another rule.")
            rows = slice(among.start, among.stop)
            clusters = self.cluster(self.correlations[source][rows, rows], count)
            return tuple(tuple(among[channel] for channel in each) for each in clusters)
        return tuple((among[place],) for place in self._places(target, source, among, count))

    def _places(self, target: str, source: str, among: range, count: int) -> list[int]:
        of = len(among)
        if self.rule in ("uniform", "merge"):  # what is widened has nothing to merge
            return [c * of // count for c in range(count)]
        if self.rule == "random":
            generator = torch.Generator().manual_seed(derive_seed(self.seed, "channels", target, source, among.start))
            drawn = torch.randperm(of, generator=generator).tolist()
            return sorted(drawn[:count]) if count < of else [*range(of), *(drawn[c % of] for c in range(count - of))]
        if self.rule == "importance":
            if source not in self.scores:
                return loop_indices(of, count)
            scores = [self.scores[source][channel] for channel in among]
            order = sorted(range(of), key=lambda c: (-scores[c], c))
            return sorted(order[:count]) if count < of else [*range(of), *(order[c % of] for c in range(count - of))]
        return loop_indices(of, count)
