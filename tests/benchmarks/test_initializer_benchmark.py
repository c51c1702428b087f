"""The initializer's benchmark works, and says what the bars are about."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


def test_the_benchmark_runs_in_a_tiny_form() -> None:
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, str(ROOT / "benchmarks" / "initializer.py"), "--tiny", "--json", "--rounds", "1"]
    environment = os.environ | {"PYTHONPATH": paths}
    done = subprocess.run(
        [*command, "--threads", "1"], capture_output=True, text=True, check=False, cwd=ROOT, env=environment
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert (found["source"], found["target"], found["threads"]) == ("resnet50", "spiking-resnet18", 1)
    assert found["seconds"].keys() == {"ours", "plain"}
    assert found["ours_over_plain"] == found["seconds"]["ours"] / found["seconds"]["plain"] > 0
    assert 0 < found["bytes_read"] < found["bytes_written"]
    assert found["peak_beyond_both"] == found["peak_bytes"] - found["bytes_read"] - found["bytes_written"]
