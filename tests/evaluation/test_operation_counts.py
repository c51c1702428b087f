"""Spikes, operations and energy against counts by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from idsnn_cli.architecture import Neuron, build_description
from idsnn_cli.evaluation.measures.activity import SpikeCounter
from idsnn_cli.evaluation.measures.energy import OperationCounter
from idsnn_cli.models import build
from idsnn_cli.results import plain
from idsnn_cli.spiking import LIF


class TwoLayers(nn.Module):
    """1 -> 2 channels by 1x1, neurons, then 2 -> 1 channels by 2x2: on 2x2 images each spike takes one product."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 2, 1, bias=False)
        self.neurons = LIF(Neuron(v_threshold=0.5, decay=0.5), timesteps=2)
        self.second = nn.Conv2d(2, 1, 2, bias=False)
        with torch.no_grad():
            self.first.weight.copy_(torch.tensor([1.0, 0.6]).view(2, 1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        maps: Tensor = self.second(self.neurons(self.first(images), repeat=2))
        return maps


# Currents of the first channel, and the spikes that two steps of U = 0.5 U (1 - F) + X make of them:
#   1 -> 1, 1: both steps.  0 -> none.  0.4 -> 0.4, 0.6: the second.  0.45 -> 0.45, 0.675: the second.
# Of the second channel (0.6 of them): 0.6, 0.6: both; 0; 0.24, 0.36: none; 0.27, 0.405: none.
IMAGE = torch.tensor([[1.0, 0.0], [0.4, 0.45]]).view(1, 1, 2, 2)
SPIKES = 2 + 0 + 1 + 1 + 2


def test_two_layers_by_hand() -> None:
    model = TwoLayers()
    with torch.no_grad(), SpikeCounter(model) as spikes, OperationCounter(model, 2, {"first"}) as operations:
        model(IMAGE)
    assert plain(spikes.result()) == [
        {"layer": "neurons", "neurons": 8, "firing_rate": SPIKES / 16, "silent": 4 / 8, "saturated": 2 / 8}
    ]
    found = operations.result().to_dict()
    first, second = found["layers"]
    assert (first["layer"], first["macs"], first["reads"]) == ("first", 2 * 4, "values")
    assert (first["input_rate"], first["synops"]) == (None, 0)
    assert first["energy_uj"] == pytest.approx(8 * 4.6e-6)
    assert (second["layer"], second["macs"], second["reads"]) == ("second", 8, "spikes")
    assert second["input_rate"] == SPIKES / 16
    assert second["synops"] == SPIKES  # one product for each spike, on these images
    assert second["energy_uj"] == pytest.approx(SPIKES * 0.9e-6)
    assert (found["macs"], found["synops"], found["ann_macs"]) == (8, SPIKES, 16)
    assert found["energy_uj"] == pytest.approx(8 * 4.6e-6 + SPIKES * 0.9e-6)
    assert found["ann_energy_uj"] == pytest.approx(16 * 4.6e-6)
    assert found["ratio"] == pytest.approx(16 * 4.6 / (8 * 4.6 + SPIKES * 0.9))
    assert found["caveats"]


def test_images_are_averaged_and_neurons_are_counted_over_all_of_them() -> None:
    """Over a black image beside it rates halve; nobody fires at every step any more, and nobody new is silent."""
    model, black = TwoLayers(), torch.zeros_like(IMAGE)
    for batches in ([torch.cat([IMAGE, black])], [IMAGE, black]):
        with torch.no_grad(), SpikeCounter(model) as spikes, OperationCounter(model, 2, {"first"}) as operations:
            for images in batches:
                model(images)
        layer = plain(spikes.result())[0]
        assert (layer["firing_rate"], layer["silent"], layer["saturated"]) == (SPIKES / 32, 0.5, 0.0)
        assert operations.result().to_dict()["synops"] == SPIKES / 2
        assert operations.result().to_dict()["ann_macs"] == 16


def test_an_integer_counts_as_that_many_spikes() -> None:
    layer = nn.Sequential(nn.Conv2d(1, 3, 1, bias=False))
    with torch.no_grad(), OperationCounter(layer, 1, set()) as operations:
        layer(torch.tensor([[2.0, 0.0], [1.0, 3.0]]).view(1, 1, 2, 2))
    assert operations.result().to_dict()["layers"][0]["input_rate"] == 6 / 4
    assert operations.result().to_dict()["synops"] == 6 * 3


def test_nothing_looks_on_behind_the_counters() -> None:
    model = TwoLayers()
    with SpikeCounter(model) as spikes, OperationCounter(model, 2, None) as operations:
        pass
    with torch.no_grad():
        model(IMAGE)
    assert plain(spikes.result()) == []
    assert operations.result().to_dict()["layers"] == []
    assert operations.result().to_dict()["ratio"] is None


@pytest.mark.parametrize("name", ["resnet8", "resnet50"])
def test_macs_are_those_of_torchs_own_counter(name: str) -> None:
    model = build(build_description(name, 5, width=4), seed=0).eval()
    images = torch.rand((1, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    reads = model.architecture.reading_values()
    with torch.no_grad(), OperationCounter(model, 1, reads) as operations, FlopCounterMode(display=False) as flops:
        model(images)
    found = operations.result().to_dict()
    assert 2 * found["macs"] == 2 * found["ann_macs"] == flops.get_total_flops()
    assert found["energy_uj"] == pytest.approx(found["macs"] * 4.6e-6)
    assert (found["synops"], found["ratio"]) == (0, pytest.approx(1))
