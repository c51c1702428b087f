"""How much each layer fires on a few images: what is looked at while a training goes on."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from idsnn_cli.evaluation.measures.activity import SpikeCounter
from idsnn_cli.evaluation.observation import evaluation_mode
from idsnn_cli.models import Model
from idsnn_cli.spiking import seed_encoders

HARDLY, ALWAYS = 0.01, 0.9
"""Firing rates below and above which a layer tells the next one next to nothing."""


@torch.no_grad()
def firing_rates(model: Model, images: Tensor, seed: int = 0) -> dict[str, float]:
    """Spikes for each neuron, step and image, 0 to 1, of each layer of neurons by its canonical name; none of an ANN.

    ``images`` are (N, C, H, W) in 0 to 1, or recordings (N, T, C, H, W), on the model's device; ``seed`` fixes the
    spikes of Poisson coding. The model is in evaluation mode meanwhile, and as before afterwards.
    """
    if model.architecture.spiking is None:
        return {}
    seed_encoders(model, seed)
    with evaluation_mode(model), SpikeCounter(model) as counter:
        model(images)
    return {each.layer: each.firing_rate for each in counter.result()}


def odd_rates(rates: Mapping[str, float]) -> dict[str, float]:
    """Those of the layers that hardly fire, or nearly always."""
    return {layer: rate for layer, rate in rates.items() if not HARDLY <= rate <= ALWAYS}
