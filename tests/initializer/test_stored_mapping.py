"""A stored mapping that was changed anywhere is read as another whole plan, or refused in words."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sources import ann, plan_of, spiking

from idsnn_cli.errors import MappingError
from idsnn_cli.initializer import Plan
from idsnn_cli.report.inspect.layer_map import describe_mapping

# Between them: kernels with something folded in, choices of channels (some of several, some of none), notes, a random
# stage, a projection that only selects, and a plan from nowhere.
PLANS = [
    plan_of(
        ann(50, 4),
        spiking(18, 3),
        channels="random",
        head="map",
        class_map=(0, None, 1, 2, 3),
        multiplicity="divide",
        noise=0.1,
    ),
    plan_of(ann(8, 4, shortcut="pad"), spiking(8, 6), bare_shortcut="select", channels="uniform"),
    plan_of(ann(20, 4), spiking(18, 4), blocks=((0, 1), (0, 2), (0, 1)), rescale="variance"),
]
ODD: tuple[Any, ...] = (
    *(0, 1, -1, 7, 2**31, 10**30, 0.5, -1e308, 1e30, float("nan"), True, False, None),
    *("", "random", "copied", "interpolated", "9" * 5000, "a\nb", [], {}, [0], [None], [[0]], [10**9] * 3, {"a": 1}),
)


def places(node: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value in a JSON document, inner ones too."""
    inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [*([at] if at else ()), *(way for key, child in inner for way in places(child, (*at, key)))]


DOCUMENTS = [json.loads(json.dumps(plan.to_dict())) for plan in PLANS]
# A place is drawn by its kind, so that what is there once is met as often as what is there for each tensor.
PLACES = [
    {kind: [way for way in places(document) if tuple(k for k in way if isinstance(k, str)) == kind] for kind in kinds}
    for document in DOCUMENTS
    for kinds in [sorted({tuple(k for k in way if isinstance(k, str)) for way in places(document)})]
]


def check(document: Any) -> None:
    try:
        plan = Plan.from_dict(document)
        again = Plan.from_dict(json.loads(json.dumps(plan.to_dict())))
        described = describe_mapping(plan).to_dict()
    except MappingError as error:
        refusal = error
    else:
        assert again == plan
        assert sum(described["values"].values()) > 0
        json.dumps(described)
        return
    assert refusal.fix
    assert 2 <= len(f"{refusal.message}\n{refusal.fix}".splitlines()) <= 5
    assert len(refusal.message) < 300


@pytest.mark.slow
@settings(deadline=None, derandomize=True, max_examples=250)
@given(st.data())
def test_any_change_gives_a_plan_or_a_mapping_error(data: st.DataObject) -> None:
    which = data.draw(st.integers(0, len(PLANS) - 1))
    document = copy.deepcopy(DOCUMENTS[which])
    kind = data.draw(st.sampled_from(list(PLACES[which])))
    *way, last = data.draw(st.sampled_from(PLACES[which][kind]))
    node = document
    for key in way:
        node = node[key]
    if data.draw(st.integers(0, 9)) == 0:
        del node[last]
    else:
        odd = data.draw(st.one_of(st.sampled_from(ODD), st.integers(-2, 12), st.floats(), st.text(max_size=4)))
        node[last] = odd
    check(document)


@pytest.mark.parametrize("document", [None, 5, [], {}, "", {"source": None}])
def test_what_is_no_mapping_at_all_is_refused(document: Any) -> None:
    with pytest.raises(MappingError):
        Plan.from_dict(document)


def test_plans_that_are_not_changed_are_equal() -> None:
    for plan, document in zip(PLANS, DOCUMENTS, strict=True):
        assert Plan.from_dict(document) == plan
        check(document)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("action", "sideways"),
        ("action", "random"),
        ("source", None),
        ("shape", [4, 3, 3]),
        ("source_shape", [4]),
        ("rows", 99),
        ("rows", -1),
        ("columns", 0.0),
        ("scale", "1"),
        ("scale", 1e40),
        ("divide", 1),
        ("noise", -0.1),
        ("norm", ["a"]),
        ("picks", [0]),
        ("kernel", {"size": 3}),
        ("unheard", 1),
    ],
)
def test_each_part_of_an_entry_is_checked(key: str, value: Any) -> None:
    document = copy.deepcopy(DOCUMENTS[0])
    entry = next(each for each in document["tensors"] if each["target"] == "stages.0.0.conv0.weight")
    assert entry["source"]
    with pytest.raises(MappingError):
        Plan.from_dict({**document, "tensors": [{**e, key: value} if e is entry else e for e in document["tensors"]]})
