"""The studies of near-lossless students: every arm is a recipe, and an arm takes over what it does not change."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foreign_networks import save_torchvision

from idsnn_cli.architecture import build_description
from idsnn_cli.recipe import load_recipe

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import lossless  # beside the package, not in it

# Random networks do not show how they read images, as trained ones do.
TINY = ("data.subset=20", "data.test_subset=20", "pretrain.epochs=1", "distill.epochs=1", "teacher.normalise=imagenet")


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """Options for a random ResNet-20 and 40 images of noise."""
    drawn = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for part in ("train", "test"):
        arrays[f"{part}_images"] = drawn.integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
        arrays[f"{part}_labels"] = np.arange(40, dtype=np.int64) % 10
    np.savez(tmp_path / "cifar10.npz", **arrays)
    save_torchvision(tmp_path / "public.pth", build_description("resnet20", 10, width=16))
    given = {
        "source": tmp_path / "public.pth",
        "teacher": tmp_path / "public.pth",
        "data-root": tmp_path,
        "seeds": 3,
        "work": tmp_path / "work",
        "json": tmp_path / "lossless.json",
    }
    return [word for key, value in given.items() for word in (f"--{key}", str(value))]


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
    arms = ["the preset", "distill.alpha=1", "pretrain.levels=8"]
    asked = [*words, *tiny, "--study", "choices", *(word for arm in arms for word in ("--arm", arm))]
    lossless.main(asked)
    folders = [tmp_path / "work" / "choices" / name / "seed=3" for name in ("the-preset", "distill.alpha=1")]
    other = tmp_path / "work" / "choices" / "pretrain.levels=8" / "seed=3"
    files = [folder / "pretrain.safetensors" for folder in (*folders, other)]
    assert files[0].samefile(files[1])
    assert files[0].read_bytes() != files[2].read_bytes()
    assert (other / "teacher.safetensors").samefile(folders[0] / "teacher.safetensors")
    before = [path.stat() for path in files]
    lossless.main(asked)
    assert [path.stat() for path in files] == before
    runs = json.loads((tmp_path / "lossless.json").read_text())
    assert [(run["study"], run["arm"], run["seed"]) for run in runs] == [("choices", arm, 3) for arm in arms]
    for run in runs:
        student = next(row for row in run["results"] if row["name"] == "student")
        assert len(student["top1_by_step"]) == 4
        assert [len(run["epochs"][step]) for step in ("pretrain", "distill")] == [1, 1]
    out = capsys.readouterr().out
    assert all(f"| choices | {arm} | 3 | " in out for arm in arms)
