"""Groups of like channels against planted ones, and against every partition where these can be counted."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from idsnn_cli.initializer.channel_facts import cluster
from idsnn_cli.initializer.selections import Channels


def random_correlations(channels: int, seed: int, samples: int = 40) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.corrcoef(torch.randn(channels, samples, generator=generator, dtype=torch.float64))


def kept(likeness: Tensor, groups: Channels) -> float:
    """Variance that the groups' means keep, of channels of variance 1, by plain loops."""
    return sum(float(likeness[i, j]) / len(group) for group in groups for i in group for j in group)


@pytest.mark.parametrize(("base", "copies", "noise"), [(4, 3, 0.3), (16, 4, 0.5), (32, 2, 0.5), (128, 4, 0.7)])
def test_planted_groups_are_found(base: int, copies: int, noise: float) -> None:
    generator = torch.Generator().manual_seed(base)
    order = torch.randperm(base * copies, generator=generator)
    group = torch.arange(base).repeat_interleave(copies)[order]
    signals = torch.randn(base, 2000, generator=generator)[group]
    likeness = torch.corrcoef(signals + noise * torch.randn(signals.shape, generator=generator))
    planted = {tuple((group == each).nonzero().flatten().tolist()) for each in range(base)}
    assert set(cluster(likeness, base)) == planted


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 1000))
def test_groups_are_a_balanced_partition_and_repeatable(channels: int, count: int, seed: int) -> None:
    count = min(count, channels)
    likeness = random_correlations(channels, seed) if channels > 1 else torch.ones(1, 1)
    groups = cluster(likeness, count)
    assert sorted(channel for group in groups for channel in group) == list(range(channels))
    assert {len(group) for group in groups} <= {channels // count, -(-channels // count)}
    assert len(groups) == count
    assert list(groups) == sorted(tuple(sorted(group)) for group in groups)
    assert cluster(likeness.float().double(), count) == cluster(likeness.float(), count)


def partitions(rest: tuple[int, ...], sizes: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], ...]]:
    """Every way to split ``rest`` into groups of ``sizes``, some more than once."""
    if not sizes:
        yield ()
        return
    for mask in range(1 << len(rest)):
        group = tuple(channel for place, channel in enumerate(rest) if mask >> place & 1)
        if len(group) == sizes[0]:
            for others in partitions(tuple(c for c in rest if c not in group), sizes[1:]):
                yield (group, *others)


@pytest.mark.parametrize(("channels", "count"), [(6, 3), (6, 4), (7, 3), (8, 2), (7, 5)])
def test_no_swap_gains_and_the_best_partition_is_near(channels: int, count: int) -> None:
    sizes = tuple(channels // count + (place < channels % count) for place in range(count))
    reached = best = found = 0.0
    for seed in range(12):
        likeness = random_correlations(channels, seed, samples=12)
        groups = cluster(likeness, count)
        value = kept(likeness, groups)
        optimum = max(kept(likeness, each) for each in partitions(tuple(range(channels)), sizes))
        assert value <= optimum + 1e-9
        reached += value > optimum - 1e-9
        best, found = best + optimum, found + value
        for i in range(channels):
            for j in range(i):
                other = {i: j, j: i}
                swapped = tuple(tuple(other.get(channel, channel) for channel in group) for group in groups)
                assert kept(likeness, swapped) <= value + 1e-8
    assert reached >= 6
    assert found > 0.97 * best


def test_a_pair_is_the_hungarian_methods() -> None:
    """Two kept channels and two others: matched so that the sum is largest, not the nearest first."""
    likeness = torch.eye(4)
    for i, j, value in [(0, 2, 0.9), (0, 3, 0.8), (1, 2, 0.8), (1, 3, 0.1), (0, 1, -0.9), (2, 3, 0.0)]:
        likeness[i, j] = likeness[j, i] = value
    assert cluster(likeness, 2) == ((0, 3), (1, 2))


def test_channels_without_correlations_are_grouped_all_the_same() -> None:
    groups = cluster(torch.full((6, 6), torch.nan), 4)
    assert sorted(map(len, groups)) == [1, 1, 2, 2]
