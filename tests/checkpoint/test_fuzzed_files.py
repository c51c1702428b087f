"""Damaged files of every kind, through what ``inspect``, ``eval`` and ``init`` call: read or refused, never worse."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

MOST_MEMORY = 200_000_000  # beyond the file's own size


@pytest.mark.skipif(sys.platform != "linux", reason="a process's peak memory is read from /proc")
def test_damaged_files_are_read_or_refused(pytestconfig: pytest.Config, tmp_path: Path) -> None:
    count = pytestconfig.getoption("--fuzz")
    program = Path(__file__).parents[1] / "fuzzing.py"
    words = [sys.executable, "-W", "error", str(program), str(tmp_path), str(count), "0"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120 + count / 10)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    shown = "\n\n".join(f"{fault['kind']} {fault['number']}\n{fault['fault']}" for fault in found["faults"][:5])
    assert not found["faults"], f"{len(found['faults'])} of {count}:\n{shown}"
    assert found["growth"] <= MOST_MEMORY
    assert sum(found["cases"].values()) == count
    # Neither kind of outcome may be all there is, or the damage was none, or was all of one sort.
    for kind, cases in found["cases"].items():
        assert cases / 2 < found["refused"][kind] < cases, kind
