"""Where output goes: full disks, closed streams, terminals of few letters, and text that a terminal would obey."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from invoking import invoke

from idsnn_cli.text import visible

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
