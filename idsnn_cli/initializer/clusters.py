"""Which channels to merge: each kept one takes those that behave most like it."""

from __future__ import annotations

import torch
from torch import Tensor

from idsnn_cli.initializer.selections import Channels


def cluster(correlations: Tensor, count: int) -> Channels:
    """``count`` groups of channels of near equal size, each with the channel it is built around first.

    ``correlations`` is (C, C), between -1 and 1. The channels kept are chosen one at a time, each the one that is least
    like those kept before it; the others are matched to them in rounds of at most one each, so that the sum of
    correlations is largest (the Hungarian method). Groups come in the order of their first channel's number.
    """
    from scipy.optimize import linear_sum_assignment

    likeness = torch.nan_to_num(correlations.double().cpu())
    size = likeness.shape[0]
    kept = [int(likeness.abs().sum(1).argmax())]
    nearest = likeness[kept[0]].clone()
    while len(kept) < count:
        nearest[kept] = torch.inf
        kept.append(int(nearest.argmin()))
        nearest = torch.maximum(nearest, likeness[kept[-1]])
    kept.sort()
    groups = [[channel] for channel in kept]
    rest = [channel for channel in range(size) if channel not in set(kept)]
    while rest:
        rows, columns = linear_sum_assignment(likeness[rest][:, kept].numpy(), maximize=True)
        for row, column in zip(rows, columns, strict=True):
            groups[column].append(rest[row])
        rest = [channel for place, channel in enumerate(rest) if place not in set(rows.tolist())]
    return tuple(tuple(group) for group in groups)
