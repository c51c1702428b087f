"""Threshold balancing on the spiking network itself, and what its layers of neurons get and give."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from idsnn_cli.architecture import Architecture
from idsnn_cli.initializer.activations import evaluating
from idsnn_cli.initializer.spaces import activation_spaces, channel_spaces
from idsnn_cli.initializer.thresholds import Histogram
from idsnn_cli.models import ResNet

Scales = Callable[[Architecture, Mapping[str, float]], dict[str, float]]


class _SeenEnough(Exception):
    """Ends a forward pass at the layer that was looked at."""


def run_up_to(model: nn.Module, layer: nn.Module, batches: Iterable[Tensor], see: Callable[[Any, Any], None]) -> None:
    """Run ``model`` in evaluation mode on each of ``batches`` up to ``layer``; ``see`` gets its input and output."""

    def hook(_module: nn.Module, inputs: Any, output: Any) -> None:
        see(inputs[0], output)
        raise _SeenEnough

    handle = layer.register_forward_hook(hook)
    try:
        with evaluating(model):
            for images in batches:
                try:
                    model(images)
                except _SeenEnough:
                    continue
    finally:
        handle.remove()


def balance_currents(model: ResNet, batches: Sequence[Tensor], percentile: float, scales: Scales) -> dict[str, float]:
    """lambda of each channel space of the spiking ``model``, whose tensors are an ANN's and are scaled as it goes.

    In network order, with all layers before it converted already, a layer's lambda is the ``percentile`` of its input
    current over neurons, steps and images, in the ANN's units (Sengupta et al. 2019 take the largest). Streams that
    identities join share one: the largest so far, so that a later sum may raise what earlier layers of the stream fire
    with; lambdas inside blocks that were found by then stay. ``scales`` gives the factors of tensors for some lambdas.
    Layers whose current is never positive (above 2^-16) have no lambda.
    """
    architecture, spaces = model.architecture, channel_spaces(model.architecture)
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
