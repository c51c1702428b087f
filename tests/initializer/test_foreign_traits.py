"""Sources with traits that a student cannot have: both tensors are named, or what is left out is said."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from sources import ann, plan_of, spiking, values

from idsnn_cli.architecture import Architecture
from idsnn_cli.errors import MappingError
from idsnn_cli.initializer import Rules, initialize, make_plan
from idsnn_cli.models import build

DEEP = ann(18, 8).changed(stem="deep", stem_widths=(4, 4, 8), shortcut="average")
SE = ann(18, 8).changed(attention="se", attention_sizes=(2, 3, 4, 5))
ECA = ann(18, 8).changed(attention="eca", attention_sizes=(3, 3, 5, 5))
PREACTIVATION = ann(18, 8).changed(preactivation=True)
GROUPED = ann(50, 8).changed(groups=4)


def theirs(architecture: Architecture) -> dict[str, str]:
    return {name: f"theirs.{name}" for name in architecture.tensors()}


@pytest.mark.parametrize(
    ("source", "target", "named"),
    [
        (ann(50, 8), GROUPED, ("stages.0.0.conv1.weight [8, 2, 3, 3]", "theirs.stages.0.0.conv1.weight [8, 8, 3, 3]")),
        (GROUPED, GROUPED.changed(groups=2), ("[8, 4, 3, 3] of 2 groups", "[8, 2, 3, 3] of 4")),
        (GROUPED, GROUPED.changed(widths=(16, 32, 64, 128)), ("[16, 4, 3, 3] of 4 groups", "[8, 2, 3, 3] of 4")),
        (ann(18, 8), PREACTIVATION, ("stages.0.0.norm0.weight [8]", "a BatchNorm behind a convolution")),
        (ann(18, 8), DEEP, ("stem.0.conv.weight [4, 3, 3, 3]", "theirs.stem.conv.weight [8, 3, 3, 3]")),
        (DEEP, DEEP.changed(stem_widths=(4, 8)), ("stem.0.conv.weight", "a stem of 3 convolutions")),
    ],
)
def test_what_cannot_be_mapped_names_both_tensors(
    source: Architecture, target: Architecture, named: tuple[str, str]
) -> None:
    with pytest.raises(MappingError) as caught:
        make_plan(source, target, theirs(source), Rules())
    for words in named:
        assert words in caught.value.message
    assert caught.value.fix


def assert_same_network(source: Architecture, **rules: Any) -> None:
    """An ANN of the source's own description starts as the source itself."""
    state = values(source)
    made = initialize(state, source, rules=Rules(head="copy", **rules))
    for name, value in made.state.items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(value, state[name]), name


def test_a_grouped_network_becomes_itself() -> None:
    assert_same_network(GROUPED)


def test_a_deep_stem_and_averaged_shortcuts_become_themselves() -> None:
    state = values(DEEP)
    made = initialize(state, DEEP, rules=Rules(head="copy"))
    assert all(torch.equal(made.state[name], state[name]) for name in state if not name.endswith("_tracked"))


def test_preactivation_becomes_itself_and_widens() -> None:
    for source in (PREACTIVATION, DEEP.changed(preactivation=True)):
        state = values(source)
        made = initialize(build_with(source, state), source, rules=Rules(head="copy"))
        assert all(torch.equal(made.state[name], state[name]) for name in state if not name.endswith("_tracked"))
    wide = PREACTIVATION.changed(widths=(16, 32, 64, 128))
    found = {entry.target: entry for entry in plan_of(PREACTIVATION, wide).entries}
    assert list(found) == list(wide.tensors())
    assert found["final_norm.weight"].source_shape == (64,)


def test_a_projection_behind_an_average_starts_a_plain_one() -> None:
    """A student that is asked for by name gets the plain shortcut of the same weights."""
    source = DEEP.changed(stem="3x3", stem_widths=())
    state = values(source)
    own = build_with(source, state)
    made = initialize(own, spiking(18, 8).changed(num_classes=5))
    name = "stages.1.0.shortcut.conv.weight"
    assert made.architecture.traits()["shortcut"] == "projection"
    assert torch.equal(made.state[name], state[name])
    assert initialize(own, "resnet18").architecture.traits()["shortcut"] == "projection"


@pytest.mark.parametrize("source", [SE, ECA], ids=["se", "eca"])
def test_a_student_leaves_attention_out_and_says_so(source: Architecture) -> None:
    student = spiking(18, 8)
    plan = make_plan(source, student, theirs(source), Rules())
    assert not any(".attention." in name for name in plan.reads())
    for pair in plan.blocks:
        first, *rest = source.attention_tensors(pair.stage, pair.source_block or 0)
        assert f"theirs.{first}" in str(pair.note)
        assert (f"and {len(rest)} tensors beside it are left out" in str(pair.note)) is bool(rest)
        assert "left out: the target has no attention" in str(pair.note)
    plain = make_plan(ann(18, 8), student, theirs(ann(18, 8)), Rules())
    assert plan.entries == plain.entries


def test_attention_becomes_itself_and_widens() -> None:
    for source in (SE, ECA):
        state = values(source)
        made = initialize(build_with(source, state), source, rules=Rules(head="copy"))
        assert all(torch.equal(made.state[name], state[name]) for name in state if not name.endswith("_tracked"))
    wide = SE.changed(widths=tuple(2 * width for width in SE.traits()["widths"]), attention_sizes=(4, 6, 8, 10))
    found = {entry.target: entry for entry in plan_of(SE, wide).entries}
    entry = found["stages.1.1.attention.reduce.weight"]
    assert (entry.shape, entry.source_shape, entry.action) == ((6, 32, 1, 1), (3, 16, 1, 1), "interpolated")


def test_attention_that_the_source_does_not_have_is_random() -> None:
    other = ECA.changed(attention_sizes=(3, 3, 5, 7))
    for source in (ann(18, 8), SE, other):
        found = {entry.target: entry for entry in plan_of(source, ECA).entries}
        entry = found["stages.3.0.attention.mix.weight"]
        assert (entry.action, entry.reason) == ("random", "the source's block 3.0 has no such attention")
        same = found["stages.0.0.attention.mix.weight"]
        assert same.action == ("copied" if source is other else "random")
    missing = {entry.target: entry for entry in plan_of(ann(20, 8), SE).entries}
    assert missing["stages.3.0.attention.expand.bias"].reason == "the source has no stage 3"


def build_with(architecture: Architecture, state: dict[str, torch.Tensor]) -> torch.nn.Module:
    network = build(architecture, seed=0)
    network.load_state_dict(state)
    return network


def test_wide_bottlenecks_are_looped_over_like_other_widths() -> None:
    wide = ann(50, 4).changed(inner_widths=(8, 16, 32, 64))
    found = {entry.target: entry for entry in plan_of(ann(50, 4), wide).entries}
    entry = found["stages.1.0.conv1.weight"]
    assert (entry.shape, entry.source_shape, entry.action) == ((16, 16, 3, 3), (8, 8, 3, 3), "interpolated")
