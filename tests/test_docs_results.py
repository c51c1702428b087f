"""What docs/results.md says of near-lossless students, time step by time step, is what was measured."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from documents import table_rows

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
RAW = json.loads((ROOT / "benchmarks" / "results" / "lossless.json").read_text(encoding="utf-8"))


def lists_in(value: Any) -> Iterator[list[float]]:
    """Every list of numbers, however deep."""
    if isinstance(value, dict):
        for each in value.values():
            yield from lists_in(each)
    elif isinstance(value, list):
        if value and all(isinstance(each, float | int) for each in value):
            yield value
        for each in value:
            yield from lists_in(each)


def test_accuracies_by_time_step_are_those_measured() -> None:
    measured = {tuple(round(each, 2) for each in found) for found in lists_in(RAW)}
    cells = [cell for row in table_rows(PAGE) for cell in row if re.fullmatch(r"\S+ / \S+ / \S+ / \S+", cell)]
    said = [tuple(float(each.strip("*")) for each in cell.split(" / ")) for cell in cells]
    assert len(said) > 10
    assert [each for each in said if each not in measured] == []


def test_accuracies_at_more_steps_are_those_measured() -> None:
    beyond = {tuple(run["student_top1_by_step"]): run["beyond_top1_by_step"] for run in RAW["full"]}
    rows = [row for row in table_rows(PAGE) if len(row) == 7 and row[0].startswith("12 + 9")]
    assert len(rows) == 2
    for row in rows:
        found = beyond[tuple(float(each.strip("*")) for each in row[3].split(" / "))]
        assert (float(row[4]), float(row[5])) == (found[5], found[7])


def test_how_far_training_and_measuring_differ_is_as_measured() -> None:
    arms = [*RAW["spiking_choices"]["arms"], *RAW["blocks"]["arms"], *RAW["full"]]
    trained = [arm["distill"][-1]["test_top1"] for arm in arms]
    measured = [(arm.get("top1_by_step") or arm["student_top1_by_step"])[-1] for arm in arms]
    for run in RAW["choices"]["runs"]:
        trained.append(run["epochs"]["distill"][-1]["test_top1"])
        measured.append(next(row["top1"] for row in run["results"] if row["name"] == "student"))
    apart = [one - other for one, other in zip(measured, trained, strict=True)]
    assert f"between {-min(apart):.1f} points lower and {max(apart):.1f} higher" in " ".join(PAGE.split())
