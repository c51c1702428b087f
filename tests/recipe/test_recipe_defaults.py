"""What a recipe says without the keys at their defaults: read again it is the same recipe."""

from __future__ import annotations

import json

import pytest

from idsnn_cli.recipe import load_recipe, shipped
from idsnn_cli.recipe.defaults import without_defaults
from idsnn_cli.recipe.schema import Recipe


@pytest.mark.parametrize("name", [each.name for each in shipped()])
def test_what_is_left_is_the_whole_recipe(name: str) -> None:
    recipe = load_recipe(name).recipe
    said = without_defaults(json.loads(json.dumps(recipe.model_dump(mode="json"))))
    assert Recipe.model_validate(said) == recipe


def test_only_what_is_said_is_left() -> None:
    plain = load_recipe("quickstart", ["distill.lr=0.123", "data.augment.crop=4"]).recipe.model_dump(mode="json")
    said = without_defaults(json.loads(json.dumps(plain)))
    assert said["distill"]["lr"] == 0.123
    assert "crop" not in said["data"].get("augment", {}), "4 is the default"
    assert {"workers", "decode", "shards"}.isdisjoint(said["data"])
    assert {"learn_decay", "learn_start", "decay"}.isdisjoint(said["student"])
    # What is no key of a recipe, and what has no default, says something.
    assert without_defaults({"num_classes": 10, "data": {"dataset": "digits"}})["num_classes"] == 10
