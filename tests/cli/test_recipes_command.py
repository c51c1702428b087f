from __future__ import annotations

from pathlib import Path

import pytest
from invoking import invoke

from idsnn_cli.recipe import load_recipe, shipped
from idsnn_cli.recipe.library import root

Capture = pytest.CaptureFixture[str]
NAMES = [recipe.name for recipe in shipped()]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


def test_the_list_has_every_recipe_with_purpose_and_command(capsys: Capture) -> None:
    found = invoke(capsys, "recipes")
    assert found.code == 0
    assert {"quickstart", "smoke-cifar", "cifar10", "cifar100"} <= set(NAMES)
    rows = [line.split()[0] for line in found.out.splitlines()[1:] if not line.startswith(" ")]
    assert rows == NAMES
    flat = " ".join(found.out.split())
    for recipe in shipped():
        assert recipe.purpose.split()[0] in flat
        assert recipe.purpose.split()[-1] in flat
    assert [line for line in found.out.splitlines() if len(line) > 80] == []
    assert "idsnn recipes show" in found.err
    assert invoke(capsys, "recipes", "--quiet").err == ""


def test_the_list_as_json(capsys: Capture) -> None:
    document = invoke(capsys, "recipes", "--json").document
    assert document["command"] == "recipes"
    assert [each["name"] for each in document["recipes"]] == NAMES
    for each in document["recipes"]:
        assert set(each) == {"name", "purpose", "command"}
        assert all(each.values())


@pytest.mark.parametrize("name", NAMES)
def test_show_prints_the_file_byte_for_byte(capsys: Capture, name: str) -> None:
    assert invoke(capsys, "recipes", "show", name).out == (root() / f"{name}.yaml").read_text()


@pytest.mark.parametrize("words", [("show", "cifar10", "--json"), ("--json", "show", "cifar10")])
def test_json_may_stand_before_or_behind_show(capsys: Capture, words: tuple[str, ...]) -> None:
    document = invoke(capsys, "recipes", *words).document
    assert document == {
        "command": "recipes show",
        "name": "cifar10",
        "text": (root() / "cifar10.yaml").read_text(),
    }


@pytest.mark.parametrize("words", [("show", "cifar1000"), ("cp", "cifar1000", "x.yaml")])
def test_an_unknown_name_exits_with_2_and_the_near_match(capsys: Capture, words: tuple[str, ...]) -> None:
    found = invoke(capsys, "recipes", *words)
    assert found.code == 2
    assert "cifar100'" in found.err
    assert found.out == ""
    assert not Path("x.yaml").exists()


@pytest.mark.parametrize("destination", ["mine.yaml", "new/mine.yaml", "new/"])
def test_cp_writes_a_recipe_that_can_be_loaded(capsys: Capture, destination: str) -> None:
    found = invoke(capsys, "recipes", "cp", "cifar10", destination)
    assert found.code == 0
    written = Path(destination) / "cifar10.yaml" if destination.endswith("/") else Path(destination)
    assert written.read_text() == (root() / "cifar10.yaml").read_text()
    assert str(written) in found.out
    # It extends a recipe that ships, which is found from any folder.
    assert load_recipe(str(written)).recipe == load_recipe("cifar10").recipe
    assert f"idsnn run {written}" in found.err


def test_cp_as_json(capsys: Capture) -> None:
    document = invoke(capsys, "recipes", "cp", "quickstart", "q.yaml", "--json").document
    assert document == {"command": "recipes cp", "name": "quickstart", "path": "q.yaml"}


def test_cp_names_a_file_without_suffix_as_run_takes_it(capsys: Capture) -> None:
    assert "idsnn run ./mine" in invoke(capsys, "recipes", "cp", "quickstart", "mine").err


def test_cp_never_overwrites(capsys: Capture) -> None:
    Path("mine.yaml").write_text("seed: 1\n")
    found = invoke(capsys, "recipes", "cp", "quickstart", "mine.yaml", "--json")
    assert found.code == 2
    assert "mine.yaml" in found.document["error"]["message"]
    assert Path("mine.yaml").read_text() == "seed: 1\n"
