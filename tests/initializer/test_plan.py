"""The plan: one entry for every target tensor, its action and reason, and the errors that name both tensors."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sources import ann, plan_of, spiking

from idsnn_cli.architecture import Architecture, build_description
from idsnn_cli.errors import MappingError
from idsnn_cli.initializer import Entry, Plan, Rules, make_plan, random_plan

PAIRS = [
    (ann(8, 4), spiking(8, 4)),
    (ann(20, 4), spiking(8, 6)),
    (ann(8, 6), spiking(14, 4)),
    (ann(8, 4, shortcut="pad"), spiking(8, 4)),
    (ann(8, 4), spiking(8, 4, shortcut="pad")),
    (ann(8, 4), spiking(18, 4)),
    (ann(18, 4), spiking(8, 4)),
    (ann(18, 4, stem="7x7"), spiking(18, 4, stem="7x7")),
    (ann(34, 4), ann(18, 4)),
    (ann(50, 4), ann(101, 4)),
    (spiking(14, 4), spiking(20, 4)),
]


def entries(plan: Plan) -> dict[str, Entry]:
    return {entry.target: entry for entry in plan.entries}


@pytest.mark.parametrize(
    "rules", [{}, {"blocks": "first", "shortcut": "random", "head": "copy", "rescale": "variance"}]
)
@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_every_target_tensor_has_one_entry(source: Architecture, target: Architecture, rules: dict[str, Any]) -> None:
    plan = plan_of(source, target, **rules)
    assert [entry.target for entry in plan.entries] == list(target.tensors())
    shapes, from_shapes = target.tensors(), source.tensors()
    for entry in plan.entries:
        assert entry.shape == shapes[entry.target]
        assert (entry.source is None) == (entry.action in ("random", "constant"))
        if entry.source is None:
            assert entry.reason, f"{entry.target} is {entry.action} silently"
        else:
            assert entry.source_shape == from_shapes[entry.source]
            same = entry.shape == entry.source_shape and entry.scale == 1
            assert entry.action == ("copied" if same else "interpolated")
    assert [(pair.stage, pair.block) for pair in plan.blocks] == list(target.blocks())
    assert sum(plan.counts().values()) == sum(math.prod(shape) for shape in shapes.values())
    assert plan.reads() == sorted(set(plan.reads()))


@settings(deadline=None, derandomize=True, max_examples=40)
@given(st.sampled_from(PAIRS), st.sampled_from(["first", "proportional"]), st.sampled_from(["copy", "random"]))
def test_the_json_form_gives_an_equal_plan(pair: tuple[Architecture, Architecture], blocks: str, shortcut: str) -> None:
    plan = plan_of(*pair, blocks=blocks, shortcut=shortcut, rescale="variance")
    assert Plan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan


def test_the_random_plan_takes_nothing() -> None:
    plan = random_plan(spiking(14))
    assert plan.reads() == []
    assert plan.source is None
    assert [entry.target for entry in plan.entries] == list(spiking(14).tensors())
    assert {entry.action for entry in plan.entries} == {"random", "constant"}
    assert all(entry.reason for entry in plan.entries)
    assert Plan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan


@pytest.mark.parametrize("spoil", ["rules", "blocks", "tensors", "target", "source"])
def test_a_damaged_json_form_is_a_typed_error(spoil: str) -> None:
    for value in (["nonsense"], "nonsense", {"blocks": "sideways"}, 5):
        plain = {**plan_of(ann(), spiking()).to_dict(), spoil: value}
        with pytest.raises(MappingError) as caught:
            Plan.from_dict(plain)
        assert caught.value.fix


@pytest.mark.parametrize(
    ("target", "source", "blocks"),
    [
        (spiking(18, 4), ann(34, 4), "first"),
        (build_description("spiking-resnet18", 100), build_description("resnet34", 100), "first"),
    ],
)
def test_the_papers_experiment_is_a_plain_copy(target: Architecture, source: Architecture, blocks: str) -> None:
    """ResNet-34 to Spiking ResNet-18: the student is the teacher's first blocks at equal width."""
    plan = plan_of(source, target, blocks=blocks)
    assert [pair.source_block for pair in plan.blocks] == [0, 1] * 4
    for entry in plan.entries:
        if entry.target.startswith("head."):
            assert entry.action == "random"
        elif entry.target.endswith("num_batches_tracked"):
            assert entry.action == "constant"
        else:
            assert (entry.action, entry.source, entry.scale) == ("copied", entry.target, 1.0)


def test_a_deeper_target_repeats_all_but_first_blocks() -> None:
    plan = plan_of(ann(14, 4), spiking(32, 4))
    assert [pair.source_block for pair in plan.blocks] == [0, 1, 1, 1, 1] * 3
    assert entries(plan)["stages.2.4.conv0.weight"].source == "stages.2.1.conv0.weight"


def test_shortcuts_and_their_norms_can_stay_random() -> None:
    found = entries(plan_of(ann(8, 6), spiking(8, 4), shortcut="random"))
    names = [name for name in found if ".shortcut." in name and not name.endswith("num_batches_tracked")]
    assert len(names) == 2 * 5
    assert all(found[name].action == "random" and "shortcut" in str(found[name].reason) for name in names)
    copied = entries(plan_of(ann(8, 6), spiking(8, 4)))
    assert all(copied[name].source == name for name in names)


def test_an_option_a_source_leaves_projections_random() -> None:
    found = entries(plan_of(ann(8, 4, shortcut="pad"), spiking(8, 4)))
    for stage in (1, 2):
        entry = found[f"stages.{stage}.0.shortcut.conv.weight"]
        assert entry.action == "random"
        assert entry.reason == f"the source's block {stage}.0 has no projection"


def test_an_option_a_target_says_which_projections_it_leaves_out() -> None:
    notes = {(pair.stage, pair.block): pair.note for pair in plan_of(ann(8, 4), spiking(8, 4, shortcut="pad")).blocks}
    assert notes[0, 0] is None
    for stage in (1, 2):
        assert f"stages.{stage}.0.shortcut.conv.weight" in str(notes[stage, 0])
    assert all(pair.note is None for pair in plan_of(ann(8, 4), spiking(8, 4)).blocks)


def test_a_stage_without_a_counterpart_stays_random_and_says_so() -> None:
    plan = plan_of(ann(20, 4), spiking(18, 4))
    assert [pair.source_block for pair in plan.blocks] == [0, 1, 0, 1, 0, 1, None, None]
    for name, entry in entries(plan).items():
        if name.startswith("stages.3.") and not name.endswith("num_batches_tracked"):
            assert (entry.action, entry.reason) == ("random", "the source has no stage 3")


def test_the_head_is_random_or_copied() -> None:
    for entry in (entries(plan_of(ann(), spiking()))[f"head.{part}"] for part in ("weight", "bias")):
        assert (entry.action, entry.reason) == ("random", "the rule head: random")
    copied = entries(plan_of(ann(8, 4), spiking(8, 6), head="copy"))
    assert (copied["head.weight"].action, copied["head.weight"].source) == ("interpolated", "head.weight")
    assert copied["head.bias"].action == "copied"


def test_a_head_of_other_classes_cannot_be_copied() -> None:
    with pytest.raises(MappingError) as caught:
        plan_of(ann(classes=10), spiking(classes=5), head="copy")
    assert "head.weight [5, 16]" in caught.value.message
    assert "10 classes" in caught.value.message
    assert caught.value.fix
    with pytest.raises(MappingError, match="no linear layer"):
        plan_of(ann(), spiking(), head="copy", without=lambda name: name.startswith("head."))


def test_tensors_that_the_source_lacks_are_reported() -> None:
    found = entries(plan_of(ann(), spiking(), without=lambda name: name.startswith("input.")))
    assert found["input.mean"].action == found["input.std"].action == "constant"
    assert "normalisation" in str(found["input.mean"].reason)
    found = entries(plan_of(ann(), spiking(), without=lambda name: name == "stages.0.0.norm1.bias"))
    assert found["stages.0.0.norm1.bias"].reason == "the source has no stages.0.0.norm1.bias"


@pytest.mark.parametrize(
    ("source", "target", "named"),
    [
        (
            ann(18, 4),
            ann(50, 4),
            ("stages.0.0.conv0.weight [4, 4, 1, 1]", "theirs.stages.0.0.conv0.weight [4, 4, 3, 3]"),
        ),
    ],
)
def test_what_cannot_be_mapped_names_both_tensors(
    source: Architecture, target: Architecture, named: tuple[str, str]
) -> None:
    with pytest.raises(MappingError) as caught:
        make_plan(source, target, {name: f"theirs.{name}" for name in source.tensors()}, Rules())
    for words in named:
        assert words in caught.value.message
    assert caught.value.fix
