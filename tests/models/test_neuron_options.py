"""Soft reset and the half start in whole networks: described, stored, prolonged, and absent where nobody asked."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from idsnn_cli.architecture import Architecture, Neuron, build_description, read_description
from idsnn_cli.errors import CheckpointError, UsageError
from idsnn_cli.models import build, prolonged

SOFT = Neuron(0.5, 0.9, reset="soft", start="half")


def described(neuron: Neuron = SOFT) -> Architecture:
    return build_description("spiking-resnet8", 5, width=4, timesteps=3, neuron=neuron)


def test_a_description_says_both_and_comes_back() -> None:
    words = described().describe()
    assert "soft reset" in words
    assert "starts at half its threshold" in words
    assert read_description(described().to_dict()) == described()


def test_a_description_without_them_is_that_of_earlier_versions() -> None:
    plain = described(Neuron()).to_dict()
    assert plain["neuron"] == {"v_threshold": 0.5, "decay": 0.25, "surrogate": "rectangle", "surrogate_scale": 0.5}
    assert read_description(plain).neuron == Neuron(reset="hard", start="zero")
    assert "reset" not in described(Neuron()).describe()


@pytest.mark.parametrize("change", [{"reset": "gentle"}, {"start": "full"}, {"start": None}], ids=str)
def test_other_words_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="Give one of"):
        described(Neuron(**change))
    plain = described().to_dict()
    with pytest.raises(CheckpointError):
        read_description(plain | {"neuron": plain["neuron"] | change})


@pytest.mark.parametrize("neuron", [Neuron(0.5, 0.9), Neuron(0.5, 0.9, reset="soft"), Neuron(0.5, 0.9, start="half")])
def test_each_option_changes_the_logits(neuron: Neuron) -> None:
    images = torch.rand((2, 3, 16, 16), generator=torch.Generator().manual_seed(1))
    found, other = (build(described(each), 0).train()(images) for each in (SOFT, neuron))
    assert not torch.equal(found, other)


def test_a_prolonged_network_begins_as_the_network() -> None:
    images = torch.rand((2, 3, 16, 16), generator=torch.Generator().manual_seed(1))
    model = build(described(), 0).double()
    model.train()(images)
    model.eval()
    longer = prolonged(model, 7)
    assert longer.architecture.neuron == SOFT
    with torch.no_grad():
        assert torch.equal(longer(images)[:3], model(images))


def test_gradients_reach_every_weight() -> None:
    model = build(described(), 0)
    model.train()(torch.rand((4, 3, 16, 16), generator=torch.Generator().manual_seed(2))).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())
