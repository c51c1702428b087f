"""``--allow-unused`` leaves out what stands beside the network, and never what may change what it computes."""

from __future__ import annotations

import pytest
from resnet_families import BUILDERS, Size, Torchvision, answer

from idsnn_cli.errors import FamilyError
from idsnn_cli.families import ALLOWED, Reading, Row, Scheme, recognise

Shapes = dict[str, tuple[int, ...]]
BASE, NAMES = answer(Torchvision(Size(depths=(2, 1), widths=(4, 8))))


@pytest.mark.parametrize(
    "extra",
    [
        {"layer1.0.act1.alpha": (1,)},
        {"layer1.0.act1.anything": ()},
        {"layer1.0.prelu.weight": (4,)},
        {"relu.slope": (4,)},
        {"prelu.weight": (1,)},
        {"act.a": ()},
        {"alpha": (1,)},
        {"layer1.0.norm3.weight": (4,)},
        {"layer1.0.gate.weight": (4, 4, 1, 1), "layer1.0.gate.bias": (4,)},
        {"layer1.1.position": (1, 4, 8, 8)},
        {"conv1.weight_scale": (4,)},
        {"conv1.weight_scale_inv": ()},
        {"fc.scale_weight": (7,)},
        {"fc.weight_zero_point": (7,)},
        {"scales.conv1_amax": (1,)},
        {"bn1.extra": (4,)},
    ],
    ids=lambda extra: next(iter(extra)),
)
def test_what_changes_the_function_is_never_left_out(extra: Shapes) -> None:
    for allow in (False, True):
        with pytest.raises(FamilyError) as caught:
            recognise(BASE | extra, Reading(allow_unused=allow))
        assert f"'{next(iter(extra)).rpartition('.')[0] or next(iter(extra))}'" in caught.value.message
        fix = str(caught.value.fix)
        assert "--scheme" in fix
        assert "--allow-unused does not leave out" in fix
    # Who knows better says so, tensor by tensor.
    own = Scheme("own", "mine", tuple(Row(key, None, "never called") for key in extra), spiking=True)
    found = recognise(BASE | extra, Reading(scheme=own))
    assert dict(found.names) == NAMES
    assert found.dropped == dict.fromkeys(extra, "never called")


def test_a_stem_in_a_container_may_have_a_third_part() -> None:
    shapes = answer(BUILDERS["weiaicunzai"](Size()))[0]
    with pytest.raises(FamilyError, match=r"'conv1\.2' \(steepness\)"):
        recognise(shapes | {"conv1.2.steepness": (1,)}, Reading(allow_unused=True))


@pytest.mark.parametrize(
    "extra",
    [
        {"aux.weight": (7, 8), "aux.bias": (7,)},
        {"projector.0.weight": (8, 8), "projector.1.weight": (8,)},
        {"memory": (100, 8)},
        {"rotation.weight": (4, 8), "rotation.bias": (4,)},
    ],
    ids=lambda extra: next(iter(extra)),
)
def test_what_stands_beside_is_left_out_where_that_is_allowed_and_said(extra: Shapes) -> None:
    with pytest.raises(FamilyError, match="not explained") as caught:
        recognise(BASE | extra)
    fix = str(caught.value.fix)
    assert 0 <= fix.index("--scheme") < fix.index("--allow-unused")
    found = recognise(BASE | extra, Reading(allow_unused=True))
    assert dict(found.names) == NAMES
    assert found.dropped == dict.fromkeys(extra, ALLOWED)
    count = f"{len(extra)} tensors are" if len(extra) > 1 else "1 tensor is"
    assert found.notes[0].startswith(f"{count} left out, as is allowed: '{next(iter(extra)).split('.')[0]}")


def test_counters_are_left_out_anywhere() -> None:
    found = recognise(BASE | {"layer1.0.total_ops": (1,), "layer1.0.conv1.total_params": (1,)})
    assert dict(found.names) == NAMES
