"""Scripts that run idsnn's own steps end what it expects to fail in its words, as the command does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("images.py", ("--folder", "none")),
        ("studies.py", ("--teacher", "t.th", "--same-size", "s.th", "--data-root", "none")),
        ("lossless.py", ("--teacher", "t.th", "--source", "s.th", "--data-root", "none")),
        ("initialisation.py", ("--teacher", "t.th", "--data-root", "none", "--output", "found.jsonl")),
    ],
)
def test_what_was_expected_to_fail_ends_in_words(tmp_path: Path, script: str, words: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, SCRIPTS / script, *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode in (1, 2), done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("Error: ")
    assert not list(tmp_path.rglob("*.safetensors"))
