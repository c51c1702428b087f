"""A stem for images of other channels: what it makes of grey stays, whatever the numbers."""

from __future__ import annotations

import json
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from idsnn_cli.architecture import Architecture, build_description
from idsnn_cli.errors import UsageError
from idsnn_cli.initializer import Plan, initialize
from idsnn_cli.models import Model, build
from idsnn_cli.rules import Rules

PLAIN = build_description("resnet8", 5, width=8)
DEEP = build_description("resnet8", 5, width=8, stem="7x7").changed(stem="deep", stem_padding=1, stem_widths=(8, 8, 8))
WHOLE = Rules(head="copy")


def source(channels: int, architecture: Architecture = PLAIN) -> Model:
    model = build(architecture.changed(in_channels=channels), seed=1)
    model.set_normalisation((0.4,) * channels, (0.3,) * channels)
    return model.eval()


def made(model: Model, channels: int) -> nn.Module:
    return initialize(model, model.architecture.changed(in_channels=channels), rules=WHOLE).module()


def grey(channels: int) -> Tensor:
    return torch.rand((4, 1, 16, 16), generator=torch.Generator().manual_seed(5)).expand(-1, channels, -1, -1)


@pytest.mark.parametrize("architecture", [PLAIN, DEEP])
@pytest.mark.parametrize(("have", "want"), [(1, 3), (3, 1), (1, 2), (4, 1), (3, 4), (2, 4), (2, 3)])
def test_grey_images_give_what_the_source_gives(have: int, want: int, architecture: Architecture) -> None:
    if have > want > 1:
        return
    model = source(have, architecture)
    with torch.no_grad():
        assert torch.allclose(made(model, want)(grey(want)), model(grey(have)), atol=1e-5)


def test_kernels_are_repeated_and_divided_summed_or_made_up_for() -> None:
    weight = {channels: source(channels).state_dict()["stem.conv.weight"] for channels in (1, 3, 4)}
    third = made(source(1), 3).state_dict()["stem.conv.weight"]
    assert torch.allclose(third, weight[1].expand(-1, 3, -1, -1) / 3)
    assert torch.allclose(made(source(3), 1).state_dict()["stem.conv.weight"], weight[3].sum(1, keepdim=True))
    assert torch.allclose(made(source(4), 3).state_dict()["stem.conv.weight"], weight[4][:, :3] * 4 / 3)
    four = made(source(3), 4).state_dict()["stem.conv.weight"]
    assert torch.allclose(four, weight[3][:, [0, 1, 2, 0]] / torch.tensor([2.0, 1, 1, 2]).view(1, 4, 1, 1))


@pytest.mark.parametrize("channels", ["loop", "uniform", "importance", "random"])
@pytest.mark.parametrize("multiplicity", ["ignore", "divide"])
def test_no_rule_of_channels_chooses_among_colours(channels: str, multiplicity: Literal["ignore", "divide"]) -> None:
    model, rules = source(3), Rules(head="copy", channels=channels, multiplicity=multiplicity)
    state = initialize(model, PLAIN.changed(in_channels=1), rules=rules).state
    assert torch.allclose(state["stem.conv.weight"], model.state_dict()["stem.conv.weight"].sum(1, keepdim=True))


def test_the_normalisation_goes_with_the_channels() -> None:
    model = source(3)
    model.set_normalisation((0.3, 0.4, 0.8), (0.1, 0.2, 0.3))
    found = initialize(model, PLAIN.changed(in_channels=1))
    assert found.state["input.mean"].flatten().tolist() == pytest.approx([0.5])
    assert found.state["input.std"].flatten().tolist() == pytest.approx([0.2])
    again = Plan.from_dict(json.loads(json.dumps(found.plan.to_dict())))
    assert again.entries == found.plan.entries
    foreign = {key: value for key, value in source(1).state_dict().items() if not key.startswith("input.")}
    given = initialize(foreign, PLAIN.changed(in_channels=3), kind="ann", normalise=((0.3,), (0.2,)))
    assert given.state["input.mean"].flatten().tolist() == pytest.approx([0.3] * 3)
    with pytest.raises(UsageError, match="1 channel, but the normalisation has 3 means"):
        initialize(foreign, PLAIN, kind="ann", normalise=((0.3,) * 3, (0.2,) * 3))


@pytest.mark.parametrize(("have", "want"), [(3, 2), (1, 2), (4, 3), (3, 1), (2, 4)])
def test_each_channel_reads_the_mean_of_all_where_that_is_the_rule(have: int, want: int) -> None:
    model = source(have)
    model.set_normalisation([0.1 * (c + 1) for c in range(have)], (0.3,) * have)
    rules = Rules(head="copy", input="mean")
    found = initialize(model, PLAIN.changed(in_channels=want), rules=rules)
    kernels = model.state_dict()["stem.conv.weight"]
    shared = kernels.mean(1, keepdim=True) * have / want
    assert torch.allclose(found.state["stem.conv.weight"], shared.expand(-1, want, -1, -1), atol=1e-6)
    assert torch.allclose(found.state["input.mean"].flatten(), torch.full((want,), 0.05 * (have + 1)))
    model.set_normalisation((0.4,) * have, (0.3,) * have)
    grown = initialize(model, PLAIN.changed(in_channels=want), rules=rules).module()
    with torch.no_grad():
        assert torch.allclose(grown(grey(want)), model(grey(have)), atol=1e-5)
    assert Plan.from_dict(json.loads(json.dumps(found.plan.to_dict()))).rules.input == "mean"


def test_images_of_as_many_channels_are_no_matter_of_the_rule() -> None:
    model = source(3)
    found = initialize(model, PLAIN, rules=Rules(head="copy", input="mean"))
    assert torch.equal(found.state["stem.conv.weight"], model.state_dict()["stem.conv.weight"])
