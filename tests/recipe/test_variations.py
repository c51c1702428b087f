"""The runs of a grid: which there are, what they are called, and what they share."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from idsnn_cli.errors import RecipeError, UsageError
from idsnn_cli.recipe import Cell, load_recipe, make_cells
from idsnn_cli.recipe.variations import split_values


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    path = tmp_path / "a.yaml"
    path.write_text("data: {dataset: digits}\nseed: 7\n")
    return str(path)


def names(cells: list[Cell]) -> list[str]:
    return [cell.name for cell in cells]


def test_every_value_meets_every_other_and_each_seed_comes_whole(recipe: str) -> None:
    cells = make_cells(recipe, [], "0,1", ["distill.alpha=0,0.3", "student.timesteps=2,4,6"])
    expected = itertools.product((0, 1), (0, 0.3), (2, 4, 6))
    recipes = [cell.loaded.recipe for cell in cells]
    found = [(each.seed, vars(each.distill)["alpha"], each.student.timesteps) for each in recipes]
    assert found == list(expected)
    assert names(cells)[0] == "distill.alpha=0,student.timesteps=2,seed=0"
    assert len(set(names(cells))) == 12


def test_seeds_leave_the_images_and_the_teacher_with_the_recipes_seed(recipe: str) -> None:
    for cell in make_cells(recipe, [], "0,1", []):
        assert (cell.loaded.recipe.data_seed, cell.loaded.recipe.teacher_seed) == (7, 7)
        # What a cell is can be typed as a recipe and overrides.
        assert load_recipe(recipe, cell.overrides).recipe == cell.loaded.recipe
    kept = make_cells(recipe, ["teacher.seed=3"], "0,1", [])
    assert [(c.loaded.recipe.data_seed, c.loaded.recipe.teacher_seed) for c in kept] == [(7, 3)] * 2


def test_a_varied_seed_draws_everything_anew(recipe: str) -> None:
    cells = make_cells(recipe, [], None, ["seed=0,1"])
    assert [(c.loaded.recipe.data_seed, c.loaded.recipe.teacher_seed) for c in cells] == [(0, 0), (1, 1)]


def test_names_are_safe_for_a_folder_and_stay_apart(recipe: str) -> None:
    lists = make_cells(recipe, [], None, ["distill.milestones=[1,2],[1, 2, 3]", "distill.schedule=step"])
    assert [cell.loaded.recipe.distill.milestones for cell in lists] == [(1, 2), (1, 2, 3)]
    paths = make_cells(recipe, [], None, ["init.source=a/b.pth,a-b.pth"])
    for cell in [*lists, *paths]:
        assert set(cell.name) <= set("abcdefghijklmnopqrstuvwxyz0123456789.,=-_")
    assert len(set(names(lists))) == len(set(names(paths))) == 2


def test_values_end_at_commas_outside_brackets_and_quotes() -> None:
    assert split_values("0,0.3") == ["0", "0.3"]
    assert split_values("[1,2],{a: [3,4]},'x,y'") == ["[1,2]", "{a: [3,4]}", "'x,y'"]


@pytest.mark.parametrize(
    ("overrides", "seeds", "vary", "words"),
    [
        ([], "0,x", [], "--seeds is given"),
        ([], "", [], "--seeds is given"),
        ([], "0,00", [], "same run"),
        ([], None, ["distill.alpha=0.3,0.30"], "same run"),
        ([], None, ["distill.alpha=0.3,"], "empty value"),
        ([], None, ["distill.alpha"], "not an override"),
        ([], None, ["distill.alpha=1", "distill.alpha=2"], "given twice"),
        (["distill.alpha=1"], None, ["distill.alpha=1,2"], "both an override and varied"),
        (["seed=1"], "0,1", [], "both say the seed"),
        ([], "0,1", ["seed=1,2"], "both say the seed"),
    ],
)
def test_what_makes_no_grid_is_refused(
    recipe: str, overrides: list[str], seeds: str | None, vary: list[str], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        make_cells(recipe, overrides, seeds, vary)


def test_a_wrong_value_is_a_fault_of_the_recipe(recipe: str) -> None:
    with pytest.raises(RecipeError, match=r"distill\.alpha"):
        make_cells(recipe, [], None, ["distill.alpha=0,much"])
