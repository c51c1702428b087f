"""Running a network for what its activations are, under the names of its channel spaces."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from idsnn_cli.architecture import Architecture
from idsnn_cli.models import Model

# (space, where in the network, maps (N, C, H, W)).
See = Callable[[str, str, Tensor], None]


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without autograd; every module's mode is as before afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def watched(model: Model, see: See) -> Iterator[None]:
    """Call ``see`` with every activation of ``model``, whenever it runs; the hooks are gone afterwards.

    A stream is seen behind every block of it, and behind the stem (before its pool) where that writes it. Before
    pre-activation blocks it is seen as what each block's first BatchNorm and activation make of it.
    """
    places = _places(model)
    handles = [module.register_forward_hook(_hook(see, *place)) for place, module in places]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def run_watched(model: Model, batches: Iterable[Tensor], see: See) -> int:
    """Run ``model`` in evaluation mode on images (N, C, H, W) in 0 to 1, on its device, calling ``see`` as it goes.

    Returns how many batches there were. The model is left as it was, whatever happens.
    """
    count = 0
    with evaluating(model), watched(model, see):
        for images in batches:
            model(images)
            count += 1
    return count


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


def _hook(see: See, space: str, where: str, then: nn.Module | None) -> Callable[..., None]:
    def hook(_module: nn.Module, _inputs: Any, maps: Tensor) -> None:
        see(space, where, maps if then is None else then(maps))

    return hook


def _places(model: Model) -> list[tuple[tuple[str, str, nn.Module | None], nn.Module]]:
    """((space, where, an activation still to come), the module whose output it is)."""
    return [
        ((space, where, None if then is None else model.get_submodule(then)), model.get_submodule(where))
        for space, where, then in model.architecture.watched_places()
    ]


def activation_spaces(architecture: Architecture) -> dict[str, str]:
    """Activation module -> the channel space that it fires into, in network order.

    Of the networks that :meth:`Architecture.activations` knows.
    """
    spaces = architecture.streams()
    return {name: spaces.writes[conv.name] for name, conv in architecture.activation_layers().items()}
