"""Where a file leaves a choice: raw or averaged weights, and keys that nothing explains."""

from __future__ import annotations

import pytest
import torchvision

from idsnn_cli.errors import FamilyError
from idsnn_cli.families import ALLOWED, Reading, Weights, recognise


def copies() -> dict[str, tuple[int, ...]]:
    shapes = {key: tuple(value.shape) for key, value in torchvision.models.resnet18(weights=None).state_dict().items()}
    averaged = {f"state_dict_ema.module.{key}": shape for key, shape in shapes.items()}
    return averaged | {f"state_dict.{key}": shape for key, shape in shapes.items()}


@pytest.mark.parametrize(("weights", "taken"), [("auto", "ema"), ("ema", "ema"), ("raw", "raw")])
def test_the_copy_that_is_asked_for_is_taken(weights: Weights, taken: str) -> None:
    found = recognise(copies(), Reading(weights=weights))
    root = "state_dict_ema.module." if taken == "ema" else "state_dict."
    assert (found.copy, sorted(found.copies), found.root) == (taken, ["ema", "raw"], root)
    assert all(key.startswith(root) for key in found.names.values())
    assert len(found.dropped) == len(copies()) // 2


@pytest.mark.parametrize(("has", "wants", "words"), [("raw", "ema", "averaged"), ("ema", "raw", "no raw")])
def test_a_copy_that_is_not_there_is_an_error(has: str, wants: Weights, words: str) -> None:
    shapes = {key: shape for key, shape in copies().items() if key.startswith("state_dict_ema") == (has == "ema")}
    assert recognise(shapes).copies == (has,)
    with pytest.raises(FamilyError, match=words) as caught:
        recognise(shapes, Reading(weights=wants))
    assert caught.value.fix


@pytest.mark.slow
def test_unexplained_keys_are_dropped_where_that_is_allowed() -> None:
    extra = {"state_dict.projector.weight": (3, 3), "state_dict_ema.module.oddity": (1,), "state_dict.oddity": (1,)}
    shapes = copies() | extra
    with pytest.raises(FamilyError, match="not explained") as caught:
        recognise(shapes)
    assert "--allow-unused" in str(caught.value.fix)
    choices: tuple[Weights, ...] = ("auto", "ema", "raw")
    for weights in choices:
        found = recognise(shapes, Reading(weights, allow_unused=True))
        assert found.names == recognise(copies(), Reading(weights)).names
        assert found.dropped[found.root + "oddity"] == ALLOWED
        assert {*found.names.values(), *found.dropped} == set(shapes)


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        # Attention in one block only is a network that lacks the rest of it.
        ({"layer1.0.se.fc1.weight": (4, 64)}, "1 tensor is missing: 'layer2.0.se.fc1.weight'"),
        ({"layer1.0.conv1.bias": (64,)}, "not supported yet"),
    ],
)
def test_what_changes_the_network_may_not_be_dropped(extra: dict[str, tuple[int, ...]], said: str) -> None:
    shapes = {key: tuple(value.shape) for key, value in torchvision.models.resnet18(weights=None).state_dict().items()}
    with pytest.raises(FamilyError, match=said):
        recognise(shapes | extra, Reading(allow_unused=True))


def test_allowing_unused_makes_no_resnet_of_something_else() -> None:
    with pytest.raises(FamilyError):
        recognise({f"encoder.layer.{n}.weight": (3, 3) for n in range(9)}, Reading(allow_unused=True))


def test_the_fault_of_the_copy_that_is_asked_for_is_named() -> None:
    shapes = copies() | {"state_dict_ema.module.oddity": (1,)}
    with pytest.raises(FamilyError, match="oddity"):
        recognise(shapes, Reading(weights="ema"))
