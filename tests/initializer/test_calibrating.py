"""Light calibration: the betas against the formula, layer after layer, and what it is for."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from conversions import ann, converted, images, rates, space, spiking

from idsnn_cli.architecture import Neuron
from idsnn_cli.initializer import Conversion, calibrate
from idsnn_cli.models import Model


def mean_error(model: Model, source: Model, lambdas: dict[str, float], name: str) -> torch.Tensor:
    """E[rate] - E[activation] / lambda of each channel of one activation."""
    x = images()
    rate = rates(model, x)[name].mean((0, 2, 3))
    return rate - rates(source, x)[name].mean((0, 2, 3)) / lambdas[space(source.architecture, name)]


def in_float64(conversion: Conversion) -> Conversion:
    return replace(conversion, reference=conversion.reference.double())


@pytest.mark.parametrize("shortcut", ["projection", "pad"])
def test_each_beta_loses_its_rates_excess_in_order(shortcut: str) -> None:
    """Worked out with whole forward passes, one layer after the other."""
    source = ann(shortcut=shortcut)
    found, ours = converted(source, spiking(source, 3), images())
    _, wanted = converted(source, spiking(source, 3), images())
    assert found.conversion is not None
    lambdas = dict(found.conversion.lambdas)
    conversion = in_float64(found.conversion)
    for name, _ in source.architecture.activations():
        beta = wanted.get_parameter(f"{name.replace('act', 'norm')}.bias")
        with torch.no_grad():
            beta.sub_(mean_error(wanted, conversion.reference, lambdas, name))
    before = {key: value.clone() for key, value in ours.state_dict().items()}
    ours.train()
    calibrate(ours, conversion, torch.split(images(), 4))
    assert ours.training
    for key, value in ours.state_dict().items():
        assert torch.allclose(value, wanted.state_dict()[key], atol=1e-6), key
        corrected = key.endswith("bias") and "norm" in key and "shortcut" not in key
        assert torch.equal(value, before[key]) is not corrected, key


def test_mean_rates_come_closer() -> None:
    source = ann(seed=4)
    found, model = converted(source, spiking(source, 8, neuron=Neuron(1.0, 1.0, reset="soft")), images())
    assert found.conversion is not None
    last, lambdas = "stages.2.0.act1", dict(found.conversion.lambdas)
    before = mean_error(model, source, lambdas, last).abs().mean()
    calibrate(model, in_float64(found.conversion), [images()])
    assert mean_error(model, source, lambdas, last).abs().mean() < 0.6 * before
