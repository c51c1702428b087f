"""Flipped bits, odd recipes and odd image folders: read or refused, never worse, and no damage taken for the whole."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def test_odd_inputs_are_read_or_refused(pytestconfig: pytest.Config, tmp_path: Path) -> None:
    count = pytestconfig.getoption("--fuzz")
    program = Path(__file__).with_name("fuzzing_inputs.py")
    words = [sys.executable, str(program), str(tmp_path), str(count), "0"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=180 + count)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    shown = "\n\n".join(f"{fault['kind']} {fault['number']}\n{fault['fault']}" for fault in found["faults"][:5])
    assert not found["faults"], f"{len(found['faults'])} of {count}:\n{shown}"
    # Neither outcome may be all there is, or the damage was none, or was all of one sort.
    for kind, cases in found["cases"].items():
        assert 0 < found["refused"][kind] < cases, kind
