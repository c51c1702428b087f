"""Carrying out a plan: gathers on the device, reading only the source tensors that the plan names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import inf, isfinite

import torch
from torch import Tensor

from idsnn_cli.errors import MappingError
from idsnn_cli.initializer.kernels import Folded, Kernel, dense, fold, norm_scale, padded, resized
from idsnn_cli.initializer.plan import Entry, Plan
from idsnn_cli.initializer.selections import Selection
from idsnn_cli.rulebook import rule
from idsnn_cli.seeding import derive_seed
from idsnn_cli.spiking.precision import in_float64

Read = Callable[[str], Tensor]


def apply(
    plan: Plan, read: Read, start: Mapping[str, Tensor], device: torch.device, seed: int = 0
) -> dict[str, Tensor]:
    """The target's state dict.

    ``read`` gives a source tensor by the source's own key, on any device; each is asked for once, when it is first
    needed. ``start`` is the target's own random state (canonical names), which random and constant entries keep;
    ``seed`` is for the noise that a plan may ask for. Values take the dtype of ``start``. :class:`MappingError` where a
    value is NaN or infinite, or a variance below 0, for a spiking neuron would swallow it silently; source values that
    are not taken (channels or taps that are left out) are not looked at. On a device one look at the end tells, so that
    nothing waits.
    """
    work = _Work(plan, _Sources(plan, read, device), start, device, seed)
    state: dict[str, Tensor] = {}
    for entry in plan.entries:
        if entry.source is None:
            state[entry.target] = start[entry.target].to(device, copy=True)
            if entry.picks is not None:
                _pick(state[entry.target], entry.picks)
            if entry.scale != 1.0 and state[entry.target].is_floating_point():
                state[entry.target] *= entry.scale
            continue
        state[entry.target] = _Maker(work, entry).value()
        work.sources.done(entry)
    bad = work.extremes.first_bad()
    if bad is not None:
        raise _bad_values(next(entry for entry in plan.entries if entry.target == bad), read)
    return state


class _Sources:
    """A plan's source tensors on ``device``, each read when it is first needed and let go after its last use."""

    def __init__(self, plan: Plan, read: Callable[[str], Tensor], device: torch.device) -> None:
        self._read, self._device = read, device
        self._uses = Counter(key for entry in plan.entries for key in set(entry.source_keys()))
        self._held: dict[str, Tensor] = {}

    def get(self, key: str) -> Tensor:
        if key not in self._held:
            self._held[key] = self._read(key).to(self._device)
        return self._held[key]

    def done(self, entry: Entry) -> None:
        """No more of ``entry`` is made."""
        for key in set(entry.source_keys()):
            self._uses[key] -= 1
            if not self._uses[key]:
                self._held.pop(key, None)


class _Extremes:
    """The smallest and the largest value of many tensors, looked at once: each look waits for the device."""

    def __init__(self) -> None:
        self._names: list[tuple[str, float]] = []
        self._found: list[Tensor] = []

    def add(self, name: str, value: Tensor, least: float = -inf) -> None:
        if value.numel():
            self._names += [(name, least)] * 2
            self._found += torch.aminmax(value.detach())

    def first_bad(self) -> str | None:
        """The name of the first tensor that holds NaN, infinity or less than its least value; None where none does."""
        if not self._found:
            return None
        values = torch.stack([in_float64(each) for each in self._found]).tolist()
        found = zip(self._names, values, strict=True)
        bad = (name for (name, least), value in found if not isfinite(value) or value < least)
        return next(bad, None)


@dataclass(frozen=True, slots=True)
class _Work:
    """What all entries share; ``indices`` are the channels of selections, by place, on the device."""

    plan: Plan
    sources: _Sources
    start: Mapping[str, Tensor]
    device: torch.device
    seed: int
    extremes: _Extremes = field(default_factory=_Extremes)
    indices: dict[int, Tensor] = field(default_factory=dict)


class _Maker:
    """Makes the values of one entry."""

    def __init__(self, work: _Work, entry: Entry) -> None:
        self.work, self.entry, self.own = work, entry, work.start[entry.target]
        self.device = work.device

    def read(self, key: str, least: float = -inf) -> Tensor:
        """A source tensor in the target's dtype. Of BatchNorm's vectors an infinite value can make a finite result, and
        so can a variance below 0.
        """
        value = self.work.sources.get(key).to(self.own.dtype)
        if value.dim() == 1:
            self.work.extremes.add(self.entry.target, value, least)
        return value

    def value(self) -> Tensor:
        entry, source = self.entry, self.work.sources.get(self.entry.source or "")
        if tuple(source.shape) != entry.source_shape:
            source = _reshaped(source, entry)
        taken = self.rows(self.columns(source)) if entry.kernel is None else self.formed(source, entry.kernel)
        if entry.noise:
            taken = self.padded(taken.to(self.own.dtype))
            taken = taken + self.noise(taken)
        if entry.scale != 1.0:
            taken = taken.to(self.own.dtype) * entry.scale
        # Zeros around a kernel need no look.
        inner = taken.to(self.own.dtype) if taken.is_floating_point() else taken
        self.work.extremes.add(entry.target, inner, _least(entry.target))
        value = self.padded(inner)
        if tuple(value.shape) != entry.shape:
            raise MappingError(
                f"{entry.target} {list(entry.shape)} cannot be made from {entry.source} {list(source.shape)}: "
                "only channels are looped over",
                "Make the plan again with this version of idsnn-cli.",
            )
        return self.ours(value, source)

    def ours(self, value: Tensor, source: Tensor) -> Tensor:
        """``value`` in memory that is its own, row-major."""
        shared = value.untyped_storage().data_ptr() == source.untyped_storage().data_ptr()
        if not shared and value.is_contiguous() and value.dtype == self.own.dtype:
            return value
        return value.new_empty(self.entry.shape, dtype=self.own.dtype).copy_(value)

    def padded(self, taken: Tensor) -> Tensor:
        """A kernel that is to grow around its centre, grown."""
        kernel = self.entry.kernel
        return taken if kernel is None or taken.dim() != 4 else padded(taken, kernel.to)

    def formed(self, source: Tensor, kernel: Kernel) -> Tensor:
        """The source kernel with its groups opened, what stands before it folded in, and of the target's size.

        Channels are selected first, so that nothing is computed that is not kept: the inputs of the first kernel, the
        outputs of the last. A kernel that only grows around its centre is left for :meth:`padded`.
        """
        last = dense(source, kernel.groups)
        if not kernel.before:
            whole = self.rows(self.columns(last))
        else:
            whole, stride = self.scaled(kernel.before[0], first=True), kernel.before[0].stride
            for folded in kernel.before[1:]:
                whole = fold(whole, self.scaled(folded), stride)
                stride *= folded.stride
            whole = fold(whole, self.rows(last.to(self.own.dtype)), stride)
        grows = kernel.to > kernel.size and (rule("kernels", kernel.resize).pads or kernel.size == 1)
        return whole if grows else resized(whole.to(self.own.dtype), kernel.to, kernel.resize)

    def scaled(self, folded: Folded, first: bool = False) -> Tensor:
        """A kernel that is folded in, times its BatchNorm's scale; of the first, the columns that are kept."""
        weight = dense(self.work.sources.get(folded.weight), folded.groups)
        weight = (self.columns(weight) if first else weight).to(self.own.dtype)
        if folded.gamma is None or folded.variance is None:
            return weight
        return weight * norm_scale(self.read(folded.gamma), self.read(folded.variance, least=0.0)).view(-1, 1, 1, 1)

    def selection(self, place: int | None) -> Selection | None:
        return None if place is None else self.work.plan.selections[place]

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
            return source.index_select(0, self.index(self.entry.rows))
        kept = torch.tensor([row for row, each in enumerate(chosen.channels) if each], device=self.device)
        filled = self.own.to(self.device, copy=True)
        return filled.index_copy_(0, kept, source.index_select(0, self.index(self.entry.rows)).to(filled.dtype))

    def merged(self, source: Tensor, chosen: Selection) -> Tensor:
        """Rows averaged so that, in evaluation mode, a channel is the average of those that it stands for.

        Kernels and running means are weighted by their BatchNorm's gamma / sigma, and divided by the average
        BatchNorm's, whose gamma is the mean of the absolute gammas and whose variance the mean of the variances.
        """
        source = source.to(self.own.dtype)
        if self.entry.norm is not None:
            gamma, variance = self.read(self.entry.norm[0]), self.read(self.entry.norm[1], least=0.0)
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
            taken = taken.to(self.own.dtype)
            taken = taken / torch.tensor(counts, dtype=taken.dtype, device=self.device).clamp(min=1).view(
                1, -1, *(1,) * (taken.dim() - 2)
            )
        if chosen is None:
            return _looped(taken, 1, entry.shape[1])
        if not chosen.merges and all(chosen.channels):
            return taken.index_select(1, self.index(entry.columns))
        taken = taken.to(self.own.dtype)
        sums = taken.new_zeros(taken.shape[0], len(chosen.channels), *taken.shape[2:])
        pairs = [(place, channel) for place, each in enumerate(chosen.channels) for channel in each]
        places, channels = (torch.tensor([pair[axis] for pair in pairs], device=self.device) for axis in (0, 1))
        return sums.index_add_(1, places, taken.index_select(1, channels))

    def noise(self, taken: Tensor) -> Tensor:
        """Noise on the rows whose channel another row has already: all but the first of each."""
        chosen, have = self.selection(self.entry.rows), (self.entry.source_shape or (1,))[0]
        channels = [(c % have,) for c in range(taken.shape[0])] if chosen is None else list(chosen.channels)
        again = [channel in channels[:row] for row, channel in enumerate(channels)]
        generator = torch.Generator().manual_seed(derive_seed(self.work.seed, "noise", self.entry.target))
        drawn = torch.randn(taken.shape, generator=generator).to(device=self.device, dtype=taken.dtype)
        mask = torch.tensor(again, device=self.device).view(-1, *(1,) * (taken.dim() - 1))
        return drawn * mask * (self.entry.noise * taken.std())

    def index(self, place: int | None) -> Tensor:
        """The source channel of each target channel that has one; sent to the device once for all entries."""
        place = place or 0
        if place not in self.work.indices:
            channels = [each[0] for each in self.work.plan.selections[place].channels if each]
            self.work.indices[place] = torch.tensor(channels, device=self.device)
        return self.work.indices[place]


def _is_variance(name: str) -> bool:
    return name.endswith(".running_var")


def _least(name: str) -> float:
    """What no value of a tensor may be below."""
    if name.endswith(".limit"):
        # Of a range of 0 nothing is left, and one below 0 turns its activations round.
        return torch.finfo(torch.float32).tiny
    return 0.0 if _is_variance(name) else -inf


def _bad_values(entry: Entry, read: Read) -> MappingError:
    """The error of an entry whose values are not finite, variances below 0, or ranges not above it.

    It names the source tensor to blame where there is one.
    """
    for key in _variances(entry):
        lowest = float(read(key).min())
        if isfinite(lowest) and lowest < 0:
            what = f"{key} holds a variance of {lowest:g}, and none is below 0"
            return MappingError(f"{what}: {entry.target} cannot start from it", "Use another checkpoint of the source.")
    if entry.target.endswith(".limit") and isfinite(limit := float(read(entry.source or "").min())):
        what = f"{entry.source} holds a range of {limit:g}, and none is 0 or below"
        return MappingError(
            f"{what}: {entry.target} cannot start from it",
            "Use another source: its training drove a layer's range below 0.",
        )
    keys = [key for key in dict.fromkeys(entry.source_keys()) if not bool(torch.isfinite(read(key)).all())]
    if keys:
        what = f"{keys[0]} holds NaN or infinite values, so {entry.target} cannot start from it"
    else:
        what = f"{entry.target} cannot start from {entry.source}: its values become NaN or infinite on the way"
    return MappingError(what, "Use another checkpoint of the source.")


def _pick(projection: Tensor, picks: tuple[int, ...]) -> None:
    """Let the rows of a projection (O, I, 1, 1) pass on one channel each, but for those that keep their start."""
    for row, channel in enumerate(picks):
        if channel >= 0:
            projection[row] = 0.0
            projection[row, channel] = 1.0


def _looped(source: Tensor, axis: int, size: int) -> Tensor:
    """W'[o] = W[o mod O] along ``axis``; a view where the first ones are kept."""
    have = source.shape[axis]
    if size <= have:
        return source.narrow(axis, 0, size)
    return source.index_select(axis, torch.arange(size, device=source.device) % have)


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


def _variances(entry: Entry) -> list[str]:
    """The source's running variances that ``entry`` reads."""
    own = [entry.source] if entry.source is not None and _is_variance(entry.target) else []
    norms = [] if entry.norm is None else [entry.norm[1]]
    folded = [] if entry.kernel is None else [each.variance for each in entry.kernel.before]
    return [*own, *norms, *(key for key in folded if key is not None)]
