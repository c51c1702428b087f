"""What is found for which rules, and what the rules make of it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from running import ALL, BASIC, OPTION_A, PREACTIVATION_50, labelled, network, running
from sources import ann, spiking, values
from torch import Tensor

from idsnn_cli.architecture import Architecture, BottleneckStride, Neuron
from idsnn_cli.errors import MappingError, UsageError
from idsnn_cli.initializer import (
    Findings,
    Plan,
    Rules,
    apply,
    count_values,
    find,
    initialize,
    looks_at_images,
    make_plan,
)
from idsnn_cli.initializer.channel_facts import channel_scores
from idsnn_cli.models import Model, build

BATCHES = labelled()


def as_spiking(architecture: Architecture, **traits: Any) -> Architecture:
    return architecture.changed(kind="spiking", timesteps=2, **traits)


class Runner:
    """A source that counts how often it is made to run."""

    def __init__(self, architecture: Architecture) -> None:
        self.model, self.called = running(architecture), 0

    def __call__(self) -> Model:
        self.called += 1
        return self.model


def test_scores_are_sums_of_absolute_gammas() -> None:
    model = running(BASIC)
    state, read = model.state_dict(), list[str]()

    def reading(key: str) -> Tensor:
        read.append(key)
        gamma: Tensor = state[key.removeprefix("theirs.")]
        return gamma.view(1, -1, 1, 1)

    names = {name: f"theirs.{name}" for name in state if name != "stages.1.1.norm1.weight"}
    scores = channel_scores(BASIC, names, reading)
    assert set(read) == {n for n in names.values() if "norm" in n and n.endswith(".weight")}
    streams = {
        "stages.0": ["stem.norm", "stages.0.0.norm1", "stages.0.1.norm1"],
        "stages.1": ["stages.1.0.norm1", "stages.1.0.shortcut.norm", "stages.1.2.norm1"],
        "stages.2": ["stages.2.0.norm1", "stages.2.0.shortcut.norm", "stages.2.1.norm1"],
    }
    inner = {f"stages.{s}.{b}.inner0": [f"stages.{s}.{b}.norm0"] for s, b in BASIC.blocks()}
    for space, norms in (streams | inner).items():
        wanted = [sum(abs(float(state[f"{norm}.weight"][c])) for norm in norms) for c in range(len(scores[space]))]
        assert scores[space] == pytest.approx(wanted)
    assert set(scores) == set(streams | inner)


def test_before_activations_a_norm_counts_for_what_it_reads() -> None:
    model = running(PREACTIVATION_50)
    scores, state = (
        channel_scores(PREACTIVATION_50, network(model).names, model.state_dict().__getitem__),
        dict(model.named_parameters()),
    )
    wanted = sum(state[f"{norm}.weight"].abs() for norm in ("stages.0.1.norm0", "stages.1.0.norm0"))
    torch.testing.assert_close(torch.tensor(scores["stages.0"], dtype=torch.float64), wanted)
    assert scores["stem"] == pytest.approx(state["stages.0.0.norm0.weight"].abs().tolist())


def test_scores_that_are_no_numbers_are_refused() -> None:
    state = running(BASIC).state_dict()
    state["stages.1.1.norm0.weight"][2] = torch.nan
    with pytest.raises(MappingError, match=r"stages\.1\.1\.norm0\.weight"):
        channel_scores(BASIC, {name: name for name in state}, state.__getitem__)


TARGET = as_spiking(OPTION_A, depths=(1, 1, 1), widths=(2, 4, 6))


@pytest.mark.parametrize(
    ("rules", "calls", "parts"),
    [
        ({}, 0, set()),
        ({"channels": "importance"}, 0, {"scores"}),
        ({"channels": "merge"}, 1, {"correlations"}),
        ({"rescale": "threshold"}, 1, {"thresholds"}),
        ({"blocks": "greedy"}, 1, {"blocks"}),
        (
            {"blocks": "greedy", "channels": "merge", "rescale": "threshold"},
            1,
            {"blocks", "correlations", "thresholds"},
        ),
        (
            {"blocks": "greedy", "channels": "importance", "rescale": "threshold"},
            1,
            {"blocks", "scores", "thresholds"},
        ),
    ],
)
def test_only_what_the_rules_ask_for_is_found(rules: dict[str, Any], calls: int, parts: set[str]) -> None:
    runner, said = Runner(OPTION_A), list[str]()
    source, given = network(runner.model), Rules(**rules)
    found = find(given, source, TARGET, running=runner, batches=BATCHES, say=said.append)
    assert runner.called == calls
    assert {part for part in Findings.__slots__ if getattr(found, part)} == parts
    assert len(said) == (3 if "blocks" in parts else 0)
    plan = make_plan(source.architecture, TARGET, source.names, given, found)
    state = apply(plan, source.read, build(TARGET, 0).state_dict(), torch.device("cpu"))
    build(TARGET, 0).load_state_dict(state)
    if found.correlations:
        asked = {selection.source for selection in plan.selections}
        assert asked <= set(found.correlations)
        taken = {f"stages.{p.stage}.{p.source_block}.inner0" for p in plan.blocks}
        assert set(found.correlations) == taken | {f"stages.{s}" for s in range(3)}


@pytest.mark.parametrize(
    "widths", [OPTION_A.traits()["widths"], tuple(3 * width // 2 for width in OPTION_A.traits()["widths"])]
)
def test_merging_looks_at_nothing_where_no_channels_are_merged(widths: tuple[int, ...]) -> None:
    runner, target = Runner(OPTION_A), TARGET.changed(widths=widths)
    source, states = network(runner.model), []
    for channels in ("merge", "uniform"):
        rules = Rules(channels=channels)
        assert not looks_at_images(rules, source, target)
        found = find(rules, source, target, running=runner, batches=None)
        plan = make_plan(source.architecture, target, source.names, rules, found)
        states.append(apply(plan, source.read, build(target, 0).state_dict(), torch.device("cpu")))
    assert runner.called == 0
    for name, value in states[0].items():
        assert value.equal(states[1][name]), name


@pytest.mark.parametrize(
    ("rules", "target", "looks"),
    [
        ({"channels": "merge"}, TARGET, True),
        ({"channels": "merge", "blocks": ((1,), (0,), (0,))}, TARGET, True),
        # One stage alone is narrower.
        (
            {"channels": "merge"},
            TARGET.changed(widths=(*OPTION_A.traits()["widths"][:2], OPTION_A.traits()["widths"][2] - 2)),
            True,
        ),
        ({"channels": "merge", "rescale": "threshold", "percentile": 95.0}, as_spiking(OPTION_A), True),
        ({"channels": "merge", "convert": "weight-normalisation"}, as_spiking(OPTION_A), True),
        ({"channels": "importance"}, TARGET, False),
    ],
)
def test_whether_images_are_needed_is_known_from_the_shapes(
    rules: dict[str, Any], target: Architecture, looks: bool
) -> None:
    assert looks_at_images(Rules(**rules), network(running(OPTION_A)), target) is looks


def test_values_are_counted_before_anything_runs_as_they_become() -> None:
    runner, target, rules = Runner(OPTION_A), as_spiking(OPTION_A), Rules(rescale="threshold", head="copy")
    source = network(runner.model)
    found = find(rules, source, target, running=runner, batches=BATCHES)
    plan = make_plan(source.architecture, target, source.names, rules, found)
    assert count_values(source.architecture, target, source.names, rules) == plan.counts()


@pytest.mark.parametrize("lacking", ["batches", "network"])
@pytest.mark.parametrize(
    ("rules", "named"),
    [
        ({"blocks": "greedy", "channels": "merge"}, "blocks: greedy"),
        ({"channels": "merge", "rescale": "threshold"}, "channels: merge"),
        ({"rescale": "threshold", "channels": "importance"}, "rescale: threshold"),
    ],
)
def test_without_images_the_rule_is_named(rules: dict[str, Any], named: str, lacking: str) -> None:
    runner = Runner(OPTION_A)
    with pytest.raises(UsageError, match=named) as caught:
        find(
            Rules(**rules),
            network(runner.model),
            TARGET,
            running=runner if lacking == "batches" else None,
            batches=[] if lacking == "batches" else BATCHES,
        )
    assert "data set" in str(caught.value.fix)
    assert runner.called == 0


@pytest.mark.parametrize(
    ("rules", "source", "target", "words"),
    [
        ({"blocks": "greedy"}, OPTION_A, TARGET.changed(num_classes=7), "5 classes, the target 7"),
        ({"blocks": "greedy"}, spiking(8, 4), spiking(8, 4), "blocks: greedy is for an ANN source"),
        ({"rescale": "threshold"}, spiking(8, 4), spiking(8, 4), "rescale: threshold is for an ANN source"),
        ({"rescale": "threshold"}, OPTION_A, OPTION_A, "spiking target"),
    ],
)
def test_what_cannot_be_found_is_said_before_anything_runs(
    rules: dict[str, Any], source: Architecture, target: Architecture, words: str
) -> None:
    runner = Runner(source)
    with pytest.raises(UsageError, match=words):
        find(Rules(**rules), network(runner.model), target, running=runner, batches=BATCHES)
    assert runner.called == 0


def test_greedy_needs_a_head() -> None:
    source = replace(network(running(OPTION_A)), has_head=False)
    with pytest.raises(UsageError, match="linear layer"):
        find(Rules(blocks="greedy"), source, TARGET, running=None, batches=BATCHES)


@pytest.mark.parametrize("kind", ["basic", "option A"])
def test_threshold_balancing(kind: str) -> None:
    """(gamma, beta) times theta / lambda behind a convolution; statistics follow the lambda of what it reads."""
    runner, theta = Runner(ALL[kind]), 0.7
    source = network(runner.model)
    target = as_spiking(ALL[kind], neuron=Neuron(v_threshold=theta))
    states = []
    for rules in (Rules(head="copy"), Rules(head="copy", rescale="threshold")):
        found = find(rules, source, target, running=runner, batches=BATCHES)
        plan = make_plan(source.architecture, target, source.names, rules, found)
        states.append(apply(plan, source.read, build(target, 0).double().state_dict(), torch.device("cpu")))
    plain, scaled = states
    limits = found.thresholds
    if kind == "option A":
        assert len({limits[f"stages.{s}"] for s in range(3)}) == 1

    def assert_scaled(norm: str, into: float, out: float) -> None:
        for part, factor in (("weight", theta / out), ("bias", theta / out), ("running_mean", 1 / into)):
            torch.testing.assert_close(scaled[f"{norm}.{part}"], plain[f"{norm}.{part}"] * factor)
        torch.testing.assert_close(scaled[f"{norm}.running_var"], plain[f"{norm}.running_var"] / into**2)

    stream = "stages.0"
    assert_scaled("stem.norm", 1.0, limits[stream])
    for s, b in target.blocks():
        inner, outer = f"stages.{s}.{b}.inner0", f"stages.{s}"
        assert_scaled(f"stages.{s}.{b}.norm0", limits[stream], limits[inner])
        assert_scaled(f"stages.{s}.{b}.norm1", limits[inner], limits[outer])
        if f"stages.{s}.{b}.shortcut.norm.weight" in plain:
            assert_scaled(f"stages.{s}.{b}.shortcut.norm", limits[stream], limits[outer])
        stream = outer
    torch.testing.assert_close(scaled["head.weight"], plain["head.weight"] * limits["stages.2"])
    unscaled = [n for n in plain if n.endswith(("conv.weight", "conv0.weight", "conv1.weight", "head.bias"))]
    assert len(unscaled) > 10
    assert all(torch.equal(plain[name], scaled[name]) for name in unscaled)


def test_a_merged_plan_is_read_back_whole() -> None:
    model = running(PREACTIVATION_50)
    source = network(model)
    target = PREACTIVATION_50.changed(widths=(1, 2), inner_widths=(3, 5))
    rules = Rules(channels="merge")
    found = find(rules, source, target, running=lambda: model, batches=BATCHES)
    plan = make_plan(source.architecture, target, source.names, rules, found)
    assert any(selection.merges for selection in plan.selections)
    assert Plan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan


def test_a_foreign_bottleneck_runs_with_the_stride_that_is_given() -> None:
    """Other strides, other activations, other lambdas; a source that says where it strides is not overruled."""
    source = values(ann(50, 8, classes=5), seed=3)
    del source["input.mean"], source["input.std"]
    images = [(torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(1)), torch.arange(6) % 5)]
    rules = Rules(rescale="threshold")
    given: list[BottleneckStride | None] = [None, "3x3", "1x1"]
    plans = [
        initialize(source, "spiking-resnet18", rules=rules, images=images, bottleneck_stride=stride, kind="ann").plan
        for stride in given
    ]
    scales = [{entry.target: entry.scale for entry in plan.entries} for plan in plans]
    assert scales[0] == scales[1] != scales[2]
