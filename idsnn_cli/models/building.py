"""From a description to a network with first weights, and to one of more time steps."""

from __future__ import annotations

from importlib import import_module

import torch
from torch import Tensor

from idsnn_cli.architecture import QCFS, Architecture
from idsnn_cli.errors import UsageError
from idsnn_cli.models.base import Model
from idsnn_cli.models.weights import first_state


def build(architecture: Architecture, seed: int) -> Model:
    """The network with random weights drawn from ``seed``; torch's own generators are not used."""
    network = _bare(architecture)
    network.load_state_dict(first_state(architecture, seed), assign=True)
    return network


def prolonged(network: Model, timesteps: int) -> Model:
    """The same spiking network, sharing its weights and mode, for ``timesteps`` steps instead of its own T.

    With direct coding its first T steps are those of ``network``; Poisson coding draws other spikes. Raises
    :class:`UsageError` where ``timesteps`` is not more than T.
    """
    require_beyond(network.architecture, timesteps)
    longer = _bare(network.architecture.changed(timesteps=timesteps))
    longer.load_state_dict(network.state_dict(), assign=True)
    return longer.train(network.training)


def _bare(architecture: Architecture) -> Model:
    """The module on the meta device, where nothing is drawn that would be thrown away."""
    module, _, name = architecture.builder.partition(":")
    with torch.device("meta"):
        network = getattr(import_module(module), name)(architecture)
    assert isinstance(network, Model)
    if isinstance(architecture.activation, QCFS):
        network.share_ranges()
    return network


def require_beyond(architecture: Architecture, timesteps: int) -> None:
    """Raise :class:`UsageError` where ``timesteps`` is not more than the network has."""
    own = architecture.timesteps
    if timesteps <= own:
        raise UsageError(
            f"{timesteps} time steps are not beyond the network's own {own}",
            f"Give more than {own} (--timesteps, eval.timesteps); each of its own is measured anyway.",
        )


def per_step(logits: Tensor) -> Tensor:
    """Logits of either network as (T, N, K); an ANN has one step."""
    return logits if logits.dim() == 3 else logits.unsqueeze(0)
