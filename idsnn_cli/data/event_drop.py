"""EventDrop on frames: some recordings lose a time, an area, or events here and there.

Gu, Sng, Hu, Yu, "EventDrop: Data Augmentation for Event-based Learning", IJCAI 2021: each of four operations, of which
one is none, has the same chance, and its share is one of nine (time, events) or six (area) that are equally likely.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

NOTHING, TIME, AREA, EVENTS = range(4)


@dataclass(frozen=True, slots=True, eq=False)
class EventDraws:
    """The draws of n recordings, on the CPU.

    ``operation`` int64 (n,). ``share`` float32 (n,): of the time, of each side of the area, or of the events.
    ``begin`` float32 (n, 3), where the time begins and the area's top and left are, in 0 to 1 of the whole. ``seed``
    int64 (n,) draws which events are lost.
    """

    operation: Tensor
    share: Tensor
    begin: Tensor
    seed: Tensor

    def __getitem__(self, rows: slice | Tensor) -> EventDraws:
        return EventDraws(self.operation[rows], self.share[rows], self.begin[rows], self.seed[rows])


def draw_drops(count: int, generator: torch.Generator) -> EventDraws:
    """The draws of ``count`` recordings; ``generator`` lives on the CPU."""
    operation = torch.randint(4, (count,), generator=generator)
    tenths = torch.randint(1, 10, (count,), generator=generator) / 10
    twentieths = torch.randint(1, 7, (count,), generator=generator) / 20
    begin = torch.rand(count, 3, generator=generator)
    seed = torch.randint(2**62, (count,), generator=generator)
    return EventDraws(operation, torch.where(operation == AREA, twentieths, tenths), begin, seed)


def drop_events(frames: Tensor, draws: EventDraws) -> Tensor:
    """uint8 (n, T, C, H, W) after the operation that each recording drew.

    A frame is lost whole where its middle is in the time that is; a count is thinned event by event, each lost with the
    share's probability.
    """
    steps, _, height, width = frames.shape[1:]
    low, high = draws.begin, draws.begin + draws.share[:, None]
    inside = [_middles(side, low[:, axis], high[:, axis]) for axis, side in enumerate((steps, height, width))]
    of_time = (draws.operation == TIME)[:, None, None, None] & inside[0][:, :, None, None]
    of_area = (draws.operation == AREA)[:, None, None, None] & inside[1][:, None, :, None] & inside[2][:, None, None, :]
    lost = (of_time | of_area)[:, :, None].to(frames.device, non_blocking=True)
    left = frames.masked_fill(lost, 0)
    rows = (draws.operation == EVENTS).nonzero().flatten()
    if len(rows):
        shape = frames.shape[1:]
        generators = (torch.Generator().manual_seed(seed) for seed in draws.seed[rows].tolist())
        uniform = torch.stack([torch.rand(shape, generator=each, dtype=torch.float64) for each in generators])
        there = rows.to(frames.device, non_blocking=True)
        kept = 1 - draws.share[rows].double().view(-1, 1, 1, 1, 1)
        thinned = thin(left[there], kept.to(frames.device), uniform.to(frames.device, non_blocking=True))
        left = left.index_copy(0, there, thinned)
    return left


def _middles(side: int, low: Tensor, high: Tensor) -> Tensor:
    """bool (n, side): which of so many equal parts have their middle between ``low`` and ``high`` (n,)."""
    middles = (torch.arange(side) + 0.5) / side
    return (middles >= low[:, None]) & (middles < high[:, None])


def thin(counts: Tensor, kept: Tensor, uniform: Tensor) -> Tensor:
    """How many of ``counts`` (uint8) events stay where each stays with the probability ``kept``, above 0 and below 1.

    The binomial distribution's quantile at ``uniform`` (float64 in 0 to 1): the smallest k whose sum of probabilities
    up to k is above it.
    """
    total = counts.double()
    probability = (1 - kept) ** total
    reached = probability.clone()
    left = torch.zeros_like(total)
    for k in range(int(counts.max())):
        left += ((uniform >= reached) & (total > k)).double()
        probability = probability * ((total - k).clamp(min=0) / (k + 1)) * (kept / (1 - kept))
        reached = reached + probability
    return left.to(counts.dtype)
