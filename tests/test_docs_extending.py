"""docs/extending.md: each example adds one file or two to a copy of the package, and its commands use what it added."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from documents import DOCS, ROOT, Block, blocks, exchanges

PAGE = (DOCS / "extending.md").read_text(encoding="utf-8")
START, *EXAMPLES = re.split(r"^## ", PAGE, flags=re.MULTILINE)
TITLES = [example.partition("\n")[0] for example in EXAMPLES]
_NEW = re.compile(r"# (idsnn_cli/\S+\.py)$")
_CHANGED = re.compile(r"--- (idsnn_cli/\S+\.py)$")


def test_every_kind_of_addition_has_its_example() -> None:
    wanted = ["surrogate", "mapping rule", "option of init", "loss", "measure", "data set", "network family"]
    wanted += ["naming table", "export format", "step of a run", "place of published networks", "tracker"]
    assert [title.split(" ", 1)[1] for title in TITLES] == wanted


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the small run that the page begins with."""
    folder = tmp_path_factory.mktemp("desk")
    follow(START, ROOT, folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES, ids=TITLES)
def test_the_example_works_from_its_files_alone(example: str, desk: Path, tmp_path: Path) -> None:
    for part in ("idsnn_cli", "recipes"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    touched = [name for block in blocks(example) if (name := place(block, tmp_path, desk)) is not None]
    assert 1 <= len(set(touched)) <= 2
    follow(example, tmp_path, desk)


def place(block: Block, house: Path, desk: Path) -> str | None:
    """Add a block to the package, or put it on the desk; the file of the package that it is, if it is one."""
    new, changed = _NEW.match(block.lines[0]), _CHANGED.match(block.lines[0])
    if block.file is not None:
        (desk / block.file).write_text(block.text, encoding="utf-8")
    elif new is not None:
        assert not (house / new[1]).exists()
        (house / new[1]).write_text(block.text, encoding="utf-8")
        return new[1]
    elif changed is not None:
        text = (house / changed[1]).read_text(encoding="utf-8")
        old = "".join(f"{line[1:]}\n" for line in block.lines[1:] if not line.startswith("+"))
        assert text.count(old) == 1, f"{changed[1]} has the lines {text.count(old)} times"
        now = "".join(f"{line[1:]}\n" for line in block.lines[1:] if not line.startswith("-"))
        (house / changed[1]).write_text(text.replace(old, now), encoding="utf-8")
        return changed[1]
    return None


def follow(text: str, house: Path, desk: Path) -> None:
    """Type the sessions of ``text`` in the folder ``desk``, with the package of ``house``."""
    for block in blocks(text):
        for exchange in exchanges(block) if block.kind == "console" else ():
            program, *words = exchange.words
            command = [sys.executable, *(["-m", "idsnn_cli"] if program == "idsnn" else []), *words]
            environment = {**os.environ, "PYTHONPATH": str(house), "COLUMNS": "200"}
            done = subprocess.run(command, cwd=desk, env=environment, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
            for line in exchange.shown:
                assert line.strip(". ") in done.stdout, done.stdout
