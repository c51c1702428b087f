"""The pages for people do what they say: their sessions are run as they stand, their other commands are parsed."""

from __future__ import annotations

import re
import runpy
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import typer
from documents import DOCS, PAGES, ROOT, Block, Exchange, blocks, exchanges, name, unrun_commands
from invoking import Outcome, invoke

from idsnn_cli.cli.main import app
from idsnn_cli.errors import IdsnnError
from idsnn_cli.recipe import load_recipe, shipped, split_words
from idsnn_cli.recipe.fields import annotation_at
from idsnn_cli.recipe.overrides import is_override, parse_override

START = DOCS / "commands" / "README.md"
SESSIONS = [page for page in PAGES if any(block.kind == "console" for block in blocks(page.read_text()))]
ON_THEIR_OWN = [page for page in SESSIONS if page.parent != START.parent]
AFTER_THE_START = [page for page in SESSIONS if page.parent == START.parent and page != START]
_NUMBER = re.compile(r"[-+]?\d[\d,]*(\.\d+)?")
Capture = pytest.CaptureFixture[str]


@dataclass
class Reader:
    """Someone who types what a page says, in one folder, and looks at what is printed."""

    capsys: Capture
    page: Path
    names: dict[str, Any] = field(default_factory=dict)

    def follow(self) -> None:
        for block in blocks(self.page.read_text(encoding="utf-8")):
            if block.file is not None:
                Path(block.file).write_text(block.text, encoding="utf-8")
            elif block.kind == "python":
                exec(compile(block.text, f"{name(self.page)}:{block.line}", "exec"), self.names)
            elif block.kind == "console":
                self._type(block)

    def _type(self, block: Block) -> None:
        for exchange in exchanges(block):
            where = f"{name(self.page)}, line {exchange.line}, {' '.join(exchange.words)}"
            outcome = self._run(exchange, where)
            fails = any(line.startswith("Error: ") for line in exchange.shown)
            assert (outcome.code != 0) == fails, f"{where}: exit {outcome.code}\n{outcome.out}{outcome.err}"
            missing = unseen(exchange.shown, outcome.out + "\n" + outcome.err)
            assert missing == [], f"{where}: prints no such line\n{outcome.out}{outcome.err}"

    def _run(self, exchange: Exchange, where: str) -> Outcome:
        program, *words = exchange.words
        if program == "idsnn":
            return invoke(self.capsys, *words)
        assert (program, len(words)) == ("python", 1), f"{where}: only idsnn and python FILE are run (else: text)"
        self.capsys.readouterr()
        runpy.run_path(words[0], run_name="__main__")
        printed = self.capsys.readouterr()
        return Outcome(0, printed.out, printed.err)


def unseen(shown: tuple[str, ...], printed: str) -> list[str]:
    """The lines of ``shown`` that are not in ``printed``, numbers and spaces aside; ``...`` stands for anything."""
    lines = {plain(line) for line in printed.splitlines()}
    wanted = [line for line in shown if line.strip() not in ("", "...")]
    return [line for line in wanted if not any(_pattern(line).fullmatch(each) for each in lines)]


def plain(line: str) -> str:
    return _NUMBER.sub("#", " ".join(line.split()))


def _pattern(line: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(plain(part)).strip() for part in line.split("...")))


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> Callable[[Path], None]:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(tmp_path)
    return lambda page: Reader(capsys, page).follow()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the pages of commands begin with; the first that needs it fills it by reading their first page."""
    return tmp_path_factory.mktemp("start") / "folder"


@pytest.mark.parametrize("page", ON_THEIR_OWN, ids=name)
def test_a_page_can_be_followed(page: Path, read: Callable[[Path], None]) -> None:
    read(page)


@pytest.mark.parametrize("page", [START, *AFTER_THE_START], ids=name)
def test_a_commands_page_can_be_followed_after_the_first(
    page: Path, read: Callable[[Path], None], shared: Path, tmp_path: Path
) -> None:
    if shared.exists():
        shutil.copytree(shared, tmp_path, dirs_exist_ok=True)
    else:
        read(START)
        shutil.copytree(tmp_path, shared)
    if page != START:
        read(page)


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=name)
def test_what_is_not_run_is_parsed(page: Path) -> None:
    faults = []
    for line, words, whole in unrun_commands(page.read_text(encoding="utf-8")):
        fault = parsed(words) or (wrong_override(words) if whole else None)
        if fault is not None:
            faults.append(f"{name(page)}, line {line}, idsnn {' '.join(words)}: {fault}")
    assert faults == []


def parsed(words: tuple[str, ...]) -> str | None:
    """Why the command line would not take ``words``, by its own parser; nothing is run."""
    group: Any = typer.main.get_command(app)
    command, rest = group, [word for word in words if word not in ("-h", "--help", "--version")]
    while rest and rest[0] in getattr(command, "commands", {}):
        command, rest = command.commands[rest[0]], rest[1:]
    if not rest or command is group and "..." in rest:
        return None
    try:
        command.make_context(command.name, rest)
    except typer.BadParameter.__mro__[1] as wrong:
        return str(wrong)
    return None


def wrong_override(words: tuple[str, ...]) -> str | None:
    """Why the recipe would not take the overrides among ``words``: all of them where it ships, else their keys."""
    chosen = [word for word in words[1:] if is_override(word) and not word.startswith("-")]
    named = [word for word in words[1:] if word in {recipe.name for recipe in shipped()}]
    try:
        if named and words[0] not in ("recipes", "report", "inspect"):
            load_recipe(*split_words([named[0], *(word for word in chosen if word.partition("=")[0].islower())]))
        unknown = [word for word in chosen if annotation_at(parse_override(word).keys) is None]
    except IdsnnError as error:
        return str(error)
    return f"no such key: {', '.join(unknown)}" if unknown and not unknown[0].startswith("KEY") else None


def test_the_reader_sees_what_is_missing() -> None:
    printed = "distill 1/2  loss 4.02  top-1 -3.0 %\nteacher: runs/a.safetensors (top-1 9 %)\n"
    assert unseen(("distill 7/9 loss 1.00 top-1 +12.5 %", "...", "teacher: ... (top-1 85 %)"), printed) == []
    assert unseen(("distill 1/2  lost 4.02  top-1 -3.0 %",), printed) == ["distill 1/2  lost 4.02  top-1 -3.0 %"]


@pytest.mark.parametrize("words", [("run", "quickstart", "--seds", "1"), ("rum", "x"), ("eval", "--timesteps", "two")])
def test_a_wrong_command_is_found(words: tuple[str, ...]) -> None:
    assert parsed(words)


@pytest.mark.parametrize("word", ["distill.alhpa=1", "distill.alpha=much", "student.arch=resnet18"])
def test_a_wrong_override_is_found(word: str) -> None:
    assert wrong_override(("run", "quickstart", word))
