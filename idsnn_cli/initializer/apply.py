"""Carrying out a plan: gathers on the device, reading only the source tensors that the plan names."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from idsnn_cli.errors import MappingError
from idsnn_cli.initializer.kernels import Kernel, dense, fold, norm_scale, resized
from idsnn_cli.initializer.plan import Entry, Plan
from idsnn_cli.initializer.selections import Selection, loop_indices
from idsnn_cli.seeding import derive_seed

Read = Callable[[str], Tensor]


def apply(
    plan: Plan, read: Read, start: Mapping[str, Tensor], device: torch.device, seed: int = 0
) -> dict[str, Tensor]:
    """The target's state dict.

    ``read`` gives a source tensor by the source's own key, on any device; ``start`` is the target's own random state
    (canonical names), which random and constant entries keep; ``seed`` is for the noise that a plan may ask for. Values
    take the dtype of ``start``; NaN or infinite source values raise :class:`MappingError`, for a spiking neuron would
    swallow them silently.
    """
    state: dict[str, Tensor] = {}
    for entry in plan.entries:
        own = start[entry.target]
        if entry.source is None:
            state[entry.target] = own.to(device, copy=True)
            if entry.picks is not None:
                _pick(state[entry.target], entry.picks)
            continue
        state[entry.target] = _Maker(plan, entry, read, own, device, seed).value()
    return state


class _Maker:
    """Makes the values of one entry."""

    def __init__(self, plan: Plan, entry: Entry, read: Read, own: Tensor, device: torch.device, seed: int) -> None:
        self.plan, self.entry, self.read_raw, self.own, self.device, self.seed = plan, entry, read, own, device, seed

    def read(self, key: str) -> Tensor:
        """A source tensor in the target's dtype, finite."""
        value = self.read_raw(key).to(device=self.device).to(self.own.dtype)
        if not _is_finite(value):
            raise MappingError(
                f"{key} holds NaN or infinite values, so {self.entry.target} cannot start from it",
                "Use another checkpoint of the source.",
            )
        return value

    def value(self) -> Tensor:
        entry = self.entry
        source = self.read(entry.source or "")
        if tuple(source.shape) != entry.source_shape:
            source = _reshaped(source, entry)
        taken = self.rows(self.columns(source)) if entry.kernel is None else self.formed(source, entry.kernel)
        if tuple(taken.shape) != entry.shape:
            raise MappingError(
                f"{entry.target} {list(entry.shape)} cannot be made from {entry.source} {list(source.shape)}: "
                "only channels are looped over",
                "Make the plan again with this version of idsnn-cli.",
            )
        if entry.noise:
            taken = taken + self.noise(taken)
        if entry.scale != 1.0:
            taken = taken * entry.scale
        return taken.clone() if taken.data_ptr() == source.data_ptr() else taken

    def formed(self, source: Tensor, kernel: Kernel) -> Tensor:
        """The source kernel with its groups opened, what stands before it folded in, and of the target's size.

        Channels are selected first, so that nothing is computed that is not kept: the inputs of the first kernel, the
        outputs of the last.
        """
        last = dense(source, kernel.groups)
        if not kernel.before:
            return resized(self.rows(self.columns(last)), kernel.to, kernel.resize)
        whole, stride = None, 1
        for folded in kernel.before:
            first = dense(self.read(folded.weight), folded.groups)
            if folded.gamma is not None and folded.variance is not None:
                scale = norm_scale(self.read(folded.gamma), self.read(folded.variance))
                first = first * scale.view(-1, 1, 1, 1)
            whole = self.columns(first) if whole is None else fold(whole, first, stride)
            stride *= folded.stride
        last = self.rows(last)
        return resized(last if whole is None else fold(whole, last, stride), kernel.to, kernel.resize)

    def selection(self, place: int | None) -> Selection | None:
        return None if place is None else self.plan.selections[place]

    def rows(self, source: Tensor) -> Tensor:
        """Axis 0 selected, looped over, or averaged."""
        if not self.entry.shape:
            return source
        chosen = self.selection(self.entry.rows)
        if chosen is None:
            return _looped(source, 0, self.entry.shape[0])
        if chosen.merges:
            return self.merged(source, chosen)
        if all(chosen.channels):
            return source.index_select(0, self.index([each[0] for each in chosen.channels]))
        kept = [row for row, each in enumerate(chosen.channels) if each]
        filled = self.own.to(self.device, copy=True)
        filled[kept] = source.index_select(0, self.index([chosen.channels[row][0] for row in kept]))
        return filled

    def merged(self, source: Tensor, chosen: Selection) -> Tensor:
        """Rows averaged so that, in evaluation mode, a channel is the average of those that it stands for.

        Kernels and running means are weighted by their BatchNorm's gamma / sigma, and divided by the average
        BatchNorm's, whose gamma is the mean of the absolute gammas and whose variance the mean of the variances.
        """
        if self.entry.norm is not None:
            gamma, variance = (self.read(key) for key in self.entry.norm)
            if self.entry.source == self.entry.norm[0]:
                return _mean_rows(gamma.abs(), chosen)
            weights = norm_scale(gamma, variance)
            average = norm_scale(_mean_rows(gamma.abs(), chosen), _mean_rows(variance, chosen))
            inverse = torch.where(average > 0, 1 / average, torch.zeros_like(average))
            shape = (-1, *(1,) * (source.dim() - 1))
            return _mean_rows(source * weights.view(shape), chosen) * inverse.view(shape)
        return _mean_rows(source, chosen)

    def columns(self, taken: Tensor) -> Tensor:
        """Axis 1 selected, looped over, or summed, for a merged channel stands for all of its own."""
        entry = self.entry
        if len(entry.shape) < 2 or (tuple(taken.shape) == entry.shape and entry.columns is None):
            return taken
        chosen, have = self.selection(entry.columns), taken.shape[1]
        if entry.divide:
            counts = _loop_counts(have, entry.shape[1]) if chosen is None else chosen.multiplicities()
            taken = taken / torch.tensor(counts, dtype=taken.dtype, device=self.device).clamp(min=1).view(
                1, -1, *(1,) * (taken.dim() - 2)
            )
        if chosen is None:
            return _looped(taken, 1, entry.shape[1])
        if not chosen.merges and all(chosen.channels):
            return taken.index_select(1, self.index([each[0] for each in chosen.channels]))
        sums = taken.new_zeros(taken.shape[0], len(chosen.channels), *taken.shape[2:])
        pairs = [(place, channel) for place, each in enumerate(chosen.channels) for channel in each]
        places, channels = (self.index([pair[axis] for pair in pairs]) for axis in (0, 1))
        return sums.index_add_(1, places, taken.index_select(1, channels))

    def noise(self, taken: Tensor) -> Tensor:
        """Noise on the rows whose channel another row has already: all but the first of each."""
        chosen, have = self.selection(self.entry.rows), (self.entry.source_shape or (1,))[0]
        channels = [(c % have,) for c in range(taken.shape[0])] if chosen is None else list(chosen.channels)
        again = [channel in channels[:row] for row, channel in enumerate(channels)]
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "noise", self.entry.target))
        drawn = torch.randn(taken.shape, generator=generator).to(device=self.device, dtype=taken.dtype)
        mask = torch.tensor(again, device=self.device).view(-1, *(1,) * (taken.dim() - 1))
        return drawn * mask * (self.entry.noise * taken.std())

    def index(self, channels: list[int]) -> Tensor:
        return torch.tensor(channels, device=self.device)


def _is_finite(value: Tensor) -> bool:
    """Whether no value is NaN or infinite; the extremes tell it without a mask of the whole tensor."""
    if not value.numel():
        return True
    return all(torch.isfinite(extreme).item() for extreme in torch.aminmax(value))


def _pick(projection: Tensor, picks: tuple[int, ...]) -> None:
    """Let the rows of a projection (O, I, 1, 1) pass on one channel each, but for those that keep their start."""
    for row, channel in enumerate(picks):
        if channel >= 0:
            projection[row] = 0.0
            projection[row, channel] = 1.0


def _looped(source: Tensor, axis: int, size: int) -> Tensor:
    """W'[o] = W[o mod O] along ``axis``."""
    have = source.shape[axis]
    if have == size:
        return source
    return source.index_select(axis, torch.tensor(loop_indices(have, size), device=source.device))


def _loop_counts(have: int, want: int) -> list[int]:
    return [len(range(channel, want, have)) for channel in range(have)]


def _mean_rows(source: Tensor, chosen: Selection) -> Tensor:
    pairs = [(place, channel) for place, each in enumerate(chosen.channels) for channel in each]
    places, channels = (torch.tensor([pair[axis] for pair in pairs], device=source.device) for axis in (0, 1))
    sums = source.new_zeros(len(chosen.channels), *source.shape[1:])
    sums.index_add_(0, places, source.index_select(0, channels))
    sizes = torch.tensor([max(len(each), 1) for each in chosen.channels], device=source.device, dtype=source.dtype)
    return sums / sizes.view(-1, *(1,) * (source.dim() - 1))


def _reshaped(source: Tensor, entry: Entry) -> Tensor:
    """``source`` in the shape that the plan expects, which may differ by axes of one and nothing else."""
    expected = entry.source_shape or ()
    # Some libraries store a linear layer as a 1x1 convolution, or statistics with extra axes.
    if [size for size in source.shape if size != 1] != [size for size in expected if size != 1]:
        raise MappingError(
            f"{entry.source} is {list(source.shape)}, but the plan for {entry.target} expects {list(expected)}",
            "Make the plan from this source.",
        )
    return source.reshape(expected)
