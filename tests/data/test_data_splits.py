"""Class-balanced, seeded, independent choices of images."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from idsnn_cli.data.splits import balanced_counts, choose_splits, split_sizes
from idsnn_cli.errors import DataError
from idsnn_cli.recipe.schema import Data


def section(**keys: Any) -> Data:
    return Data.model_validate({"dataset": "digits", **keys})


def labels_of(*counts: int, seed: int = 0) -> torch.Tensor:
    """``counts[c]`` labels of class c, shuffled."""
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    return labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))]


def per_class(labels: torch.Tensor, rows: torch.Tensor, classes: int) -> list[int]:
    return torch.bincount(labels[rows], minlength=classes).tolist()


@settings(deadline=None, derandomize=True, max_examples=100)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=8), st.data())
def test_balanced_counts_fill_every_class_to_one_level(available: list[int], data: st.DataObject) -> None:
    total = data.draw(st.integers(0, sum(available)))
    counts = balanced_counts(torch.tensor(available), total).tolist()
    assert sum(counts) == total
    highest = max(counts)
    for count, most in zip(counts, available, strict=True):
        assert count <= most
        assert count == most or count >= highest - 1


def test_splits_are_balanced_disjoint_and_of_the_sizes_asked_for() -> None:
    labels = {"train": labels_of(*[40] * 10), "test": labels_of(*[20] * 10, seed=1)}
    rows = choose_splits(section(subset=123, validation=0.2, test_subset=55), labels, 10, seed=0)
    assert {split: part for split, (part, _) in rows.items()} == {
        "train": "train",
        "validation": "train",
        "test": "test",
    }
    chosen = {split: index for split, (_, index) in rows.items()}
    assert {split: len(index) for split, index in chosen.items()} == {"train": 123, "validation": 25, "test": 55}
    assert not set(chosen["train"].tolist()) & set(chosen["validation"].tolist())
    for split, index in chosen.items():
        counts = per_class(labels["test" if split == "test" else "train"], index, 10)
        assert max(counts) - min(counts) <= 1
        assert index.tolist() == sorted(set(index.tolist()))


def test_the_choices_do_not_move_each_other() -> None:
    labels = {"train": labels_of(*[30] * 5), "test": labels_of(*[10] * 5)}

    def choose(seed: int = 0, **keys: Any) -> dict[str, set[int]]:
        return {
            name: set(index.tolist()) for name, (_, index) in choose_splits(section(**keys), labels, 5, seed).items()
        }

    base = choose(subset=50, validation=20, test_subset=15)
    assert choose(subset=50, validation=20, test_subset=15) == base
    assert choose(subset=100, validation=20)["validation"] == base["validation"]
    assert choose(subset=10, test_subset=15)["test"] == base["test"]
    assert choose(subset=20, validation=20)["train"] < base["train"]
    other = choose(seed=1, subset=50, validation=20, test_subset=15)
    assert all(other[name] != base[name] for name in base)


def test_without_a_subset_everything_left_trains() -> None:
    labels = {"train": labels_of(7, 9), "test": labels_of(3, 3)}
    rows = choose_splits(section(validation=4), labels, 2, 0)
    together = torch.cat([rows["train"][1], rows["validation"][1]]).sort().values
    assert torch.equal(together, torch.arange(16))
    assert torch.equal(rows["test"][1], torch.arange(6))


def test_shipped_validation_images_serve_unless_a_number_is_given() -> None:
    labels = {"train": labels_of(8, 8), "validation": labels_of(3, 2), "test": labels_of(2, 2)}
    part, index = choose_splits(section(), labels, 2, 0)["validation"]
    assert (part, len(index)) == ("validation", 5)
    part, index = choose_splits(section(validation=4), labels, 2, 0)["validation"]
    assert (part, len(index)) == ("train", 4)


def test_a_rare_class_is_not_emptied_by_validation() -> None:
    labels = {"train": labels_of(100, 4, 1), "test": labels_of(1, 1, 1)}
    rows = choose_splits(section(validation=30), labels, 3, 0)
    assert per_class(labels["train"], rows["validation"][1], 3) == [28, 2, 0]
    assert min(per_class(labels["train"], rows["train"][1], 3)) == 1


@pytest.mark.parametrize(
    ("keys", "number"),
    [
        ({"subset": 101}, "100"),
        ({"subset": 91, "validation": 10}, "90"),
        ({"test_subset": 21}, "20"),
        ({"validation": 100}, "100"),
        ({"validation": 99}, "98"),
    ],
)
def test_more_than_there_is_says_how_much_there_is(keys: dict[str, int], number: str) -> None:
    labels = {"train": labels_of(50, 50), "test": labels_of(10, 10)}
    with pytest.raises(DataError) as caught:
        choose_splits(section(**keys), labels, 2, 0)
    assert caught.value.fix is not None
    assert number in caught.value.fix


def test_selecting_by_validation_needs_validation_images() -> None:
    asked = section(validation=0.5, select="validation")
    assert split_sizes(asked, {"train": 10, "test": 2})["validation"] == 5
    without = asked.model_copy(update={"validation": None})
    with pytest.raises(DataError, match="validation"):
        split_sizes(without, {"train": 10, "test": 2})
