"""The studies of near-lossless students: every arm is a recipe, and an arm takes over what it does not change."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from study_options import study_options

from idsnn_cli.recipe import load_recipe

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import lossless  # beside the package, not in it

# Random networks do not show how they read images, as trained ones do.
TINY = ("data.subset=20", "data.test_subset=20", "pretrain.epochs=1", "distill.epochs=1", "teacher.normalise=imagenet")


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    return study_options(tmp_path, ("source", "teacher"), width=16)


def test_every_arm_is_a_recipe_and_no_two_of_a_study_are_alike(words: list[str]) -> None:
    options = lossless.parse(words)
    for study, arms in lossless.STUDIES.items():
        recipes = {
            name: load_recipe(arm.recipe, lossless.overrides(options, arm, 3)).recipe for name, arm in arms.items()
        }
        assert len({recipe.model_dump_json() for recipe in recipes.values()}) == len(arms)
        assert {(recipe.seed, recipe.data_seed, recipe.teacher_seed) for recipe in recipes.values()} == {(3, 0, 0)}
        assert {recipe.student.arch for recipe in recipes.values()} == {"spiking-resnet20"}
        assert {recipe.data.dataset for recipe in recipes.values()} == {"cifar10"}
        assert len({lossless.folder_of(options, study, name, 3) for name in arms}) == len(arms)
    with pytest.raises(SystemExit):
        lossless.parse([*words, "--arm", "nothing of the kind"])


@pytest.mark.slow
def test_an_arm_takes_over_what_it_does_not_change(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = [word for override in TINY for word in ("--override", override)]
    arms = ["the preset", "distill.alpha=0.3", "pretrain.levels=8"]
    asked = [*words, *tiny, "--study", "choices", *(word for arm in arms for word in ("--arm", arm))]
    lossless.main(asked)
    folders = [tmp_path / "work" / "choices" / name / "seed=3" for name in ("the-preset", "distill.alpha=0.3")]
    other = tmp_path / "work" / "choices" / "pretrain.levels=8" / "seed=3"
    files = [folder / "pretrain.safetensors" for folder in (*folders, other)]
    assert files[0].samefile(files[1])
    assert files[0].read_bytes() != files[2].read_bytes()
    assert (other / "teacher.safetensors").samefile(folders[0] / "teacher.safetensors")
    before = [path.stat() for path in files]
    lossless.main(asked)
    assert [path.stat() for path in files] == before
    runs = json.loads((tmp_path / "found.json").read_text())
    assert [(run["study"], run["arm"], run["seed"]) for run in runs] == [("choices", arm, 3) for arm in arms]
    for run in runs:
        student = next(row for row in run["results"] if row["name"] == "student")
        assert len(student["top1_by_step"]) == 4
        assert [len(run["epochs"][step]) for step in ("pretrain", "distill")] == [1, 1]
    out = capsys.readouterr().out
    assert all(f"| choices | {arm} | 3 | " in out for arm in arms)
