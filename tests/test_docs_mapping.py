"""The rows about mapping options on the pages are what is said of the options and rules in the code, word for word."""

from __future__ import annotations

from pathlib import Path

import pytest
from documents import DOCS, table_rows

from idsnn_cli import rulebook
from idsnn_cli.cli.options import KEYS
from idsnn_cli.recipe.schema import Init
from idsnn_cli.rules import OF_RULES, OPTIONS, choices, help_line, page_words


def row(page: Path, first: str) -> tuple[str, ...]:
    found = [each for each in table_rows(page.read_text(encoding="utf-8")) if each[0] == first]
    assert len(found) == 1, f"{page.name} has {len(found)} rows of {first}"
    return found[0]


@pytest.mark.parametrize("page", ["init", "inspect"])
def test_a_commands_page_says_what_its_help_says(page: str) -> None:
    for key in KEYS:
        first = f"`--{key.replace('_', '-')} {OPTIONS[key].metavar}`"
        words = help_line(key)
        assert row(DOCS / "commands" / f"{page}.md", first)[1] == words, f"the row must be | {first} | {words} |"


def test_the_page_of_recipes_says_what_each_rule_does() -> None:
    for key in OPTIONS:
        words = page_words(key)
        assert row(DOCS / "recipes.md", f"`init.{key}`")[3] == words, f"the row of init.{key} must end | {words} |"


def test_every_key_of_the_section_is_described_and_every_choice_is_named() -> None:
    assert set(Init.model_fields) == set(OPTIONS)
    for key in OF_RULES:
        assert all(f"`{choice}`" in help_line(key) for choice in choices(key)), key
        for rule in rulebook.rules(key) if OF_RULES[key].choices else ():
            assert rule.words, f"{rule} has no words"
