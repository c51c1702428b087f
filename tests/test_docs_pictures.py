"""The pictures of the documentation are what the code draws today, and docs/architecture.md names files that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from documents import DOCS, ROOT
from house import FLOORS
from invoking import invoke
from pictures import COMMANDS, HOUSE, LAYER_MAP, direct_imports, draw_house, draw_layer_map, save_source

ANEW = "run `python tests/pictures.py`"
PAGE = DOCS / "architecture.md"
# A path in code: with a slash, or a module of the package's root; `losses/` is a folder.
_PATH = re.compile(r"`((?:[\w.-]+/)+(?:[\w-]+\.\w+)?)`")


def test_the_house_is_drawn_from_its_floors_and_imports() -> None:
    assert HOUSE.read_text(encoding="utf-8") == draw_house(), ANEW


def test_every_part_stands_in_the_picture_and_an_import_that_others_imply_does_not() -> None:
    text = HOUSE.read_text(encoding="utf-8")
    assert all(f">{part}</text>" in text for floor in FLOORS for part in floor)
    imports = direct_imports()
    assert ("cli", "pipeline") in imports
    assert ("cli", "errors") not in imports


@pytest.mark.slow
def test_the_layer_map_is_what_inspect_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    save_source(tmp_path)
    for words in COMMANDS:
        outcome = invoke(capsys, *words.split())
        assert outcome.code == 0, outcome.err
    assert LAYER_MAP.read_text(encoding="utf-8") == draw_layer_map(outcome.document), ANEW


def test_the_page_names_files_that_exist() -> None:
    """Paths are from the package's folder, or from the repository's where they begin with one of its folders."""
    found = set(_PATH.findall(PAGE.read_text(encoding="utf-8")))
    assert len(found) > 30
    gone = [path for path in sorted(found) if not any((root / path).exists() for root in (ROOT / "idsnn_cli", ROOT))]
    assert gone == [], "docs/architecture.md names files that are not there"


def test_the_page_describes_every_part() -> None:
    text = PAGE.read_text(encoding="utf-8")
    missing = [part for floor in FLOORS for part in floor if f"`{part}" not in text and part != "__main__"]
    assert missing == []
