"""The reference pages against the code, both ways: every option of every command, every key of a recipe, every link."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from documents import DOCS, FRONT, PAGES, ROOT, name, table_rows
from pydantic import BaseModel
from ruamel.yaml import YAML

from idsnn_cli.architecture import ann_names, spiking_names
from idsnn_cli.cli.main import app
from idsnn_cli.recipe.fields import allowed, annotation_at
from idsnn_cli.recipe.nodes import render
from idsnn_cli.recipe.schema import Recipe
from idsnn_cli.registry import entries
from idsnn_cli.spiking.surrogates import Surrogate
from idsnn_cli.version import __version__

GROUP: Any = typer.main.get_command(app)
COMMANDS = sorted(GROUP.commands)
_OPTION = re.compile(r"`(-[^`]+)`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(#[^)]*)?\)")


def options_of(command: Any) -> dict[str, str | None]:
    """The options of a command and of those under it, each with the word for its value.

    That word is empty for a switch, and None where the parser makes it of the type. ``--help`` is on the index.
    """
    found: dict[str, str | None] = {}
    for parameter in command.params:
        if parameter.param_type_name == "option" and "--help" not in parameter.opts:
            found |= dict.fromkeys(parameter.opts, "" if parameter.is_flag else parameter.metavar)
    for each in getattr(command, "commands", {}).values():
        found |= options_of(each)
    return found


def options_on(page: Path) -> dict[str, str]:
    """What stands in the first column of the page's tables: each option, and the word for its value."""
    rows = table_rows(page.read_text(encoding="utf-8"))
    spelled = [option.replace("\\|", "|").partition(" ") for row in rows for option in _OPTION.findall(row[0])]
    return {option: value for option, _, value in spelled}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_commands_page_has_its_options_and_no_others(command: str) -> None:
    page = DOCS / "commands" / f"{command}.md"
    assert page.exists(), f"docs/commands/{command}.md is missing: every command has a page"
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"# idsnn {command}\n")
    written, there = options_on(page), options_of(GROUP.commands[command])
    missing, gone = sorted(there.keys() - written.keys()), sorted(written.keys() - there.keys())
    assert not missing, f"{name(page)} does not describe {', '.join(missing)}"
    assert not gone, f"{name(page)} describes what the command does not take: {', '.join(gone)}"
    values = {option: value for option, value in there.items() if value is not None}
    assert {option: written[option] for option in values} == values
    assert all(len(row) == 2 and row[1] for row in table_rows(text) if _OPTION.match(row[0])), "an option has no words"
    assert "## Exit codes" in text


def test_every_page_of_a_command_is_of_one_that_there_is() -> None:
    pages = {page.stem for page in (DOCS / "commands").glob("*.md")} - {"README"}
    assert pages == set(COMMANDS)


def keys_of(model: type[BaseModel], before: tuple[str, ...] = ()) -> Iterator[tuple[str, str, str]]:
    """Key, what it takes and its default, as a row of docs/recipes.md says them."""
    for key, field in model.model_fields.items():
        path = (*before, key)
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from keys_of(kind, path)
            continue
        default = "required" if field.is_required() else f"`{shown(field.get_default())}`"
        yield f"`{'.'.join(path)}`", allowed(annotation_at(path)).replace(str(2**63), "2^63"), default


def shown(value: Any) -> str:
    return f"[{', '.join(map(shown, value))}]" if isinstance(value, tuple) else render(value)


def test_the_page_of_recipes_has_every_key_with_its_type_and_default() -> None:
    page = DOCS / "recipes.md"
    text = page.read_text(encoding="utf-8")
    written = {row[0]: row for row in table_rows(text) if re.fullmatch(r"`[a-z_.]+`", row[0]) and len(row) == 4}
    rows = {key: (key, takes, default) for key, takes, default in keys_of(Recipe)}
    missing = [f"| {' | '.join(rows[key])} | ... |" for key in rows if key not in written]
    assert not missing, "docs/recipes.md lacks these rows:\n" + "\n".join(missing)
    gone = sorted(written.keys() - rows.keys())
    assert not gone, f"docs/recipes.md describes keys that a recipe does not have: {', '.join(gone)}"
    wrong = [f"| {' | '.join(rows[key])} | ... |" for key in rows if written[key][:3] != rows[key]]
    assert not wrong, "these rows of docs/recipes.md must begin:\n" + "\n".join(wrong)
    assert all(row[3] for row in written.values())
    assert list(written) == list(rows), "the keys stand in another order than in the models"


def test_sections_within_sections_are_rows_of_their_own_and_choices_are_one_row() -> None:
    rows = {key: (takes, default) for key, takes, default in keys_of(Recipe)}
    within = [key for key in rows if key.startswith("`data.augment")]
    keys = ("scale", "ratio", "crop", "flip", "autoaugment", "cutout", "eventdrop")
    assert within == [f"`data.augment.{key}`" for key in keys]
    assert rows["`data.dataset`"] == (
        "one of cifar10, cifar100, cifar10dvs, digits, dvsgesture, events, folder, nmnist, npz, webdataset",
        "required",
    )
    assert rows["`student.timesteps`"] == ("an integer from 1 to 1024", "`4`")
    assert rows["`data.normalise`"][0].endswith("or a mapping with the keys mean, std")


def test_the_names_of_networks_and_the_scales_of_surrogates_are_all_there() -> None:
    text = (DOCS / "recipes.md").read_text(encoding="utf-8")
    assert all(f"`{each}`" in text for each in (*ann_names(), *spiking_names()))
    found = entries("idsnn_cli.spiking.surrogates", Surrogate)
    assert ", ".join(f"{word} {each.default:g}" for word, each in found.items()) in text


def test_the_figures_of_choosing_are_those_of_the_benchmark() -> None:
    benchmark = table_rows((ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8"))
    measured = {(row[0], *(cell.partition(" ")[0] for cell in (row[2], row[4]))) for row in benchmark if len(row) == 5}
    cited = [
        row
        for row in table_rows((DOCS / "choosing.md").read_text(encoding="utf-8"))
        if re.fullmatch(r"\d+\.\d", row[-1])
    ]
    assert len(cited) > 20
    assert [row for row in cited if row not in measured] == []


@pytest.mark.parametrize("page", [*PAGES, *FRONT], ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target, place in _LINK.findall(text):
        if "://" in target:
            continue
        path = (page.parent / target).resolve()
        assert path.exists(), f"{name(page)} links {target}"
        if place:
            assert place[1:] in anchors(path), f"{name(page)} links {target}{place}"


def anchors(page: Path) -> set[str]:
    """What GitHub makes of the page's headings."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def test_the_index_links_every_page() -> None:
    index = DOCS / "README.md"
    linked = {(index.parent / target).resolve() for target, _ in _LINK.findall(index.read_text(encoding="utf-8"))}
    assert {page for page in PAGES if page != index} <= linked
    assert (index.parent.relative_to(ROOT) / "README.md").as_posix() in (ROOT / "README.md").read_text()


def test_the_front_page_is_short_and_its_table_has_every_command() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    rows = [row[0] for row in table_rows(text) if row[0].startswith("`idsnn ")]
    assert {row.split()[1].strip("`") for row in rows} == set(COMMANDS)


def test_the_figures_of_the_front_page_are_those_of_the_results() -> None:
    rows = [row for row in table_rows((ROOT / "README.md").read_text(encoding="utf-8")) if row[-1].count(" ± ")]
    assert len(rows) == 4
    measured = {row[-2:] for row in table_rows((DOCS / "results.md").read_text(encoding="utf-8"))}
    assert [row for row in rows if row[-2:] not in measured] == []


def test_what_is_cited_is_this_version_and_the_paper() -> None:
    cited = YAML(typ="safe", pure=True).load(ROOT / "CITATION.cff")
    assert cited["version"] == __version__
    (paper,) = cited["references"]
    assert f"doi.org/{paper['doi']}" in (DOCS / "method.md").read_text(encoding="utf-8")
    assert f"## [{__version__}] - {cited['date-released']}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
