"""Scripts that run idsnn's own steps end what it expects to fail in its words, as the command does."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

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


def test_an_interrupt_ends_it_without_a_traceback() -> None:
    program = (
        f"import sys, time; sys.path.insert(0, {str(SCRIPTS)!r}); from ending import to_the_end\n"
        "to_the_end(lambda: (print('begun', flush=True), time.sleep(60)))"
    )
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", program], **pipes) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
    assert (process.returncode, said) == (130, "")
