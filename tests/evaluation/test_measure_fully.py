"""All measures together: the plain figures stay, and each measure is what it is alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from idsnn_cli.architecture import build_description
from idsnn_cli.errors import UsageError
from idsnn_cli.evaluation.accuracy import evaluate
from idsnn_cli.evaluation.measure import measure_fully
from idsnn_cli.evaluation.measures.latency import measure_latency
from idsnn_cli.models import Model, build, prolonged
from idsnn_cli.recipe.schema import MEASURES

IMAGES = torch.rand((9, 3, 8, 8), generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(9) % 4


def batches() -> list[tuple[Tensor, Tensor]]:
    return [(IMAGES[:5], LABELS[:5]), (IMAGES[5:], LABELS[5:])]


def network(**options: Any) -> Model:
    model = build(build_description("spiking-resnet8", 4, width=4, timesteps=2, **options), seed=3)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.bias.add_(0.3)
    return model


def untimed(figures: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in figures.items() if key not in ("images_per_second", "latency")}


@pytest.mark.parametrize("coding", ["direct", "poisson"])
def test_each_measure_is_the_same_alone_and_changes_no_plain_figure(coding: str) -> None:
    model = network(coding=coding)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    plain, found = measure_fully(model, batches, MEASURES, seed=4)
    assert untimed(plain.to_dict()) == untimed(evaluate(model, batches(), seed=4).to_dict())
    assert list(found) == [
        *("activity", "beyond", "calibration", "class_balance", "confusion", "early_exit", "energy", "latency"),
        "robustness",
    ]
    for measure in MEASURES:
        _, alone = measure_fully(model, batches, [measure], seed=4)
        assert alone.keys() == {measure.replace("-", "_")}
        assert untimed(alone) == untimed({key: found[key] for key in alone})
    assert measure_fully(model, batches, (), seed=4)[1] == {}
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
    assert sum(map(sum, found["confusion"])) == 9
    right = sum(found["confusion"][k][k] for k in range(4))
    assert 100 * right / 9 == pytest.approx(plain.top1)
    assert all(sum(each.exits) == 9 for each in found["early_exit"])


def test_an_ann_has_no_spikes_and_no_time() -> None:
    model = build(build_description("resnet8", 4, width=4), seed=0)
    _, found = measure_fully(model, batches, MEASURES, timesteps=8)
    assert [key for key, value in found.items() if value is None] == ["activity", "beyond", "early_exit"]
    assert found["energy"].ratio == pytest.approx(1)
    assert len(found["calibration"].ece_by_step) == 1


def test_what_counts_as_more_than_one_spike_is_said() -> None:
    """Sums of SEW-ADD are integers; the other joins and blocks give one spike or none."""
    said = {
        "add": network(spiking_block="sew", join="add"),
        "and": network(spiking_block="sew", join="and"),
        "spiking": network(),
    }
    for name, model in said.items():
        _, found = measure_fully(model, batches, ["energy"])
        assert any("integers" in caveat for caveat in found["energy"].caveats) == (name == "add")


def test_beyond_begins_with_the_networks_own_steps() -> None:
    model = network()
    plain, found = measure_fully(model, batches, ["beyond", "calibration"])
    beyond = found["beyond"]
    assert beyond.timesteps == len(beyond.top1_by_step) == len(beyond.ece_by_step) == 4
    assert beyond.top1_by_step[:2] == plain.top1_by_step
    assert beyond.ece_by_step[:2] == pytest.approx(found["calibration"].ece_by_step, rel=1e-5)
    _, found = measure_fully(model, batches, ["beyond"], timesteps=7)
    assert len(found["beyond"].top1_by_step) == 7


def test_a_prolonged_network_is_the_one_built_for_longer() -> None:
    model = network(spiking_block="sew").eval()
    longer = prolonged(model, 5)
    assert longer.architecture.timesteps == 5
    assert not longer.training
    own = build(longer.architecture, seed=0).eval()
    own.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(longer(IMAGES), own(IMAGES))
        assert torch.allclose(longer(IMAGES)[:2], model(IMAGES), atol=1e-6)
    shared = dict(model.named_parameters())
    assert all(value.data_ptr() == shared[name].data_ptr() for name, value in longer.named_parameters())
    for steps in (1, 2):
        with pytest.raises(UsageError) as caught:
            prolonged(model, steps)
        assert caught.value.fix


@pytest.mark.parametrize("training", [True, False])
def test_latency_runs_one_image_and_then_all(training: bool) -> None:
    sizes: list[tuple[int, bool]] = []
    model = network().train(training)
    model.register_forward_pre_hook(lambda module, given: sizes.append((len(given[0]), module.training)))
    found = measure_latency(model, IMAGES, repeats=4, batch_repeats=2)
    assert sizes == [(1, False)] * (3 + 4) + [(9, False)] * (1 + 2)
    assert model.training is training
    assert 0 < found.fastest_ms <= found.median_ms <= found.p90_ms
    assert (found.repeats, found.batch_size) == (4, 9)
    assert found.images_per_second > 0
