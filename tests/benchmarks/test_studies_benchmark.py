"""The studies: every arm is a recipe, and a run is trained once, described, and set against the baseline."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from study_options import study_options

from idsnn_cli.recipe import load_recipe

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import studies  # beside the package, not in it

TINY = ("data.subset=20", "data.validation=20", "data.test_subset=20", "distill.epochs=1", "teacher.arch=resnet20")


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    options = study_options(tmp_path, ("teacher", "same-size"), shortcut="pad")
    return options + [word for override in TINY for word in ("--override", override)]


def test_every_arm_is_a_recipe_and_no_two_are_alike(words: list[str]) -> None:
    options = studies.parse(words[: -2 * len(TINY)])
    places = studies.places(options)
    recipes = [load_recipe(studies.RECIPE, studies.overrides(options, place)).recipe for place in places]
    assert len({recipe.model_dump_json() for recipe in recipes}) == len(places)
    assert {recipe.seed for recipe in recipes} == {3}
    # One teacher and one choice of images for all.
    assert {(recipe.teacher_seed, recipe.data_seed) for recipe in recipes} == {(0, 0)}
    by_arm = {arm: recipe for (_, arm, _), recipe in zip(places, recipes, strict=True)}
    assert {vars(by_arm[arm].distill)["alpha"] for arm in ("init", "baseline")} == {0}
    assert {by_arm[arm].init.rule for arm in ("kd", "baseline")} == {"none"}
    assert len({studies.folder_of(options, place) for place in places}) == len(places)


@pytest.mark.slow
def test_a_run_is_trained_once_and_set_against_the_baseline(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    studies.main([*words, "--study", "arms", "--arm", "baseline"])
    student = tmp_path / "work" / "arms" / "baseline" / "seed=3" / "student.safetensors"
    before = student.stat()
    studies.main([*words, "--study", "source"])
    studies.main([*words, "--study", "arms", "--arm", "baseline"])
    assert student.stat() == before
    documents = json.loads((tmp_path / "found.json").read_text())
    assert list(documents) == ["arms", "source"]
    best = documents["arms"]["networks"][0]["best"]
    assert [document["targets"][0]["top1"] for document in documents.values()] == [best, best]
    assert [arm["name"] for arm in documents["source"]["arms"]] == ["both, same-size source"]
    assert "| both, same-size source | 1 | 4 |" in capsys.readouterr().out


# What docs/results.md says of the choices is what the preset has.
ADOPTED = ("best start", "sigmoid", "weight decay 5e-4, none on BN and biases", "AutoAugment and Cutout")
LEFT_OUT = (
    "learning rate 0.1",
    "theta 1, decay 0.5",
    "loss on every step",
    "alpha 1",
    "triangle",
    "threshold balancing",
)


@pytest.mark.parametrize("name", ADOPTED)
def test_the_preset_modern_has_the_choices_that_it_claims(name: str) -> None:
    words = studies.CHOICES[name]
    assert load_recipe("presets/modern", words).recipe == load_recipe("presets/modern").recipe
    assert load_recipe("presets/paper", words).recipe != load_recipe("presets/paper").recipe


def test_the_preset_modern_leaves_out_what_was_worse() -> None:
    modern, paper = (load_recipe(f"presets/{name}").recipe for name in ("modern", "paper"))
    for name in LEFT_OUT:
        for word in studies.CHOICES[name]:
            section, key = word.partition("=")[0].split(".")
            if key != "surrogate":
                assert getattr(getattr(modern, section), key) == getattr(getattr(paper, section), key), word
    assert (modern.distill.schedule, modern.pretrain.epochs > 0) == ("cosine", True)
    # Nothing is chosen on test images, and each student's shape, data and length are the paper's.
    assert (modern.data.select, paper.data.select) == ("validation", "test")
    for key in ("arch", "timesteps", "v_threshold", "decay", "shortcut"):
        assert getattr(modern.student, key) == getattr(paper.student, key)
    assert modern.distill.epochs == paper.distill.epochs
