"""What rules of channels look at: sums of gammas, correlations of activations, and groups of what is most alike."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

import torch
from torch import Tensor

from idsnn_cli.architecture import Architecture
from idsnn_cli.errors import MappingError
from idsnn_cli.initializer.activations import run_watched
from idsnn_cli.initializer.selections import Channels
from idsnn_cli.models import Model
from idsnn_cli.spiking.precision import in_float64

# Values that are held in float64 at a time.
CHUNK = 1 << 22
# Rounds of swaps at most, each of as many as touch different groups; most searches end long before.
ROUNDS = 40


def channel_scores(
    architecture: Architecture, names: Mapping[str, str], read: Callable[[str], Tensor]
) -> dict[str, list[float]]:
    """For each channel space, every channel's sum of |gamma| over the BatchNorms of that space.

    ``names`` leads from canonical names to the source's keys and ``read`` gives the tensor of such a key; only gammas
    are read, and those that the source lacks are left out. A space without any is absent. Raises
    :class:`MappingError` for NaN or infinite values.
    """
    spaces = architecture.streams()
    sums: dict[str, Tensor] = {}
    for norm, space in spaces.norms.items():
        key = names.get(f"{norm}.weight")
        if key is None:
            continue
        # Some libraries store vectors with extra axes of one.
        gamma = read(key).reshape(spaces.sizes[space]).cpu().double().abs()
        if not torch.isfinite(gamma).all():
            raise MappingError(
                f"{key} holds NaN or infinite values, so its channels cannot be ranked",
                "Use another checkpoint of the source, or another rule than channels: importance.",
            )
        sums[space] = sums[space] + gamma if space in sums else gamma
    return {space: total.tolist() for space, total in sums.items()}


class _Sums:
    """Streamed sums of one space's channels and of their products, around the means of the first maps."""

    def __init__(self, maps: Tensor) -> None:
        # Around a mean the sums of squares do not cancel, as they would around zero.
        self.around = in_float64(maps).mean((0, 2, 3)).view(1, -1, 1, 1)
        self.count = 0
        self.sums = self.around.new_zeros(maps.shape[1])
        self.products = self.around.new_zeros(maps.shape[1], maps.shape[1])

    def add(self, maps: Tensor) -> None:
        size = max(1, CHUNK // maps[0].numel())
        for first in range(0, len(maps), size):
            values = (in_float64(maps[first : first + size]) - self.around).transpose(0, 1).flatten(1)
            self.count += values.shape[1]
            self.sums += values.sum(1)
            self.products.addmm_(values, values.T)

    def correlations(self) -> Tensor:
        means = self.sums / self.count
        covariances = self.products / self.count - means.outer(means)
        deviations = covariances.diagonal().clamp(min=0).sqrt()
        # What remains of a constant channel is rounding.
        varies = deviations > 1e-9 * (means + self.around.flatten()).abs()
        inverse = torch.where(varies, 1 / deviations, torch.zeros_like(deviations))
        result = (covariances * inverse.outer(inverse)).clamp(-1, 1)
        return result.fill_diagonal_(1.0).cpu()


def correlations(model: Model, batches: Iterable[Tensor], spaces: Collection[str] | None = None) -> dict[str, Tensor]:
    """Pearson's correlations (C, C), float64, of the channels of each space, over all images and pixels.

    ``batches`` are images (N, C, H, W) in 0 to 1 on the model's device; without ``spaces`` all are looked at. A
    residual stream's are over the outputs of all of its blocks together. A channel that never changes is like no other
    (0). Every pixel counts, and memory is C squared for each space, besides the network's own.
    """
    sums: dict[str, _Sums] = {}

    def see(space: str, _where: str, maps: Tensor) -> None:
        if (spaces is None or space in spaces) and maps.numel():
            if space not in sums:
                sums[space] = _Sums(maps)
            sums[space].add(maps)

    run_watched(model, batches, see)
    return {space: each.correlations() for space, each in sums.items()}


def cluster(correlations: Tensor, count: int) -> Channels:
    """``count`` groups, whose sizes differ by one at most, of the channels of ``correlations`` (C, C), C >= count.

    What is sought is the largest sum over groups of (correlations within the group, itself included) / size: the share
    of the channels' variance that the groups' means keep. One channel for each group is chosen first, each the one
    that is least like those before it; the others are matched to them in rounds of at most one each (the Hungarian
    method); then channels are swapped between groups as long as that gains. Numbers in a group rise, and groups are in
    the order of their first channels. NaN counts as 0. The same correlations give the same groups.
    """
    likeness = torch.nan_to_num(correlations.cpu().double())
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
