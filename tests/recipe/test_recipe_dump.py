"""Resolved recipes: every default written, read back equal, and compared key by key."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from idsnn_cli.recipe import (
    Recipe,
    changed_keys,
    changes,
    dump_portable,
    dump_resolved,
    load_recipe,
    recipe_from_mapping,
    shipped,
)
from idsnn_cli.recipe.fields import model_of

positive = st.floats(min_value=1e-300, max_value=1e300)
# Characters that a recipe may hold: no controls, no lone surrogates.
words = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=12).filter(
    lambda text: not set(text) & {"\ufffe", "\uffff"}
)
odd = [
    "null",
    "~",
    "true",
    "1e-3",
    "0x1f",
    "#a",
    "[x]",
    "*a",
    "&a",
    "!t",
    ".nan",
    "...",
    "---",
    "%Y",
    "<<",
    "\U0001d6fc",
]
spaced = ["a: b", "a #b", " a", "a ", "a\nb", "a\tb", "\u2028", "\x85", "9" * 80]
tricky = st.sampled_from([*odd, *spaced, *"-?'\"@`,=\\"])


@pytest.mark.slow
@settings(deadline=None, derandomize=True, max_examples=150)
@given(
    root=st.none() | words | tricky,
    mean=st.none() | st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=3, max_size=3),
    validation=st.none() | st.integers(1, 10**6) | st.floats(1e-9, 0.999),
    lr=positive,
    milestones=st.none() | st.lists(st.integers(1, 300), min_size=1, max_size=4, unique=True).map(sorted),
    decay=st.none() | st.floats(0, 1),
    seed=st.integers(0, 2**63 - 1),
)
def test_a_dumped_recipe_loads_back_equal(
    tmp_path_factory: pytest.TempPathFactory,
    root: str | None,
    mean: list[float] | None,
    validation: float | None,
    lr: float,
    milestones: list[int] | None,
    decay: float | None,
    seed: int,
) -> None:
    normalise = "auto" if mean is None else {"mean": mean, "std": [lr, 1, 2]}
    plain = {
        "data": {"dataset": "cifar10", "root": root, "validation": validation, "normalise": normalise},
        "student": {"decay": decay},
        "distill": {"lr": lr, "schedule": "step" if milestones else "constant", "milestones": milestones},
        "seed": seed,
    }
    recipe = recipe_from_mapping(plain, origin="t")
    text = dump_resolved(recipe)
    path = tmp_path_factory.getbasetemp() / "resolved.yaml"
    path.write_text(text, encoding="utf-8", newline="")
    loaded = load_recipe(path).recipe
    assert loaded == recipe
    assert dump_resolved(loaded) == text


def test_every_default_is_written() -> None:
    text = dump_resolved(load_recipe("smoke-cifar").recipe)
    keys = [line.strip().partition(":")[0] for line in text.splitlines()]
    models: list[type[BaseModel]] = [Recipe]
    models += [part for field in Recipe.model_fields.values() if (part := model_of(field.annotation))]
    for model in models:
        assert set(model.model_fields) <= set(keys)
    assert "\n  weight_decay: 0.0001\n" in text


@pytest.mark.parametrize("name", [recipe.name for recipe in shipped()])
def test_every_shipped_recipe_survives_the_round_trip(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name).recipe
    path = tmp_path / "resolved.yaml"
    path.write_text(dump_resolved(recipe))
    assert load_recipe(path).recipe == recipe


def test_changes_name_the_keys_and_both_values() -> None:
    old = load_recipe("cifar100").recipe.model_dump(mode="json")
    overrides = ["distill.alpha=0.5", "data.augment.crop=0", "seed=1", "data.normalise=auto"]
    new = load_recipe("cifar100", overrides).recipe.model_dump(mode="json")
    assert changed_keys(old, old) == []
    assert changed_keys(old, new) == ["data.normalise", "data.augment.crop", "distill.alpha", "seed"]
    assert [str(change) for change in changes(old, new)] == [
        "data.normalise: cifar100 -> auto",
        "data.augment.crop: 4 -> 0",
        "distill.alpha: 0.3 -> 0.5",
        "seed: 0 -> 1",
    ]


def test_changes_see_keys_of_one_side_and_lists() -> None:
    old = {"a": {"b": [1, 2]}, "gone": None}
    new = {"a": {"b": [1, 3], "c": "x y"}}
    assert [str(change) for change in changes(old, new)] == [
        "a.b: [1, 2] -> [1, 3]",
        "gone: null -> absent",
        'a.c: absent -> "x y"',
    ]


def test_what_names_files_of_one_machine_is_left_out_and_listed() -> None:
    shards = {"train": "/mine/train-{000..009}.tar", "test": "/mine/test.tar", "classes": "/mine/names.txt"}
    data = {"dataset": "webdataset", "root": "/mine", "shards": shards}
    recipe = recipe_from_mapping({"data": data, "teacher": {"arch": "resnet18"}}, origin="a test")
    first, _, rest = dump_portable(recipe).partition("\n")
    left_out = "data.root, data.shards.train, data.shards.test, data.shards.classes"
    assert first == f"# Left out, for they name files of one machine: {left_out}."
    assert "/mine" not in rest
