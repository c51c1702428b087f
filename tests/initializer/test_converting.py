"""Conversion without training: the scales against networks of rates, the spikes against the ANN they stand for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from conversions import FIRE, Level, ann, as_rates, converted, images, rates, shown, space, spiking
from torch import nn

from idsnn_cli.architecture import Neuron, build_description
from idsnn_cli.errors import MappingError, UsageError
from idsnn_cli.initializer import Plan, Rules, apply, initialize
from idsnn_cli.initializer.thresholds import activation_thresholds
from idsnn_cli.models import build
from idsnn_cli.rules import HeadRule

SHORTCUTS = ["projection", "pad"]


@pytest.mark.parametrize("stem", ["3x3", "7x7"])
@pytest.mark.parametrize("shortcut", SHORTCUTS)
def test_rates_times_lambda_are_the_activations(shortcut: str, stem: str) -> None:
    """With every neuron replaced by its limit, the converted network is the ANN: layers by lambda, logits as they are.

    The max-pool of a 7x7 stem may be taken of rates; only of spikes it is another thing.
    """
    side = 24 if stem == "7x7" else 12
    source = ann(shortcut=shortcut, stem=stem, side=side)
    x = images(side=side)
    found, model = converted(source, spiking(source, 2), x)
    wanted, ours = rates(source, x), rates(as_rates(model), x)
    lambdas = found.plan.lambdas
    for name, activation in wanted.items():
        if name != "logits":
            rate = ours[name] * lambdas[space(source.architecture, name)]
            assert torch.allclose(rate, activation, rtol=1e-4, atol=1e-5), name
    assert torch.allclose(ours["logits"][0], wanted["logits"], rtol=1e-4, atol=1e-5)
    # The largest activation of each stream is its lambda: joined ones share the largest of all.
    tops: dict[str, float] = {}
    for name, activation in wanted.items():
        if name != "logits":
            where = space(source.architecture, name)
            where = "stages.0" if shortcut == "pad" and "inner" not in where else where
            tops[where] = max(tops.get(where, 0.0), float(activation.max()))
    for where, value in lambdas.items():
        key = "stages.0" if shortcut == "pad" and "inner" not in where else where
        assert value == pytest.approx(tops[key], rel=1e-5)


@pytest.mark.parametrize("shortcut", SHORTCUTS)
def test_the_error_falls_as_one_over_t(shortcut: str) -> None:
    """Soft reset, half start, no leak, lambda the largest activation: rates tend to activations / lambda."""
    source, x = ann(shortcut=shortcut), images(2)
    found, model = converted(source, spiking(source, 1024), x)
    exact = rates(as_rates(model), x)
    errors = {}
    for name, spikes in rates(model, x).items():
        if name == "logits":
            continue
        by_step = spikes.view(1024, 2, *spikes.shape[1:]).cumsum(0)
        for steps in (64, 256, 1024):
            error = float((by_step[steps - 1] / steps - exact[name]).abs().mean())
            errors[name, steps] = error * steps
    for name, _ in source.architecture.activations():
        # Steps * error stays within a bound; that of a constant error would grow sixteenfold.
        assert errors[name, 1024] < 2.5 * errors[name, 64] + 0.5, name
        assert errors[name, 1024] / 1024 < 0.02, name
    assert set(found.plan.lambdas) >= {"stages.0", "stages.2"}


@pytest.mark.parametrize("rule", ["weight-normalisation", "learnt-thresholds"])
@pytest.mark.parametrize("shortcut", SHORTCUTS)
def test_qcfs_is_copied_where_currents_are_steady(shortcut: str, rule: str) -> None:
    """The stem's neurons get the same current at every step: over T = L steps their rates are the QCFS activations.

    But for ties, which tests/models/test_qcfs.py shows.
    """
    source, x = ann(shortcut=shortcut, activation="qcfs", levels=6), images()
    found, model = converted(source, spiking(source, 6), x, convert=rule)
    if rule == "weight-normalisation":
        assert found.plan.lambdas["stages.0"] <= source.state_dict()["stem.act.limit"].item() + 1e-6
        return
    limits = {name: float(value) for name, value in source.state_dict().items() if name.endswith("limit")}
    for name, owner in source.architecture.activations():
        assert found.plan.lambdas[space(source.architecture, name)] == pytest.approx(limits[f"{owner}.limit"])
    spikes = rates(model, x)["stem.act"]
    rate = spikes.view(6, 6, *spikes.shape[1:]).mean(0)
    wanted = rates(source, x)["stem.act"] / limits["stem.act.limit"]
    different = (rate - wanted).abs() > 1e-6
    # float32 weights may put a current that is all but on a step's edge on its other side.
    assert different.double().mean() < 1e-3
    assert len(set(wanted.flatten().tolist())) == 7


def test_balancing_takes_the_largest_current_of_the_spiking_network() -> None:
    """The stem's by hand, and the first inner layer's behind the spikes that follow from it."""
    source, x = ann(), images(4)
    found, _ = converted(source, spiking(source, 3), x, convert="threshold-balancing")
    with torch.no_grad():
        stem, block = source.get_submodule("stem"), source.get_submodule("stages.0.0")
        current = stem.get_submodule("norm")(stem.get_submodule("conv")(source.get_submodule("input")(x)))
        lambdas = found.plan.lambdas
        membrane, largest = torch.full_like(current, 0.5), 0.0
        # The stem is the stream's first place, so what was known of it when the inner layer was looked at.
        first = float(current.max())
        for _ in range(3):
            membrane += current / first
            spikes = (membrane > 1).double()
            membrane -= spikes
            inner = block.get_submodule("norm0")(block.get_submodule("conv0")(spikes * first))
            largest = max(largest, float(inner.max()))
    assert lambdas["stages.0.0.inner0"] == pytest.approx(largest, rel=1e-4)
    assert lambdas["stages.0"] >= first * (1 - 1e-5)


@pytest.mark.parametrize(("added", "raised"), [(-0.5, 1.0), (1.0, 2.0)])
def test_a_streams_lambda_is_the_largest_current_that_it_meets(added: float, raised: float) -> None:
    """The first block adds a constant, in units of the stem's largest current, to the spikes that each stand for it."""
    source, x = ann(), images(4)
    with torch.no_grad():
        stem, last = source.get_submodule("stem"), source.get_submodule("stages.0.0.norm1")
        current = stem.get_submodule("norm")(stem.get_submodule("conv")(source.get_submodule("input")(x)))
        last.get_parameter("weight").zero_()
        last.get_parameter("bias").fill_(added * float(current.max()))
    found, _ = converted(source, spiking(source, 3), x, convert="threshold-balancing")
    assert found.plan.lambdas["stages.0"] == pytest.approx(raised * float(current.max()), rel=1e-4)


def test_balancing_gives_other_weights_than_normalisation() -> None:
    source, x = ann(), images(4)
    states = [
        converted(source, spiking(source, 3), x, convert=rule)[0].state
        for rule in ("threshold-balancing", "weight-normalisation")
    ]
    assert not torch.equal(states[0]["stages.1.0.norm0.weight"], states[1]["stages.1.0.norm0.weight"])


@pytest.mark.parametrize(
    ("name", "options", "depth", "rules"),
    [
        ("resnet14", {}, 8, {}),
        ("resnet8", {}, 14, {}),
        ("resnet14", {"shortcut": "pad"}, 8, {"shortcut": "random"}),
        ("resnet8", {"shortcut": "pad"}, 8, {"bare_shortcut": "select"}),
        ("resnet8", {"width": 6}, 8, {"channels": "uniform"}),
        ("resnet8", {"width": 6}, 8, {"channels": "merge"}),
        ("resnet18", {}, 8, {}),
        ("resnet50", {"stem": "7x7"}, 8, {}),
    ],
    ids=str,
)
def test_whatever_is_mapped_the_rates_are_those_of_the_mapped_ann(
    name: str, options: dict[str, Any], depth: int, rules: dict[str, Any]
) -> None:
    """Other depths, widths, shortcuts, random projections: the reference is the ANN that the mapping makes."""
    width, side = options.pop("width", 4), 24
    source = build(build_description(name, 5, width=width, **options), 2).double()
    with torch.no_grad():
        for _ in range(30):
            source.train()(images(side=side))
    x = images(side=side)
    target = spiking(source, 2, depth, shortcut="projection")
    found, model = converted(source.eval(), target, x, **rules)
    assert found.conversion is not None
    reference = found.conversion.reference.double()
    assert torch.allclose(rates(as_rates(model), x)["logits"][0], reference(x), rtol=1e-3, atol=1e-4)
    # The plan alone makes the same weights again.
    stored = Plan.from_dict(found.plan.to_dict())
    assert stored == found.plan
    start = build(target, 3).state_dict() | {
        key: value for key, value in found.state.items() if key.startswith("input.")
    }
    again = apply(stored, source.state_dict().__getitem__, start, torch.device("cpu"), 3)
    for key, value in found.state.items():
        assert torch.allclose(again[key], value, rtol=1e-6), key


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ({"neuron": Neuron(0.5, 1.0)}, "v_threshold 1, not 0.5"),
        ({"spiking_block": "sew"}, "SEW"),
        ({"spiking_block": "ms"}, "an MS block's shortcut adds membranes"),
        ({"coding": "poisson"}, "Poisson"),
        ({"amplitude": "channel"}, "amplitude"),
    ],
    ids=str,
)
def test_targets_that_cannot_stand_for_an_ann(target: dict[str, Any], words: str) -> None:
    source = ann()
    with pytest.raises(UsageError, match=words):
        converted(source, spiking(source, 2, **target), images())


def test_a_spiking_source_and_rules_without_images() -> None:
    source = ann()
    with pytest.raises(UsageError, match="convert is for a spiking target"):
        converted(source, source.architecture, images())
    found, model = converted(source, spiking(source, 2), images())
    with pytest.raises(UsageError, match="this one is spiking"):
        converted(model, found.architecture, images())
    with pytest.raises(UsageError, match="needs images"):
        initialize(source, spiking(source, 2), rules=Rules(convert="weight-normalisation"))
    with pytest.raises(UsageError, match="QCFS"):
        converted(source, spiking(source, 2), images(), convert="learnt-thresholds")


def test_learnt_lambdas_that_an_identity_cannot_join() -> None:
    source = ann(activation="qcfs", levels=4)
    with pytest.raises(MappingError, match=r"a lambda for each of stages\.0, stages\.1"):
        converted(source, spiking(source, 2, shortcut="pad"), images(), convert="learnt-thresholds")
    with torch.no_grad():
        source.get_parameter("stages.1.0.act0.limit").fill_(-0.5)
    with pytest.raises(MappingError, match=r"stages.1.0.act0.limit of the source is -0.5"):
        converted(source, spiking(source, 2), images(), convert="learnt-thresholds")


def test_what_a_conversion_was_made_of_has_its_lambdas_in() -> None:
    """Two sources that differ in a learnt lambda alone are two sources to it, and one to a start that reads none."""
    source = ann(activation="qcfs", levels=4)
    hashes: dict[str, set[str]] = {"learnt-thresholds": set(), "none": set()}
    for limit in (1.0, 2.0):
        with torch.no_grad():
            source.get_parameter("stages.1.0.act0.limit").fill_(limit)
        for convert, found in hashes.items():
            chosen = {"convert": convert} if convert != "none" else {"convert": convert, "percentile": 99.9}
            found.add(converted(source, spiking(source, 2), images(), **chosen)[0].source_sha256)
    assert {convert: len(found) for convert, found in hashes.items()} == {"learnt-thresholds": 2, "none": 1}


def test_a_stage_without_a_counterpart_has_the_lambda_that_its_shortcut_carries() -> None:
    """Four stages of a three-stage source: the last stays random, but option A hands it spikes of a known worth."""
    source = ann(activation="qcfs", levels=4, shortcut="pad")
    target = spiking(source, 2).changed(depths=(1, 1, 1, 1), widths=(4, 8, 16, 32))
    found, model = converted(source, target, images(side=24), convert="learnt-thresholds", head="random")
    assert found.plan.lambdas["stages.3"] == found.plan.lambdas["stages.0"]
    assert found.conversion is not None
    wanted = found.conversion.reference.double()
    ours = as_rates(model)
    # QCFS without its steps: the same range.
    limits = {key: float(value) for key, value in wanted.state_dict().items() if key.endswith("limit")}
    for name, owner in wanted.architecture.activations():
        parent, _, leaf = name.rpartition(".")
        setattr(wanted.get_submodule(parent), leaf, nn.Hardtanh(0.0, limits[f"{owner}.limit"]))
    x = images(side=24)
    assert torch.allclose(ours(x)[0], wanted(x), rtol=1e-4, atol=1e-5)


def test_a_leak_and_a_random_head_are_told_of() -> None:
    source = ann()
    cases: list[tuple[Neuron, HeadRule, list[str]]] = [
        (FIRE, "copy", []),
        (Neuron(1.0, 0.5), "copy", ["decay 0.5 and a hard reset"]),
        (FIRE, "random", ["the linear layer is random"]),
    ]
    for neuron, head, wanted in cases:
        said: list[str] = []
        rules = Rules(convert="weight-normalisation", head=head)
        initialize(source, spiking(source, 2, neuron=neuron), rules=rules, images=shown(images()), say=said.append)
        assert [words in line for words, line in zip(wanted, said, strict=True)] == [True] * len(wanted)


@pytest.mark.parametrize("amplitude", ["folded", "folded-layer"])
@pytest.mark.parametrize("shortcut", ["projection", "pad", "pad-end"])
def test_ranges_of_activations_alone_become_thresholds_and_scales_of_shortcuts(shortcut: str, amplitude: str) -> None:
    """With each activation's own lambda the rates are the levels: the logits are the quantised network's own."""
    description = build_description("resnet14", 5, width=4, activation="qcfs", levels=3, shortcut=shortcut)
    source = ann("resnet14", activation="qcfs", levels=3, shortcut=shortcut)
    own = build(description.changed(limits="each"), 0).double()
    own.load_state_dict(source.state_dict(), strict=False)
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for name, value in own.named_parameters():
            if name.endswith("limit"):
                value.copy_(0.5 + torch.rand((), generator=generator, dtype=value.dtype))
    own.eval()
    target = spiking(own, 1, 14, amplitude=amplitude)
    _, model = converted(own, target, images(), convert="learnt-thresholds")
    for name, _ in own.architecture.activations():
        model.set_submodule(name, Level(3))
    with torch.no_grad():
        wanted, found = own(images()), model(images())[0]
    # Weights are float32 before they are compared, and a level may tip over; hardly one may.
    assert float((found - wanted).abs().median()) < 1e-5
    assert wanted.std(0).min() > 0.01


def test_ranges_of_activations_alone_need_shortcuts_with_a_scale() -> None:
    source = ann("resnet8", activation="qcfs", levels=3)
    own = build(source.architecture.changed(limits="each"), 0).double()
    own.load_state_dict(source.state_dict(), strict=False)
    with pytest.raises(MappingError, match=r"student\.threshold=channel, or layer"):
        converted(own.eval(), spiking(own, 4), images(), convert="learnt-thresholds")


@pytest.mark.parametrize("shortcut", ["projection", "pad"])
def test_each_activation_has_a_threshold_of_its_own(shortcut: str) -> None:
    """At 100 percent it is the largest value, also where identities join several activations to one stream."""
    source = ann("resnet14", shortcut=shortcut)
    found = activation_thresholds(source, [images()], 100.0)
    largest = {name: float(value.max()) for name, value in rates(source, images()).items() if name != "logits"}
    assert found == pytest.approx(largest)
    assert len(found) == 1 + 2 * 6
