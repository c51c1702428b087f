"""Words of a command line: which is the recipe, which are overrides, and what overrides do."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from idsnn_cli.errors import RecipeError, UsageError
from idsnn_cli.recipe import load_recipe, split_words
from idsnn_cli.recipe.schema import MeanStd


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "r.yaml"
    path.write_text("data:\n  dataset: cifar10\n  augment: {crop: 2, flip: false}\ndistill: {epochs: 3}\n")
    return path


def test_words_are_told_apart_by_their_form() -> None:
    words = ["seed=3", "cifar10", "data.augment.crop=0", "data.root=a=b/c"]
    assert split_words(words) == ("cifar10", ["seed=3", "data.augment.crop=0", "data.root=a=b/c"])
    assert split_words(["runs/lr=0.1/recipe.yaml"]) == ("runs/lr=0.1/recipe.yaml", [])
    assert split_words([]) == (None, [])
    # Of two the later wins, which load_recipe sees to.
    assert split_words(["seed=3", "seed=4"]) == (None, ["seed=3", "seed=4"])
    assert load_recipe("quickstart", ["seed=3", "seed=4"]).recipe.seed == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["cifar10", "cifar100"], "two recipes are given: 'cifar10' and 'cifar100'"),
        ([""], "RECIPE is empty"),
        (["=3"], "is not an override"),
        (["distill..alpha=3"], "is not an override"),
        (["distill.alpha.=3"], "is not an override"),
        (["--alpha=3"], "is not an override"),
        (["distill.alpha ="], "is not an override"),
        ([".".join("a" * 50) + "=1"], "is not an override"),
        (["distill.alpha="], "gives no value"),
        (["extends=x.yaml"], "extends cannot be given"),
        (["alpha=3"], "names no section. Did you mean 'pretrain.alpha' or 'distill.alpha'?"),
        (["epochs=3"], "Did you mean 'teacher.epochs' or 'pretrain.epochs' or 'distill.epochs'?"),
        (["sead=3"], "Did you mean 'seed'?"),
        (["data={}"], "names no section"),
    ],
)
def test_malformed_words_are_wrong_usage(words: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        split_words(words)
    assert message in caught.value.message
    assert caught.value.exit_code == 2
    assert caught.value.fix


def test_values_are_yaml(path: Path) -> None:
    overrides = [
        "seed=7",
        "data.augment.crop=0",
        "data.normalise={mean: [0.5, 0.5, 0.5], std: [1, 1, 1]}",
        "data.root='a b'",
        "distill.schedule=step",
        "distill.milestones=[1, 2]",
        "distill.weight_decay=5e-4",
        "distill.clip_norm=1.",
        "distill.alpha=0.1",
        "distill.alpha=0.2",
        "student.width=null",
    ]
    recipe = load_recipe(path, overrides).recipe
    assert recipe.seed == 7
    assert (recipe.data.augment.crop, recipe.data.augment.flip) == (0, False)
    assert recipe.data.normalise == MeanStd(mean=(0.5, 0.5, 0.5), std=(1, 1, 1))
    assert recipe.data.root == Path("a b")
    assert (recipe.distill.milestones, recipe.distill.epochs) == ((1, 2), 3)
    assert (recipe.distill.weight_decay, recipe.distill.clip_norm, vars(recipe.distill)["alpha"]) == (5e-4, 1.0, 0.2)
    assert recipe.student.width is None


def test_an_override_may_repair_or_complete_a_file(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("distill: {lr: -1}\n")
    recipe = load_recipe(path, ["distill.lr=0.1", "data.dataset=digits"]).recipe
    assert (recipe.distill.lr, recipe.data.dataset) == (0.1, "digits")


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("distill.alpha=__import__('os')", "distill.alpha: given __import__('os'); allowed a number of 0 or more."),
        ("distill.alpha=1+1", "distill.alpha: given 1+1; allowed a number of 0 or more."),
        ("distill.alpha=!!python/name:os.system", "tag !!python/name:os.system is refused"),
        ("distill.epochs=3.5", "distill.epochs: given 3.5; allowed an integer of 0 or more."),
        ("distill.epochs=true", "distill.epochs: given true; allowed an integer of 0 or more."),
        ("distill.epochs='3'", 'distill.epochs: given "3"; allowed an integer of 0 or more.'),
        ("distill.alhpa=1", "distill.alhpa: unknown key, given 1; allowed "),
        ("distil.alpha=1", "Did you mean 'distill'?"),
        ("data.agument.crop=1", "Did you mean 'augment'?"),
        ("student.alpha=1", "'alpha' is a key of pretrain and of distill."),
        ("distill.epochs.x=1", "distill.epochs: given {"),
        ("distill.schedule=[", "distill.schedule: not YAML"),
        ("distill.schedule=a: b", "distill.schedule: a value is a scalar"),
        ("distill.schedule=- b", "distill.schedule: "),
        ("distill.schedule=*x", "*x names no anchor above it"),
        ("distill.schedule=step\nseed: 3", "a line break cannot stand"),
        ("distill.schedule=\udc80", "character U+DC80 cannot stand"),
        ("distill.augment={a: 1, a: 2}", "'a' stands twice"),
    ],
)
def test_a_wrong_override_is_named_in_place_of_a_line(path: Path, word: str, text: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, [word])
    assert text in caught.value.message
    assert caught.value.message.startswith("override '")
    assert word.isprintable() is False or f"override '{word}': " in caught.value.message


@pytest.mark.slow
@settings(deadline=None, derandomize=True, max_examples=300)
@given(
    key=st.sampled_from(["distill.alpha", "data.normalise", "seed", "student.arch", "runtime.device"]) | st.text(),
    value=st.text(max_size=20) | st.text(alphabet="[]{}:,&*!|>'\"%@`#?-~. \\xu0", max_size=12),
)
def test_random_overrides_give_a_recipe_or_a_typed_error(key: str, value: str) -> None:
    with contextlib.suppress(RecipeError, UsageError):
        load_recipe("quickstart", [f"{key}={value}"])
