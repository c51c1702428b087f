"""The counters against the networks written a second time, which count what their convolutions read themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from naive import Naive, Steps
from torch import Tensor

from idsnn_cli.architecture import build_description
from idsnn_cli.evaluation.measures.activity import SpikeCounter
from idsnn_cli.evaluation.measures.energy import OperationCounter
from idsnn_cli.models import build
from idsnn_cli.results import plain
from idsnn_cli.spiking import PoissonEncoder


@dataclass
class Read:
    """What a convolution read over all steps and images, and the products that its maps take."""

    rate: float
    macs: int
    largest: float


class Counting(Naive):
    """Each convolution's input by name, and the neurons' spikes in the order in which they fire."""

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self.read: dict[str, Read] = {}
        self.fired: list[Tensor] = []

    def conv_norm(self, conv: str, norm: str, maps: Steps, stride: int, padding: int) -> Steps:
        out = super().conv_norm(conv, norm, maps, stride, padding)
        together, (out_channels, in_channels, height, width) = torch.stack(maps), self.state[f"{conv}.weight"].shape
        macs = out_channels * out[0].shape[2] * out[0].shape[3] * in_channels * height * width
        self.read[conv] = Read(float(together.double().mean()), macs, float(together.max()))
        return out

    def neuron(self, currents: Steps) -> Steps:
        spikes = super().neuron(currents)
        self.fired.append(torch.stack(spikes).double())
        return spikes


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"shortcut": "pad"},
        {"coding": "poisson"},
        {"stem": "7x7"},
        {"spiking_block": "sew", "join": "add"},
        {"spiking_block": "sew", "join": "iand"},
        {"spiking_block": "ms"},
        {"spiking_block": "ms", "shortcut": "pad"},
    ],
    ids=lambda options: " ".join(map(str, options.values())) or "plain",
)
def test_what_each_layer_reads_and_fires(options: dict[str, Any]) -> None:
    timesteps = 3
    architecture = build_description("spiking-resnet14", 5, width=4, timesteps=timesteps, **options)
    model = build(architecture, seed=1).eval()
    generator = torch.Generator().manual_seed(2)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.bias.data += 0.35  # so that deep layers fire, too
    images = torch.rand((4, 3, 16, 16), generator=generator)
    inputs = [model.input(images)] * timesteps
    if architecture.coding == "poisson":
        inputs = list(PoissonEncoder(timesteps)(images))
    reads = architecture.reading_values()
    naive = Counting(architecture, model.state_dict(), training=False)
    operations = OperationCounter(model, timesteps, reads, each_step=architecture.reading_membranes())
    with torch.no_grad(), SpikeCounter(model) as spikes, operations:
        model(images[:3])
        model(images[3:])
        naive(inputs)
    found = {layer["layer"]: layer for layer in operations.result().to_dict()["layers"]}
    head = found.pop("head")
    assert (head["macs"], head["reads"]) == (5 * architecture.features, "values")
    assert found.keys() == naive.read.keys()
    for name, expected in naive.read.items():
        layer = found[name]
        assert layer["macs"] == expected.macs
        if name == "stem.conv" and architecture.coding == "direct":
            assert (layer["reads"], layer["synops"]) == ("values", 0)
            continue
        if name.endswith("shortcut.conv") and architecture.spiking_block == "ms":
            assert (layer["reads"], layer["synops"]) == ("values", 0), "membranes are no spikes"
            assert layer["energy_uj"] == pytest.approx(timesteps * expected.macs * 4.6e-6)
            continue
        assert expected.rate > 0, "nothing fires, so nothing is compared"
        assert layer["input_rate"] == pytest.approx(expected.rate, rel=1e-12)
        assert layer["synops"] == pytest.approx(expected.rate * timesteps * expected.macs)
        assert layer["energy_uj"] == pytest.approx(expected.rate * timesteps * expected.macs * 0.9e-6)
    if options.get("join") == "add":
        assert max(read.largest for read in naive.read.values()) >= 2, "no integer above 1 was read"
    rates = sorted(float(fired.mean()) for fired in naive.fired)
    assert sorted(layer["firing_rate"] for layer in plain(spikes.result())) == pytest.approx(rates)
    counts = [fired.sum((0, 1)) for fired in naive.fired]
    for key, level in (("silent", 0), ("saturated", 4 * timesteps)):
        shares = sorted(float((count == level).double().mean()) for count in counts)
        assert sorted(layer[key] for layer in plain(spikes.result())) == pytest.approx(shares)
