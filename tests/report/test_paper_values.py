"""The paper's rows: what is there, and what is not."""

from __future__ import annotations

import re
from typing import Any

import pytest

from idsnn_cli.recipe import load_recipe, shipped
from idsnn_cli.report.runs.paper import reported

PAPER = [each.name for each in shipped() if each.name.startswith("paper/")]


@pytest.mark.parametrize(
    ("asked", "top1", "table"),
    [
        ((1, "both", "cifar10", 4, None), 94.03, 1),
        ((1, "both", "cifar10", 6, None), 94.22, 1),
        ((2, "both", "cifar100", 6, 60), 75.41, 2),
        ((3, "both", "cifar100", 4, 60), 75.24, 2),
        ((3, "both", "cifar100", 6, 60), 75.41, 3),
        ((3, "init", "cifar100", 4, 60), 74.47, 3),
        ((3, "kd", "cifar10", 6, 60), 93.98, 3),
        ((2, "kd", "cifar100", 5, 60, "spiking-vgg16"), 74.42, 2),
        ((4, "baseline", "cifar100", 4, 60), 71.31, 4),
        ((4, "both", "cifar100", 6, 20), 74.45, 4),
        ((4, "kd", "cifar100", 6, 10), 66.02, 4),
    ],
)
def test_a_row_gives_its_value(asked: tuple[Any, ...], top1: float, table: int) -> None:
    found = reported(*asked)
    assert found is not None
    assert (found.top1, found.table) == (top1, table)


@pytest.mark.parametrize(
    "asked",
    [
        (1, "both", "cifar100", 4, None),
        (2, "both", "cifar100", 5, None),
        (2, "kd", "cifar100", 4, None),
        (2, "kd", "cifar100", 5, None),
        (2, "kd", "cifar100", 4, None, "spiking-vgg16"),
        (2, "both", "cifar100", 4, None, "spiking-vgg16"),
        (3, "both", "digits", 4, None),
        (4, "both", "cifar10", 4, 60),
        (4, "both", "cifar100", 4, 30),
        (4, "init", "cifar100", 4, 60),
        (4, "both", "cifar100", 4, None),
    ],
)
def test_there_is_no_other_row(asked: tuple[Any, ...]) -> None:
    assert reported(*asked) is None


@pytest.mark.parametrize("name", PAPER)
def test_a_recipe_of_the_paper_claims_the_value_that_its_comment_names(name: str) -> None:
    loaded = load_recipe(name)
    recipe = loaded.recipe
    assert recipe.claims.table is not None
    assert recipe.claims.row is not None
    # Table 3 has its last row at T = 6 alone; a recipe of T = 4 says so, and is set beside table 1 or 2.
    timesteps = 6 if "(at T = 6)" in loaded.text else recipe.student.timesteps
    asked = (recipe.data.dataset, timesteps, recipe.distill.step_every, recipe.student.arch)
    found = reported(recipe.claims.table, recipe.claims.row, *asked)
    said = re.search(r"reports ([0-9.]+) %", loaded.text)
    assert found is not None
    assert said is not None
    assert found.top1 == float(said[1])
    arms = {(False, True): "baseline", (True, True): "init", (False, False): "kd", (True, False): "both"}
    assert recipe.claims.row == arms[recipe.init.rule != "none", vars(recipe.distill)["alpha"] == 0]
