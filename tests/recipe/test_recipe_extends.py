"""Recipes that extend others."""

from __future__ import annotations

from pathlib import Path

import pytest

from idsnn_cli.errors import RecipeError
from idsnn_cli.recipe import load_recipe


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def message_of(path: Path, *overrides: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, overrides)
    return caught.value.message.splitlines()


def test_mappings_merge_lists_are_replaced_and_the_file_wins(tmp_path: Path) -> None:
    write(tmp_path, "parts/a.yaml", "extends: b.yaml\ndistill: {alpha: 0.1, schedule: step, milestones: [1, 2, 3]}\n")
    write(tmp_path, "parts/b.yaml", "data: {dataset: cifar100, augment: {crop: 2, flip: false}}\nseed: 5\n")
    write(tmp_path, "c.yml", "distill: {alpha: 0.7, temperature: 2}\n")
    text = "extends: [parts/a.yaml, ./c.yml]\ndata: {augment: {crop: 0}}\ndistill: {milestones: [9]}\n"
    loaded = load_recipe(write(tmp_path, "top.yaml", text))
    recipe = loaded.recipe
    assert (recipe.data.dataset, recipe.data.augment.crop, recipe.data.augment.flip) == ("cifar100", 0, False)
    distill = vars(recipe.distill)
    assert (distill["alpha"], distill["temperature"], distill["milestones"]) == (0.7, 2.0, (9,))
    assert (recipe.seed, loaded.text, loaded.name) == (5, text, "top")


def test_two_children_may_share_a_parent(tmp_path: Path) -> None:
    write(tmp_path, "base.yaml", "data: {dataset: digits}\n")
    write(tmp_path, "a.yaml", "extends: base.yaml\n")
    write(tmp_path, "b.yaml", "extends: base.yaml\nseed: 4\n")
    assert load_recipe(write(tmp_path, "c.yaml", "extends: [a.yaml, b.yaml]\n")).recipe.seed == 4


def test_a_bare_name_is_a_recipe_that_ships(tmp_path: Path) -> None:
    path = write(tmp_path, "mine.yaml", "extends: cifar100\nstudent: {timesteps: 6}\n")
    recipe = load_recipe(path).recipe
    assert (recipe.student.timesteps, recipe.distill.step_every) == (6, 60)
    faults = message_of(write(tmp_path, "typo.yaml", "seed: 1\nextends: cifar1000\n"))
    assert len(faults) == 1
    assert faults[0].startswith(f"{tmp_path / 'typo.yaml'}:2:10: extends: given cifar1000; no recipe is called")
    assert "Did you mean 'cifar100'?" in faults[0]


def test_a_fault_stands_in_the_file_that_wrote_it(tmp_path: Path) -> None:
    base = write(tmp_path, "base.yaml", "data:\n  dataset: digits\ndistill:\n  lr: -1\n  momentun: 0.5\n")
    top = write(tmp_path, "top.yaml", "extends: base.yaml\ndistill:\n  alpha: -2\n  schedule: steps\n")
    faults = message_of(top, "distill.lr=-3")
    assert [line.split(": ")[0] for line in faults] == [
        f"{base}:5:3",
        f"{top}:3:10",
        f"{top}:4:13",
        "override 'distill.lr=-3'",
    ]


def test_a_conflict_between_two_files_names_the_key_that_caused_it(tmp_path: Path) -> None:
    write(tmp_path, "base.yaml", "data: {dataset: digits}\ndistill: {epochs: 3}\n")
    top = write(tmp_path, "top.yaml", "extends: base.yaml\ndistill:\n  schedule: step\n")
    assert message_of(top)[0].startswith(f"{top}:3:3: distill: schedule step needs")
    fault = message_of(write(tmp_path, "x.yaml", "extends: base.yaml\n"), "distill.warmup_epochs=5")[0]
    assert fault == "override 'distill.warmup_epochs=5': distill: warmup_epochs 5 leaves nothing of 3 epochs."


def test_a_cycle_is_shown_as_a_chain(tmp_path: Path) -> None:
    a = write(tmp_path, "a.yaml", "extends: b.yaml\n")
    b = write(tmp_path, "b.yaml", "seed: 1\nextends: c.yaml\n")
    c = write(tmp_path, "c.yaml", "extends: ./a.yaml\n")
    assert message_of(a) == [f"{c}:1:10: extends: goes round in a circle: {a} -> {b} -> {c} -> {a}"]
    own = write(tmp_path, "own.yaml", "extends: own.yaml\ndata: {dataset: digits}\n")
    assert message_of(own) == [f"{own}:1:10: extends: goes round in a circle: {own} -> {own}"]


def test_a_chain_without_end_is_refused(tmp_path: Path) -> None:
    for i in range(40):
        write(tmp_path, f"{i}.yaml", f"extends: {i + 1}.yaml\n")
    assert "a chain of more than 32 files" in message_of(tmp_path / "0.yaml")[0]


def test_missing_parents_are_located_beside_the_other_faults(tmp_path: Path) -> None:
    top = write(tmp_path, "top.yaml", "extends: [no.yaml, 3, sub/../no2.yml]\nseed: -1\n")
    faults = message_of(top)
    assert faults == [
        f"{top}:1:11: extends: given no.yaml; {tmp_path / 'no.yaml'}: there is no such file",
        f"{top}:1:20: extends: given 3; allowed a file, or a list of files",
        f"{top}:1:23: extends: given sub/../no2.yml; {tmp_path / 'no2.yml'}: there is no such file",
        f"{top}:2:7: seed: given -1; allowed an integer of 0 or more and below 9223372036854775808.",
    ]


def test_a_broken_parent_is_reported_in_the_parent(tmp_path: Path) -> None:
    base = write(tmp_path, "base.yaml", "data: [\n")
    top = write(tmp_path, "top.yaml", "extends: base.yaml\n")
    (fault,) = message_of(top)
    assert fault.startswith(f"{base}:2:1: not YAML")
