"""The losses as declarations: their keys in a recipe, which of them take part, and what they read of a teacher."""

from __future__ import annotations

from typing import Any

import pytest

from idsnn_cli.recipe.fields import allowed, annotation_at
from idsnn_cli.recipe.schema import Distill, Pretrain, Recipe, Teacher
from idsnn_cli.training.losses import losses, teachers_keys, teaching_terms, terms

ALL = {"loss_on": "steps", "tet_weight": 0.1, "alpha": 0.3, "features": "attention", "feature_weight": 2.0}


def names(section: dict[str, Any], **options: bool) -> list[str]:
    return [term.name for term in terms(section, **options)]


def section(kind: type[Any], **keys: Any) -> Any:
    return kind.model_validate(keys)


def test_the_sum_begins_with_the_cross_entropy_and_has_one_order() -> None:
    assert [loss.name for loss in losses()] == ["cross-entropy", "tet", "distillation", "mse", "attention"]
    assert names({}) == names({"loss_on": "steps"}) == ["cross-entropy"]
    assert names(ALL) == ["cross-entropy", "tet", "distillation", "attention"]
    assert names(ALL, taught=False) == ["cross-entropy", "tet"]
    assert names(ALL | {"tet_weight": 0.0, "alpha": 0.0, "features": "none"}) == ["cross-entropy"]


def test_a_term_has_the_settings_of_its_section() -> None:
    _, tet, distillation, attention = terms(ALL)
    assert (vars(tet)["tet_weight"], vars(tet)["tet_mean"]) == (0.1, 1.0)
    assert vars(distillation) == {"alpha": 0.3, "temperature": 4.0, "loss_on": "steps"}
    assert vars(attention) == {"features": "attention", "feature_weight": 2.0}


def test_a_section_has_the_keys_of_its_losses_and_no_others() -> None:
    keys = {"label_smoothing", "class_weights", "loss_on", "tet_weight", "tet_mean", *teachers_keys()}
    assert keys & Teacher.model_fields.keys() == {"label_smoothing", "class_weights"}
    assert keys & Pretrain.model_fields.keys() == {"label_smoothing", "class_weights", "alpha", "temperature"}
    assert keys & Distill.model_fields.keys() == keys
    for key in keys:
        assert Distill.model_fields[key].description
    assert allowed(annotation_at(("distill", "features"))) == "one of none, mse, attention"
    assert allowed(annotation_at(("distill", "tet_weight"))) == "a number of 0 or more and below 1"


def test_which_sections_are_taught() -> None:
    assert section(Distill).taught
    assert not section(Distill, epochs=0).taught
    assert not section(Distill, alpha=0.0).taught
    assert section(Distill, alpha=0.0, features="mse").taught
    assert section(Pretrain, epochs=1).taught
    assert not section(Pretrain, epochs=1, alpha=0.0).taught
    assert not Teacher().taught
    recipe = Recipe.model_validate({"data": {"dataset": "digits"}, "init": {"rule": "none"}, "distill": {"alpha": 0.0}})
    assert not recipe.needs_teacher


def test_what_turns_the_teacher_off_does() -> None:
    found = teaching_terms(ALL)
    assert [term.off("distill") for term in found] == ["distill.alpha=0", "distill.features=none"]
    assert [term.on("distill") for term in found] == ["distill.alpha 0.3", "distill.features attention"]
    assert teaching_terms(ALL | {term.key: term.off_value for term in found}) == ()


def test_the_keys_that_only_a_teacher_makes_matter() -> None:
    assert teachers_keys() == ("alpha", "temperature", "features", "feature_weight")
    plain = names({key: value for key, value in ALL.items() if key not in teachers_keys()}, taught=False)
    assert plain == names(ALL, taught=False)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"tet_weight": 0.1}, "it is for loss_on steps, not mean"),
        ({"tet_mean": 2.0}, "tet_mean is for a tet_weight above 0"),
        ({"feature_weight": 2.0}, "feature_weight is for features mse or attention, not none"),
    ],
)
def test_settings_that_do_not_go_together(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        section(Distill, **keys)
