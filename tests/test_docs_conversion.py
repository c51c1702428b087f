"""What docs/conversion.md says: its commands are recipes that load, its rules are those that there are."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import get_args

import pytest

from idsnn_cli.architecture import Neuron, Reset, Start
from idsnn_cli.recipe import load_recipe, split_words
from idsnn_cli.rules import choices

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "conversion.md").read_text(encoding="utf-8")
COMMANDS = [
    shlex.split(line.split("  #")[0].split("     #")[0])
    for line in re.sub(r"\\\n\s+", " ", TEXT).splitlines()
    if line.startswith("    idsnn run ")
]


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words[2:4]))
def test_its_runs_are_recipes_that_convert(words: list[str]) -> None:
    name, overrides = split_words(words[2:])
    assert name is not None
    recipe = load_recipe(name, overrides).recipe
    assert (recipe.distill.epochs, recipe.init.convert) != (0, "none")


def test_there_is_a_row_for_each_rule_and_a_word_for_each_neuron() -> None:
    assert len(COMMANDS) >= 2
    for rule in choices("convert")[1:]:
        assert f"| `{rule}` |" in TEXT
    for word in get_args(Reset):
        assert f"student.reset={word}:" in TEXT
    assert all(f"({word})" in TEXT for word in get_args(Start))


def test_a_start_is_what_it_says() -> None:
    """U(-1) = theta / 2 and U(0) = decay U(-1) + X(0)."""
    assert "U(0) = decay U(-1) + X(0)" in TEXT
    assert Neuron(0.6, 0.5, start="half").first_potential == pytest.approx(0.5 * 0.6 / 2)
