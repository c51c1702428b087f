"""Where output goes: full disks, closed streams, terminals of few letters, and text that a terminal would obey."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from invoking import invoke

from idsnn_cli.cli.console import Console
from idsnn_cli.errors import UsageError
from idsnn_cli.figures import LineChart, Plot, ResultTable, Series
from idsnn_cli.report.evaluation import page as evaluation_page
from idsnn_cli.report.html.charts import draw_file
from idsnn_cli.report.html.markup import escaped, make_page
from idsnn_cli.report.runs import page as runs_page
from idsnn_cli.text import visible, well_formed

Capture = pytest.CaptureFixture[str]


def command(*words: str, stdout: str | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    shell = f'exec "{sys.executable}" -m idsnn_cli {" ".join(words)}' + (f" {stdout}" if stdout else "")
    return subprocess.run(["bash", "-c", shell], capture_output=True, text=True, env={**os.environ, **env}, check=False)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full on this system")
@pytest.mark.parametrize("words", ["recipes", "recipes --json", "--help", "recipes show quickstart"])
def test_a_full_disk_is_one_error(words: str) -> None:
    done = command(words, stdout="> /dev/full")
    assert done.returncode == 1
    assert "no space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_a_closed_stdout_is_no_error() -> None:
    done = command("recipes", stdout=">&-")
    assert done.returncode == 0
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_terminal_of_few_letters_gets_signs_in_their_place() -> None:
    ascii_only = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0"}
    done = command("recipes show quickstart", **ascii_only)
    assert done.returncode == 0, done.stderr
    missing = command("run", "n\u00f6.yaml", **ascii_only)
    assert missing.returncode == 2
    assert "Traceback" not in missing.stderr


def test_text_of_others_is_shown_and_not_obeyed(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "net.pth"
    torch.save({"\x1b[31mevil\u202e.weight": torch.ones(2), "[red]x[/red]": torch.ones(2)}, path)
    shown = invoke(capsys, "inspect", path)
    assert "\x1b" not in shown.out + shown.err
    assert "\u202e" not in shown.out + shown.err


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, ähm, 日本\n\tx", "plain, ähm, 日本\n\tx"),
        ("a\x1b[0mb", "a\\x1b[0mb"),
        ("a\u202eb", "a\\u202eb"),
        ("\ud800", "\\ud800"),
        ("\x00\x7f\x9b", "\\x00\\x7f\\x9b"),
        ("a\u00a0b", "a\u00a0b"),
        ("\U000e0001", "\\U000e0001"),
    ],
)
def test_what_a_terminal_would_obey_is_written_out(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert visible(shown) == shown


EVIL = "a\x1b[31mb\u202ec\ud800d\x00e\x9bf\u2066g\r\x08h"
FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def test_one_filter_stands_before_every_way_out(capsys: Capture) -> None:
    chart = LineChart("c", EVIL, EVIL, EVIL, (Series(EVIL, 0, ((0, 1), (1, 2))),), level=(1, EVIL), dots=True)
    ways = {
        "chart": draw_file(Plot(EVIL, EVIL, (chart, chart), ((0, EVIL),))),
        "text of a page": escaped(EVIL),
        "page": make_page("runs.html", EVIL, {EVIL: [EVIL]}, styles=(), notes="", legend="", charts="", tables=""),
        "markdown of an evaluation": evaluation_page._table(ResultTable("m", EVIL, (EVIL,), ((EVIL,),), (EVIL,))),
        "markdown of runs": runs_page._inline(EVIL),
    }
    console = Console()
    console.say(EVIL)
    console.line(EVIL)
    console.note(EVIL)
    console.table([EVIL], [[EVIL]], EVIL)
    console.error(UsageError(EVIL, EVIL))
    printed = capsys.readouterr()
    ways |= {"stdout": printed.out, "stderr": printed.err}
    Console(as_json=True).document({EVIL: {EVIL: [EVIL, 1, None]}})
    ways["document"] = capsys.readouterr().out
    assert {way: FORBIDDEN.findall(text) for way, text in ways.items()} == {way: [] for way in ways}
    # A document's text is what it was, but for the half of a character.
    whole = EVIL.replace("\ud800", "\\ud800")
    assert json.loads(ways["document"]) == {whole: {whole: [whole, 1, None]}}
    ElementTree.fromstring(ways["chart"])


def test_what_is_well_formed_stays_as_it_is() -> None:
    document = {"a": [1, 2.5, None, True, "ä日\U0001f600\x1b"], "b": {"c": "x"}}
    assert well_formed(document) == document
    assert well_formed(["\udcff", ("\ud83d",)]) == ["\\udcff", ["\\ud83d"]]


@pytest.mark.parametrize(
    "words",
    [
        ["\x1b[31mx"],
        ["run", "--\u202ex"],
        ["--\u202ex"],
        ["\u202ex"],
        ["export", "--format"],
        ["inspect", "--num-classes", "\u202e", "x"],
        ["run", "quickstart", "--\x1b[31m=1"],
    ],
)
def test_wrong_words_are_shown_and_not_obeyed(capsys: Capture, words: list[str]) -> None:
    for json_too in ([], ["--json"]):
        refused = invoke(capsys, *words, *json_too)
        assert refused.code == 2
        assert FORBIDDEN.findall(refused.out + refused.err) == []
