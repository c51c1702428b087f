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
from documents import DOCS, FRONT, PAGES, Block, Exchange, blocks, exchanges, name, unrun_commands
from invoking import Outcome, invoke

from idsnn_cli.cli.main import app
from idsnn_cli.errors import IdsnnError
from idsnn_cli.recipe import make_cells, shipped, split_words
from idsnn_cli.recipe.fields import annotation_at
from idsnn_cli.recipe.overrides import is_override, parse_override

START = DOCS / "commands" / "README.md"
# The examples of docs/extending.md are for a package that they change: test_docs_extending.py.
READ = [page for page in PAGES if page.name != "extending.md"]
SESSIONS = [page for page in READ if any(block.kind == "console" for block in blocks(page.read_text()))]
ON_THEIR_OWN = [page for page in SESSIONS if page.parent != START.parent]
AFTER_THE_START = [page for page in SESSIONS if page.parent == START.parent and page != START]
NAMES = {recipe.name for recipe in shipped()}
_NUMBER = re.compile(r"[-+]?\d[\d,]*(\.\d+)?")
# What typer raises for words that it cannot parse; it names none of the classes above this one itself.
WrongWords: type[Exception] = typer.BadParameter.__mro__[1]
Capture = pytest.CaptureFixture[str]
# What would be done, and not only parsed.
EAGER = ("-h", "--help", "--version", "--install-completion", "--show-completion")


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
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)  # the pages show what a CPU prints
    monkeypatch.chdir(tmp_path)
    return lambda page: Reader(capsys, page).follow()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the pages of commands begin with; the first test to need it fills it."""
    return tmp_path_factory.mktemp("start") / "folder"


@pytest.mark.slow
@pytest.mark.parametrize("page", ON_THEIR_OWN, ids=name)
def test_a_page_can_be_followed(page: Path, read: Callable[[Path], None]) -> None:
    read(page)


@pytest.mark.slow
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


@pytest.mark.parametrize("page", [*PAGES, *FRONT], ids=name)
def test_what_is_not_run_is_parsed(page: Path) -> None:
    found = unrun_commands(page.read_text(encoding="utf-8"))
    faults = [
        (f"{name(page)}, line {line}, idsnn {' '.join(words)}", fault(words, whole)) for line, words, whole in found
    ]
    assert [each for each in faults if each[1] is not None] == []


def fault(words: tuple[str, ...], whole: bool = True) -> str | None:
    """Why the command line or the recipe would not take ``words``: the command's own parser decides, nothing is run.

    Of what is not a ``whole`` command only the names are checked: the command's and those of its options.
    """
    command: Any = typer.main.get_command(app)
    rest = [word for word in words if word not in EAGER]
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        if rest[0] not in command.commands:
            return f"there is no command {rest[0]}"
        command, rest = command.commands[rest[0]], rest[1:]
    if not whole:
        known = {option for parameter in command.params for option in parameter.opts}
        unknown = [word for word in rest if word.startswith("-") and word.partition("=")[0] not in known]
        return f"{command.name} has no {', '.join(unknown)}" if unknown else None
    if not rest:
        return None
    try:
        given = command.make_context(command.name, rest).params
    except WrongWords as wrong:
        return str(wrong)
    return wrong_override(command.name, given)


def wrong_override(command: str, given: dict[str, Any]) -> str | None:
    """Why a recipe would not take the overrides: all of a recipe that ships, the keys of any other."""
    overrides = [word for word in given.get("words") or () if is_override(word)]
    vary = list(given.get("vary") or ())
    try:
        recipe = None if command == "inspect" else split_words(given.get("words") or ())[0]
        if recipe is not None and (recipe in NAMES or not re.search(r"/|\.yaml$", recipe)):
            make_cells(recipe, overrides, given.get("seeds"), vary)
        keys = {parse_override(word).keys for word in (*overrides, *vary)}
    except IdsnnError as error:
        return str(error)
    unknown = [".".join(key) for key in keys if annotation_at(key) is None]
    return f"a recipe has no {', '.join(unknown)}" if unknown else None


def test_the_reader_sees_what_is_missing() -> None:
    printed = "distill 1/2  loss 4.02  top-1 -3.0 %\nteacher: runs/a.safetensors (top-1 9 %)\n"
    assert unseen(("distill 7/9 loss 1.00 top-1 +12.5 %", "...", "teacher: ... (top-1 85 %)"), printed) == []
    assert unseen(("distill 1/2  lost 4.02  top-1 -3.0 %",), printed) == ["distill 1/2  lost 4.02  top-1 -3.0 %"]


@pytest.mark.parametrize(
    "line",
    [
        "run quickstart --seds 1",
        "rum quickstart",
        "run quikstart",
        "eval --timesteps two",
        "recipes list",
        "run quickstart distill.alhpa=1",
        "run quickstart distill.alpha=much",
        "run mine.yaml student.arhc=resnet18",
        "run quickstart --vary distill.alpha=0,much",
        "init --from a.pth --arch spiking-resnet18 -o b.safetensors student.widht=8",
    ],
)
def test_a_wrong_command_is_found(line: str) -> None:
    assert fault(tuple(line.split()))


def test_in_a_sentence_names_are_enough() -> None:
    assert fault(("init", "--from"), whole=False) is None
    assert fault(("init", "--form"), whole=False)
    assert fault(("innit",), whole=False)
