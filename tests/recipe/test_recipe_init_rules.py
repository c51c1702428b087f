"""The rules of a start in a recipe: whole sets by name, keys beside them, and what does not go together."""

from __future__ import annotations

from dataclasses import fields

import pytest

from idsnn_cli.errors import RecipeError
from idsnn_cli.recipe import dump_resolved, load_recipe
from idsnn_cli.recipe.schema import Init
from idsnn_cli.rules import BEST, BEST_REESTIMATE, Rules


def init(*words: str) -> Init:
    return load_recipe("cifar10-thin", ["init.head=random", "init.reestimate=0", *words]).recipe.init


def test_the_papers_rules_are_the_defaults() -> None:
    assert Init().rules() == Rules()
    assert {field.name for field in fields(Rules)} <= set(Init.model_fields)


def test_best_stands_for_what_the_benchmark_found() -> None:
    found = Init(rule="best")
    assert found.rules() == BEST
    assert found.reestimate == BEST_REESTIMATE


def test_keys_beside_best_replace_its_own() -> None:
    found = init("init.rule=best", "init.channels=loop")
    assert (found.channels, found.blocks, found.head, found.reestimate) == ("loop", BEST.blocks, "random", 0)


def test_a_resolved_recipe_says_what_best_stands_for() -> None:
    loaded = load_recipe("quickstart", ["init.rule=best", "init.head=copy"]).recipe
    text = dump_resolved(loaded)
    assert f"channels: {BEST.channels}" in text
    assert "rule: best" in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["init.head=map"], "head map and class_map go together"),
        (["init.class_map=[1,2]"], "head map and class_map go together"),
        (["init.percentile=95"], "percentile is read by neither rescale none nor convert none"),
        (["init.percentile=95", "init.convert=learnt-thresholds"], "percentile is read by neither"),
        (["init.convert=weight-normalisation", "init.rescale=threshold"], "would both scale the weights"),
        (["init.calibrate=2"], "calibrate is for a converted network"),
        (["init.blocks=middle"], "init.blocks"),
        (["init.blocks=[[0,-1]]"], "init.blocks"),
        (["init.noise=-1"], "init.noise"),
        (["init.images=0"], "init.images"),
    ],
)
def test_what_does_not_go_together(words: list[str], said: str) -> None:
    with pytest.raises(RecipeError, match=said.replace(".", r"\.")):
        init(*words)


def test_lists_of_blocks_and_maps_of_classes() -> None:
    found = init("init.blocks=[[0,2],[0,3]]", "init.head=map", "init.class_map=[4,null,0]")
    assert found.rules() == Rules(blocks=((0, 2), (0, 3)), head="map", class_map=(4, None, 0))


def test_a_rule_of_none_silences_what_a_preset_or_a_grid_says_beside_it() -> None:
    recipe = load_recipe("presets/release", ["init.rule=none", "init.source=second.pth", "distill.alpha=0.5"]).recipe
    assert recipe.init == Init.model_validate({"rule": "none", "random": "torch"}), (
        "how random kernels are drawn still says something"
    )
    assert load_recipe("presets/release", ["init.rule=loop"]).recipe.init.rules().blocks == "first"
    assert Init.model_validate({"rule": "none", "reestimate": 4}).reestimate == 4
