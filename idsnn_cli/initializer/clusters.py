"""Which channels to merge: groups of those that behave most alike."""

from __future__ import annotations

import torch
from torch import Tensor

from idsnn_cli.initializer.selections import Channels

# Rounds of swaps at most, each of as many as touch different groups; most searches end long before.
ROUNDS = 40


def cluster(correlations: Tensor, count: int) -> Channels:
    """``count`` groups, whose sizes differ by one at most, of the channels of ``correlations`` (C, C), C >= count.

    What is sought is the largest sum over groups of (correlations within the group, itself included) / size: the share
    of the channels' variance that the groups' means keep. One channel for each group is chosen first, each the one
    that is least like those before it; the others are matched to them in rounds of at most one each (the Hungarian
    method); then channels are swapped between groups as long as that gains. Numbers in a group rise, and groups are in
    the order of their first channels. NaN counts as 0. The same correlations give the same groups.
    """
    likeness = torch.nan_to_num(correlations.double().cpu())
    likeness = (likeness + likeness.T) / 2
    member = _swapped(likeness, _matched(likeness, _apart(likeness, count)), count)
    groups: list[list[int]] = [[] for _ in range(count)]
    for channel, group in enumerate(member.tolist()):
        groups[group].append(channel)
    return tuple(tuple(group) for group in sorted(groups))


def _apart(likeness: Tensor, count: int) -> list[int]:
    """``count`` channels that are little alike, rising: first the one most like all others."""
    kept = [int(likeness.abs().sum(1).argmax())]
    nearest = likeness[kept[0]].clone()
    nearest[kept[0]] = torch.inf
    while len(kept) < count:
        kept.append(int(nearest.argmin()))
        nearest = torch.maximum(nearest, likeness[kept[-1]])
        nearest[kept[-1]] = torch.inf
    return sorted(kept)


def _matched(likeness: Tensor, kept: list[int]) -> Tensor:
    """The group of every channel: in each round every group gets the one that fits, so that the sum is largest."""
    from scipy.optimize import linear_sum_assignment

    member = torch.full((likeness.shape[0],), -1)
    member[kept] = torch.arange(len(kept))
    # Likeness to the mean of what a group has so far.
    sums, size = likeness[:, kept].clone(), 1
    while (rest := (member < 0).nonzero().flatten()).numel():
        rows, columns = linear_sum_assignment((sums[rest] / size).numpy(), maximize=True)
        channels, groups = rest[torch.as_tensor(rows)], torch.as_tensor(columns)
        member[channels] = groups
        sums[:, groups] += likeness[:, channels]
        size += 1
    return member


def _swapped(likeness: Tensor, member: Tensor, count: int) -> Tensor:
    """``member`` after swaps of two channels of different groups, the best first, until none gains."""
    own = likeness.diagonal()
    for _ in range(ROUNDS):
        sizes = torch.bincount(member, minlength=count)
        # [i, j]: channel i's correlations with the group of j, summed.
        to_groups = likeness.new_zeros(len(member), count).index_add_(1, member, likeness)[:, member]
        # [i, j]: what the group of j gains by having i instead of j.
        gains = own[:, None] + own[None, :] + 2 * (to_groups - likeness - to_groups.diagonal()[None, :])
        gains /= sizes[member][None, :]
        gains += gains.T.clone()
        gains[member[:, None] == member[None, :]] = 0.0
        best, partners = gains.max(1)
        touched: set[int] = set()
        for channel in best.argsort(descending=True, stable=True).tolist():
            if best[channel] <= 1e-9:
                break
            partner = int(partners[channel])
            groups = {int(member[channel]), int(member[partner])}
            if not groups & touched:
                touched |= groups
                member[[channel, partner]] = member[[partner, channel]]
        if not touched:
            break
    return member
