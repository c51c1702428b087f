"""How high activations and input currents rise on images: lambda of each channel space."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor

from idsnn_cli.architecture import Architecture
from idsnn_cli.initializer.activations import activation_spaces, run_up_to, run_watched
from idsnn_cli.models import Model
from idsnn_cli.rules import PERCENTILE

# (target, lambdas) -> target tensor -> the factor that converts it.
Scales = Callable[[Architecture, Mapping[str, float]], dict[str, float]]
# Bins between 2^-16 and 2^16: 2^11 for each octave, which a float32's own bits number.
_LOWEST, _HIGHEST, _MANTISSA = -16, 16, 11
_BINS = (_HIGHEST - _LOWEST) << _MANTISSA


class Histogram:
    """Counts of one layer's activations in 65,536 bins, 2^-11 of its lower edge wide at most; the largest exactly."""

    def __init__(self, device: torch.device) -> None:
        self.counts = torch.zeros(_BINS, dtype=torch.int64, device=device)
        self.total = 0
        self.largest = 0.0

    def add(self, maps: Tensor) -> None:
        values = maps.float().flatten()
        self.total += values.numel()
        values = values[values >= 2.0**_LOWEST]
        if not values.numel():
            return
        self.largest = max(self.largest, float(maps.max()))
        first = (_LOWEST + 127) << _MANTISSA
        bins = (values.contiguous().view(torch.int32) >> (23 - _MANTISSA)) - first
        self.counts += torch.bincount(bins.clamp(max=_BINS - 1), minlength=_BINS)

    def percentile(self, percentile: float) -> float:
        """The least value that ``percentile`` percent of all activations do not exceed; 0 where nothing fired."""
        if not self.largest:
            return 0.0
        # Counted from the top: how many values may lie above it.
        above = self.total - math.ceil(self.total * percentile / 100)
        if not above:
            return self.largest
        reached = self.counts.flip(0).cumsum(0)
        if int(reached[-1]) <= above:
            # So few fire that the percentile is 0: the largest is all that is known of them.
            return self.largest
        place = _BINS - 1 - int((reached > above).int().argmax())
        if place == _BINS - 1:
            return self.largest
        octave, part = divmod(place, 1 << _MANTISSA)
        middle = math.ldexp(1 + (part + 0.5) / (1 << _MANTISSA), octave + _LOWEST)
        return min(middle, self.largest)


def thresholds(model: Model, batches: Iterable[Tensor], percentile: float = PERCENTILE) -> dict[str, float]:
    """Lambda of each channel space: the ``percentile`` of all of a layer's activations, zeros included.

    That is the robust form of threshold balancing: what most images never exceed becomes one spike a step. It is the
    smallest value that ``percentile`` percent of the activations do not exceed, to a relative 2^-12, in one pass and
    bounded memory; where so few fire that it would be zero, it is the largest one. ``batches`` are images (N, C, H, W)
    in 0 to 1 on the model's device. A residual stream takes the largest of all places where it is seen, and streams
    that option-A shortcuts join share theirs, for an identity cannot rescale. A space that never fires (activations
    below 2^-16) has no entry.
    """
    seen = _histograms(model, batches)
    spaces = model.architecture.streams()
    largest: dict[str, float] = {}
    for (space, _), histogram in seen.items():
        root = spaces.linked(space)
        largest[root] = max(largest.get(root, 0.0), histogram.percentile(percentile))
    found = {space: largest[spaces.linked(space)] for space, _ in seen}
    return {space: value for space, value in found.items() if value > 0}


def activation_thresholds(model: Model, batches: Iterable[Tensor], percentile: float = PERCENTILE) -> dict[str, float]:
    """As :func:`thresholds`, but of each activation alone, by its module's name."""
    at = {where: histogram for (_, where), histogram in _histograms(model, batches).items()}
    # A block's last activation is what the block gives, and seen under the block's name.
    places = {act: act if act in at else act.rpartition(".")[0] for act, _ in model.architecture.activations()}
    return {act: at[place].percentile(percentile) for act, place in places.items() if place in at}


def _histograms(model: Model, batches: Iterable[Tensor]) -> dict[tuple[str, str], Histogram]:
    """Of each place where a channel space is seen, by both."""
    seen: dict[tuple[str, str], Histogram] = {}

    def see(space: str, where: str, maps: Tensor) -> None:
        if (space, where) not in seen:
            seen[space, where] = Histogram(maps.device)
        seen[space, where].add(maps)

    run_watched(model, batches, see)
    return seen


def balance_currents(model: Model, batches: Sequence[Tensor], percentile: float, scales: Scales) -> dict[str, float]:
    """lambda of each channel space of the spiking ``model``, whose tensors are an ANN's and are scaled as it goes.

    In network order, with all layers before it converted already, a layer's lambda is the ``percentile`` of its input
    current over neurons, steps and images, in the ANN's units (Sengupta et al. 2019 take the largest). Streams that
    identities join share one: the largest so far, so that a later sum may raise what earlier layers of the stream fire
    with; lambdas inside blocks that were found by then stay. ``scales`` gives the factors of tensors for some lambdas.
    Layers whose current is never positive (above 2^-16) have no lambda.
    """
    architecture, spaces = model.architecture, model.architecture.streams()
    base = {name: value.clone() for name, value in model.state_dict().items()}
    own = model.state_dict()
    found: dict[str, float] = {}

    def lambdas() -> dict[str, float]:
        return {space: found[spaces.linked(space)] for space in spaces.sizes if spaces.linked(space) in found}

    for name, space in activation_spaces(architecture).items():
        factors = scales(architecture, lambdas())
        for tensor, value in base.items():
            if tensor in factors or own[tensor].dtype.is_floating_point:
                own[tensor].copy_(value * factors.get(tensor, 1.0))
        root = spaces.linked(space)
        seen: list[Histogram] = []

        def see(current: Tensor, _spikes: Tensor, seen: list[Histogram] = seen) -> None:
            seen.extend([] if seen else [Histogram(current.device)])
            seen[0].add(current)

        run_up_to(model, model.get_submodule(name), batches, see)
        # The layer's own gamma was scaled by theta / the lambda that its stream has so far.
        current = seen[0].percentile(percentile) * found.get(root, 1.0) / architecture.neuron.v_threshold
        if current > 0:
            found[root] = max(current, found.get(root, 0.0))
    return lambdas()
